package peek

import (
	"bytes"
	"strings"
)

// Request contains the parts of an HTTP request that a router needs. Its strings are copies.
type Request struct {
	// Host is the host as the client sent it: upper or lower case, perhaps with a port, perhaps
	// invalid. See NormalizeHost. It is "" if the error is ErrNoName.
	Host string

	// Method is the method of the request. A router needs the method to send an answer of its own:
	// the answer to HEAD has no body.
	Method string

	// Blank is the length in bytes of the empty lines before a request of HTTP/1. A server should
	// ignore these lines (RFC 9112 section 2.2), but some servers do not. So a router should not
	// pass them on.
	Blank int

	// Len is the length of the request head in bytes, with the empty lines before it. In HTTP/2, it
	// is the number of all bytes up to the end of the header block.
	Len int
}

// ParseHTTP1 parses the head of a request, the request line and the header fields, at the beginning
// of b. The head may have at most MaxBytes bytes. The error is nil, NeedMore, ErrNoName, or an
// *Error that wraps ErrNotHTTP, ErrTooLarge or ErrMalformed. ParseHTTP1 needs the whole head,
// because each later line could be a second Host field.
//
// The host is the host of an absolute request target ("GET http://a/ HTTP/1.1"), or the authority
// of a CONNECT. For other requests, it is the Host field (RFC 9112 section 3.3). For a request of
// HTTP/1.0 without Host, and for an empty Host, the error is ErrNoName.
//
// The error wraps ErrMalformed in these cases:
//
//   - two Host fields, even if they are equal;
//   - a Host field that differs from the host of the target;
//   - a request of HTTP/1.1 without Host, or a request of HTTP/0.9;
//   - a folded line, or white space before a colon or at the start of a line;
//   - a field name or method that is not a token, or a control character;
//   - user information in the target;
//   - a head in which some lines end in CRLF, and others in LF (RFC 9112 section 2.2).
//
// Up to 16 empty lines may come before the request line.
func ParseHTTP1(b []byte) (Request, error) {
	if p, err := Detect(b); err != nil && isNeedMore(err) {
		return Request{}, err
	} else if p != HTTP1 {
		return Request{}, &Error{Err: ErrNotHTTP, What: "request line", Offset: 0}
	}
	var s headScan
	return s.parse(b, MaxBytes)
}

// span is a part of the parsed bytes. It consists of two offsets instead of a slice, because the
// bytes may be in another array at the next call.
type span struct{ from, to int }

func (s span) in(b []byte) []byte { return b[s.from:s.to] }

// headScan parses the lines of a head. It remembers how far it has parsed, so it reads each line
// once, even if the bytes arrive one at a time.
type headScan struct {
	line     int // the offset of the line that is not complete
	searched int // the parser has found no line end before this offset
	lineEnd  int // the line end of the complete lines: 0 unknown, 1 LF, 2 CRLF
	blank    int // the length of the empty lines before the request line

	method    span
	authority span // the authority in the request target; empty if the target has none
	http10    bool // HTTP/1.0, which allows requests without Host
	host      span
	hosts     int
}

func (s *headScan) parse(b []byte, limit int) (Request, error) {
	in := b[:min(len(b), limit)]
	for {
		i := bytes.IndexByte(in[s.searched:], '\n')
		if i < 0 {
			if len(b) >= limit {
				return Request{}, tooLarge(limit, "request head")
			}
			s.searched = len(in)
			return Request{}, NeedMore(1)
		}
		// If the line has an error, or is the last one of the head, leave s as it was before this
		// line. So the next call parses the same line again, and returns the same result.
		next := *s
		done, err := next.parseLine(in, s.searched+i)
		if err != nil {
			return Request{}, err
		}
		if done {
			return s.result(in[:s.searched+i+1])
		}
		*s = next
	}
}

// parseLine parses the line that ends with the LF at offset lf. done reports whether this is the
// empty line that ends the head.
func (s *headScan) parseLine(b []byte, lf int) (done bool, err error) {
	line := span{s.line, lf}
	ending := 1
	if lf > s.line && b[lf-1] == '\r' {
		line.to--
		ending = 2
	}
	if s.lineEnd == 0 && line.from == line.to {
		s.blank, s.line, s.searched = lf+1, lf+1, lf+1
		return false, nil
	}
	if s.lineEnd != 0 && s.lineEnd != ending {
		return false, malformed(line.to, "line ends: both LF and CRLF")
	}
	first := s.lineEnd == 0
	s.lineEnd, s.line, s.searched = ending, lf+1, lf+1
	for i, c := range line.in(b) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false, malformed(line.from+i, "request head: control character")
		}
	}
	if first {
		return false, s.parseRequestLine(b, line)
	}
	if line.from == line.to {
		return true, nil
	}
	return false, s.parseField(b, line)
}

