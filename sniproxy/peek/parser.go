package peek

import (
	"strings"

	"github.com/headgate/headgate/internal/hostname"
)

// MaxBytes is the default limit for the length of a ClientHello or request head, in bytes. A
// ClientHello with post-quantum key shares has up to 21.5 KB. Most servers limit request heads to
// between 8 and 64 KiB.
const MaxBytes = 64 << 10

// Parser parses the first bytes of one connection while they arrive. The zero value accepts every
// protocol and at most MaxBytes bytes. A Parser is not safe for concurrent use, and keeps no
// reference to the bytes between calls. For another connection, assign Parser{} first.
type Parser struct {
	// Accept is the set of accepted protocols; 0 means all.
	Accept Protocol
	// MaxBytes is the greatest length of a ClientHello with its record headers, or of a request
	// head, in bytes. 0 means the constant MaxBytes.
	MaxBytes int

	protocol Protocol
	hello    helloScan
	http1    headScan
	http2    frameScan
}

// Result is what Parse has found in the first bytes of a connection.
type Result struct {
	// Protocol is the protocol of the client, or 0 if the protocol is not known yet. Parse can set
	// Protocol even if it returns an error.
	Protocol Protocol

	// Name is the host in the normal form of NormalizeHost: lower case, without a port and without
	// a final dot. It is "" if Parse returns an error.
	Name string

	// RawName is the name as the client sent it, with its port. Parse also sets RawName if it
	// returns an error because the name is invalid. RawName may contain any bytes, so use it only
	// for logs.
	RawName string

	// Hello is the ClientHello. If the error is ErrNoName, Hello is complete except for the name.
	Hello ClientHello

	// Request is the HTTP request. If the error is ErrNoName, Request is complete except for the
	// host.
	Request Request
}

// Parse parses b, which must hold everything that the client has sent so far, perhaps in another
// array than before. It neither changes nor keeps b, but the lists in Result.Hello share the memory
// of b.
//
// The error is nil, NeedMore, ErrNoName or an *Error. For a protocol that is not in Accept, what
// the error wraps depends on Accept:
//
//   - If Accept has only TLS, it wraps ErrNotTLS.
//   - If Accept does not have TLS, it wraps ErrNotHTTP.
//   - In all other cases, it wraps ErrNotTLS and ErrNotHTTP.
func (p *Parser) Parse(b []byte) (Result, error) {
	var r Result
	err := p.parse(&r, b)
	return r, err
}

func (p *Parser) parse(r *Result, b []byte) error {
	r.Protocol = p.protocol
	limit := p.MaxBytes
	if limit == 0 { // cmp.Or is slower, and Parse may run once for each byte
		limit = MaxBytes
	}
	if p.protocol == 0 {
		if p.Accept != 0 && p.Accept&HTTP1 == 0 && len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
			return p.notAccepted("first bytes") // only HTTP/1 allows empty lines
		}
		detected, err := Detect(b)
		switch {
		case err == nil:
			r.Protocol = detected
			if p.Accept != 0 && p.Accept&detected == 0 {
				return p.notAccepted(detected.String())
			}
			p.protocol = detected
		case len(b) < limit && isNeedMore(err):
			return err
		case isNeedMore(err):
			return tooLarge(limit, "first word")
		default:
			return p.notAccepted("first bytes")
		}
	}

	var err error
	if r.Protocol == TLS {
		err = p.hello.parse(&r.Hello, b, limit)
		r.RawName = r.Hello.ServerName
	} else {
		if r.Protocol == HTTP1 {
			r.Request, err = p.http1.parse(b, limit)
		} else {
			r.Request, err = p.http2.parse(b, limit)
		}
		r.RawName = r.Request.Host
	}
	if err != nil {
		return err
	}
	if r.Protocol == TLS {
		r.Name, err = NormalizeServerName(r.RawName)
	} else {
		r.Name, err = NormalizeHost(r.RawName)
	}
	return err
}

// notAccepted returns the error for a client whose protocol is not in p.Accept. If only TLS is
// accepted, the error matches ErrNotTLS. If only HTTP is accepted, it matches ErrNotHTTP. If both
// are accepted, it matches both.
func (p *Parser) notAccepted(what string) error {
	kind := error(errNeither)
	switch {
	case p.Accept == TLS:
		kind = ErrNotTLS
	case p.Accept != 0 && p.Accept&TLS == 0:
		kind = ErrNotHTTP
	}
	return &Error{Err: kind, What: what, Offset: 0}
}

func isNeedMore(err error) bool {
	_, ok := err.(NeedMore)
	return ok
}

// NormalizeHost returns the normal form of the host in a Host field or an :authority: "example.com"
// for "Example.COM.:8080". Compare hosts only in normal form. NormalizeHost removes a port and one
// final dot, turns letters into lower case, and maps characters outside ASCII as browsers do:
// "bücher.example" is "xn--bcher-kva.example". It does not decode A-labels.
//
// A normal name has at most 253 bytes. Each label has 1 to 63 letters, digits, hyphens and
// underscores (which RFC 1123 forbids, but many names have), and no hyphen at either end.
//
// Every error matches ErrInvalidName. Some also match ErrControlCharacter, ErrNameTooLong or
// ErrIPLiteral. ErrIPLiteral means an address ("[::1]"), or a name whose last label is a number
// ("127.1", "0x7f.1"): many programs read such a name as an address.
func NormalizeHost(host string) (string, error) {
	name, err := hostname.NormalizeHost(host)
	return name, nameError(err)
}

