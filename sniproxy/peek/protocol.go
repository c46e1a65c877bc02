package peek

import "strings"

// Protocol is what a client speaks first, or a set of such: TLS|HTTP1. The zero
// value is none of them.
type Protocol uint8

// The protocols that can be told apart by their first bytes.
const (
	TLS   Protocol = 1 << iota // a ClientHello, in records or in the form of SSL 2.0
	HTTP1                      // a request of HTTP/1.0 or HTTP/1.1
	HTTP2                      // HTTP/2 in clear with prior knowledge ("h2c")
)

// String gives "tls", "http/1", "h2c", several joined by "|", or "unknown".
func (p Protocol) String() string {
	var names []string
	for _, known := range []struct {
		p    Protocol
		name string
	}{{TLS, "tls"}, {HTTP1, "http/1"}, {HTTP2, "h2c"}} {
		if p&known.p != 0 {
			names = append(names, known.name)
		}
	}
	if names == nil {
		return "unknown"
	}
	return strings.Join(names, "|")
}

// maxMethod bounds how long the first word of a request may be. The longest method
// that is registered, UPDATEREDIRECTREF, has 17 letters.
const maxMethod = 24

// Detect tells the protocol from the first bytes: two of a TLS record, five of a
// hello of SSL 2.0, an HTTP method with the space after it. The error is NeedMore,
// or is both ErrNotTLS and ErrNotHTTP when the bytes are of neither.
//
// It is a first look only: what it names may yet turn out malformed.
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
	case methodByte(c):
		for i, c := range b {
			switch {
			case c == ' ' && string(b[:i]) == "PRI":
				return HTTP2, nil // RFC 9113 section 11.6: no other use of this method
			case c == ' ':
				return HTTP1, nil
			case !methodByte(c), i == maxMethod:
				return 0, &Error{Err: errNeither, What: "first word", Offset: i}
			}
		}
		return 0, NeedMore(1)
	}
	return 0, &Error{Err: errNeither, What: "first bytes", Offset: 0}
}

// methodByte is narrower than the tokens that RFC 9110 allows for methods: letters,
// hyphen and underscore are what methods consist of, and without digits and dots
// the banner of SSH is no method.
func methodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}