// parseRequestLine parses "method SP request-target SP HTTP/1.x" (RFC 9112 section 3).
func (s *headScan) parseRequestLine(b []byte, line span) error {
	text := line.in(b)
	space := bytes.IndexByte(text, ' ')
	last := bytes.LastIndexByte(text, ' ')
	if space <= 0 || last == space {
		return malformed(line.from, "request line: not three words")
	}
	s.method = span{line.from, line.from + space}
	for _, c := range s.method.in(b) {
		if !tokenByte(c) {
			return malformed(line.from, "method: not a token")
		}
	}
	version := text[last+1:]
	if len(version) != 8 || string(version[:7]) != "HTTP/1." || version[7] < '0' || version[7] > '9' {
		return malformed(line.from+last+1, "version: not HTTP/1.x")
	}
	s.http10 = version[7] == '0'
	target := span{line.from + space + 1, line.from + last}
	if bytes.ContainsAny(target.in(b), " \t") || target.from == target.to {
		return malformed(target.from, "request target: empty, or with white space")
	}
	return s.parseTarget(b, target)
}

// parseTarget finds the authority of a request target, in the four forms of RFC 9112 section 3.2.
func (s *headScan) parseTarget(b []byte, target span) error {
	text := target.in(b)
	switch {
	case string(s.method.in(b)) == "CONNECT":
		// authority-form: "host:port". NormalizeHost checks the host later.
		if bytes.IndexByte(text, ':') < 0 || bytes.ContainsAny(text, "/?#@\\") {
			return malformed(target.from, "CONNECT target: not host and port")
		}
		s.authority = target
		return nil
	case text[0] == '/' || string(text) == "*":
		return nil // origin-form, asterisk-form
	}
	scheme := bytes.Index(text, []byte("://"))
	if scheme <= 0 {
		return malformed(target.from, "request target: neither a path nor absolute")
	}
	for i, c := range text[:scheme] {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return malformed(target.from+i, "request target: bad scheme")
		}
	}
	s.authority.from = target.from + scheme + 3
	s.authority.to = target.to
	if end := bytes.IndexAny(text[scheme+3:], "/?#"); end >= 0 {
		s.authority.to = s.authority.from + end
	}
	switch authority := s.authority.in(b); {
	case len(authority) == 0:
		return malformed(s.authority.from, "request target: no host")
	case bytes.IndexByte(authority, '@') >= 0:
		return malformed(s.authority.from, "request target: user information") // RFC 9110 section 4.2.4
	}
	return nil
}

// parseField parses "name: value" (RFC 9112 section 5).
func (s *headScan) parseField(b []byte, line span) error {
	text := line.in(b)
	if text[0] == ' ' || text[0] == '\t' {
		return malformed(line.from, "header field: folded line")
	}
	colon := bytes.IndexByte(text, ':')
	if colon <= 0 {
		return malformed(line.from, "header field: no name")
	}
	name := text[:colon]
	for i, c := range name {
		if c == ' ' || c == '\t' {
			return malformed(line.from+i, "header field: white space in the name")
		}
		if !tokenByte(c) {
			return malformed(line.from+i, "header field: name is not a token")
		}
	}
	if !isHost(name) {
		return nil
	}
	if s.hosts++; s.hosts > 1 {
		return malformed(line.from, "Host: second one")
	}
	value := bytes.Trim(text[colon+1:], " \t")
	// skipped is the length of the white space before the value. The offset of the value depends on
	// it.
	skipped := len(text[colon+1:]) - len(bytes.TrimLeft(text[colon+1:], " \t"))
	s.host.from = line.from + colon + 1 + skipped
	s.host.to = s.host.from + len(value)
	return nil
}

// result returns the Request of a head that has been scanned completely. It checks the Host field
// and the host of the request target.
func (s *headScan) result(b []byte) (Request, error) {
	r := Request{Method: methodName(s.method.in(b)), Blank: s.blank, Len: len(b)}
	if s.hosts == 0 && !s.http10 {
		return Request{}, malformed(len(b), "Host: missing") // RFC 9112 section 3.2
	}
	host := s.host.in(b)
	if s.authority.to > 0 {
		authority := s.authority.in(b)
		if s.hosts > 0 && !sameHost(host, authority) {
			return Request{}, malformed(s.host.from, "Host: not that of the request target")
		}
		host = authority
	}
	if len(host) == 0 {
		return r, ErrNoName
	}
	r.Host = string(host)
	return r, nil
}

// sameHost reports whether two authorities have the same host. It ignores the ports.
func sameHost(a, b []byte) bool {
	if bytes.EqualFold(a, b) {
		return true
	}
	x, err := NormalizeHost(string(a))
	if err != nil {
		return false
	}
	y, err := NormalizeHost(string(b))
	return err == nil && x == y
}

func isHost(name []byte) bool {
	return len(name) == 4 && name[0]|0x20 == 'h' && name[1]|0x20 == 'o' && name[2]|0x20 == 's' && name[3]|0x20 == 't'
}

// methodName returns a method as a string, without an allocation for the usual methods.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "OPTIONS":
		return "OPTIONS"
	case "PATCH":
		return "PATCH"
	case "CONNECT":
		return "CONNECT"
	}
	return string(b)
}

// tokenByte reports whether c may be in a token (RFC 9110 section 5.6.2).
func tokenByte(c byte) bool { return tokenBytes[c] }

var tokenBytes = func() (is [256]bool) {
	for c := range 0x80 {
		is[c] = '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c))
	}
	return is
}()