// NormalizeServerName returns the normal form of the server name in a ClientHello. It acts like
// NormalizeHost, but refuses a port and characters outside ASCII (RFC 6066 section 3). It removes
// one final dot, although RFC 6066 does not allow a final dot.
func NormalizeServerName(name string) (string, error) {
	normal, err := hostname.NormalizeServerName(name)
	return normal, nameError(err)
}

// nameError turns an error of package hostname into an error of this package.
func nameError(err error) error {
	e, ok := err.(*hostname.Error)
	if !ok {
		return err // nil
	}
	kind := ErrInvalidName
	switch e.Kind {
	case hostname.IPLiteral:
		kind = ErrIPLiteral
	case hostname.ControlCharacter:
		kind = ErrControlCharacter
	case hostname.TooLong:
		kind = ErrNameTooLong
	}
	return &Error{Err: kind, What: e.What, Offset: e.Offset}
}

// Protocol is the protocol of a client's first bytes, or a set of protocols: TLS|HTTP1. The zero
// value is the empty set.
type Protocol uint8

// These are the protocols. Detect recognises all of them except QUIC: package quic reads the
// ClientHello of a QUIC connection from datagrams.
const (
	TLS   Protocol = 1 << iota // a ClientHello, in records or in the format of SSL 2.0
	HTTP1                      // a request of HTTP/1.0 or HTTP/1.1
	HTTP2                      // HTTP/2 in clear with prior knowledge ("h2c")
	QUIC                       // a ClientHello in the datagrams of a QUIC connection
)

// String returns "tls", "http/1", "h2c" or "quic". It joins the names of several protocols with "|". For
// the empty set, it returns "unknown".
func (p Protocol) String() string {
	var names []string
	for _, known := range []struct {
		p    Protocol
		name string
	}{{TLS, "tls"}, {HTTP1, "http/1"}, {HTTP2, "h2c"}, {QUIC, "quic"}} {
		if p&known.p != 0 {
			names = append(names, known.name)
		}
	}
	if names == nil {
		return "unknown"
	}
	return strings.Join(names, "|")
}

// maxMethod is the greatest length of a method, in bytes. The longest registered method,
// UPDATEREDIRECTREF, has 17 letters.
const maxMethod = 24

// maxBlankLines is how many empty lines may come before a request of HTTP/1. RFC 9112 section 2.2
// says that a server should ignore at least one empty line. The bound keeps the work of Detect
// small.
const maxBlankLines = 16

// blankLines returns the length in bytes of the empty lines at the start of b. It returns NeedMore
// if the next byte could belong to a further empty line.
func blankLines(b []byte) (n int, err error) {
	for range maxBlankLines + 1 {
		switch {
		case n == len(b):
			return n, NeedMore(1)
		case b[n] == '\n':
			n++
		case b[n] != '\r':
			return n, nil
		case n+1 == len(b):
			return n, NeedMore(1)
		case b[n+1] != '\n':
			return n, &Error{Err: errNeither, What: "first line", Offset: n}
		default:
			n += 2
		}
	}
	return n, &Error{Err: errNeither, What: "empty lines", Offset: n}
}

// Detect returns the protocol of a connection that begins with b, even if the hello or request is
// malformed. It needs the first two bytes of a TLS record, the first five bytes of an SSL 2.0
// hello, or an HTTP method and the space after it. Up to 16 empty lines may come before a method of
// HTTP/1. The error is NeedMore, or matches both ErrNotTLS and ErrNotHTTP.
func Detect(b []byte) (Protocol, error) {
	if len(b) == 0 {
		return 0, NeedMore(2)
	}
	switch c := b[0]; {
	case c == recordHandshake:
		if len(b) < 2 {
			return 0, NeedMore(1)
		}
		if b[1] == 3 {
			return TLS, nil
		}
	case c >= 0x80:
		known, err := detectSSLv2(b)
		if err != nil {
			return 0, err
		}
		if known {
			return TLS, nil
		}
	case c == '\r' || c == '\n':
		blank, err := blankLines(b)
		if err != nil {
			return 0, err
		}
		p, err := detectHTTP(b[blank:])
		if p == HTTP2 {
			err = &Error{Err: errNeither, What: "empty lines before HTTP/2", Offset: blank}
		}
		if err != nil {
			return 0, err
		}
		return p, nil
	case methodByte(c):
		return detectHTTP(b)
	}
	return 0, &Error{Err: errNeither, What: "first bytes", Offset: 0}
}

// detectHTTP does the work of Detect if the client can only speak HTTP. b begins with the method,
// without empty lines before it.
func detectHTTP(b []byte) (Protocol, error) {
	for i, c := range b {
		switch {
		case c == ' ' && string(b[:i]) == "PRI":
			return HTTP2, nil // RFC 9113 section 11.6: no other use of this method
		case c == ' ' && i > 0:
			return HTTP1, nil
		case !methodByte(c), i == maxMethod:
			return 0, &Error{Err: errNeither, What: "first word", Offset: i}
		}
	}
	return 0, NeedMore(1)
}

// methodByte reports whether c may be in a method, that is, whether c is a letter, hyphen or
// underscore. RFC 9110 allows more characters, but no method in use has them. A method with digits
// or dots is not accepted, so Detect does not take the banner of SSH ("SSH-2.0-…") for a method.
func methodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}
