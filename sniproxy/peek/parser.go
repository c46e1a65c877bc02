package peek

import (
	"cmp"
	"strings"

	"github.com/headgate/headgate/internal/hostname"
)

// MaxBytes is the default bound of a hello or head. Hellos with post-quantum key shares reach 21.5
// KB. Most servers refuse request heads above a bound between 8 and 64 KiB.
const MaxBytes = 64 << 10

// Parser parses the first bytes of one connection while they arrive. The zero value accepts every
// protocol and at most MaxBytes. A Parser is not safe for concurrent use. After a final result,
// assign a new value to use it again. Between calls, a Parser keeps no reference to the bytes.
type Parser struct {
	// Accept is the set of accepted protocols; 0 means all.
	Accept Protocol
	// MaxBytes bounds a hello with its record headers, or the head of a request. 0 means the
	// constant MaxBytes.
	MaxBytes int

	protocol Protocol
	hello    helloScan
	http1    headScan
	http2    frameScan
}

// Result is the content of the first bytes.
type Result struct {
	// Protocol is the protocol of the client. 0 means that it is not known yet. It is set next to
	// an error too.
	Protocol Protocol

	// Name is the host in the normal form of NormalizeHost: lower case, without a port and a final
	// dot. It is empty next to an error.
	Name string

	// RawName is the name as the client sent it, with its port. It may contain any bytes, and is
	// only for logs. It is set next to an error about the name too.
	RawName string

	// Hello is the ClientHello. With ErrNoName, it is complete except for the name.
	Hello ClientHello

	// Request is the HTTP request. With ErrNoName, it is complete except for the host.
	Request Request
}

// Parse parses b, which holds everything that the client has sent so far: the bytes of the previous
// call in the same or another array, and new bytes after them. Parse neither changes nor keeps b,
// but the lists in Result.Hello are views of b.
//
// The error is nil, NeedMore, ErrNoName or an *Error. For bytes of a protocol that is not accepted,
// it is ErrNotTLS if only TLS is accepted, ErrNotHTTP if TLS is not accepted, and otherwise both.
func (p *Parser) Parse(b []byte) (Result, error) {
	var r Result
	err := p.parse(&r, b)
	return r, err
}

func (p *Parser) parse(r *Result, b []byte) error {
	r.Protocol = p.protocol
	limit := cmp.Or(p.MaxBytes, MaxBytes)
	if p.protocol == 0 {
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

// notAccepted returns the error for a protocol that is not accepted.
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

// NormalizeHost returns the normal form of a host as HTTP sends it: "Example.COM.:8080" is
// "example.com". Hosts are compared in this form. NormalizeHost removes a port and one final dot,
// and makes letters lower case. It maps characters outside ASCII as browsers do:
// "bücher.example" is "xn--bcher-kva.example". It does not decode A-labels. The normal form of a
// normal name is the name itself. NormalizeHost allocates only for upper case and for characters
// outside ASCII.
//
// A normal name has at most 253 bytes. Each label has 1 to 63 letters, digits, hyphens and
// underscores, and no hyphen at either end. RFC 1123 does not allow underscores in host names, but
// many names in use have them.
//
// Errors match ErrInvalidName, and one of these if it applies: ErrIPLiteral for an address
// ("[::1]") and for a name whose last label is a number, because many programs read such a name as
// an address ("127.1", "0x7f.1"); ErrControlCharacter; ErrNameTooLong.
func NormalizeHost(host string) (string, error) {
	name, err := hostname.NormalizeHost(host)
	return name, nameError(err)
}

// NormalizeServerName returns the normal form of a server name of TLS. It refuses a port and
// characters outside ASCII (RFC 6066 section 3). It removes one final dot, although RFC 6066 does
// not allow one. Otherwise it is NormalizeHost.
func NormalizeServerName(name string) (string, error) {
	normal, err := hostname.NormalizeServerName(name)
	return normal, nameError(err)
}

// nameError turns an error of package hostname into one of this package.
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

// The protocols that Detect recognises.
const (
	TLS   Protocol = 1 << iota // a ClientHello, in records or in the format of SSL 2.0
	HTTP1                      // a request of HTTP/1.0 or HTTP/1.1
	HTTP2                      // HTTP/2 in clear with prior knowledge ("h2c")
)

// String returns "tls", "http/1" or "h2c", several of them joined by "|", or "unknown".
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

// maxMethod bounds the first word of a request. The longest registered method, UPDATEREDIRECTREF,
// has 17 letters.
const maxMethod = 24

// Detect returns the protocol of the first bytes. It needs two bytes of a TLS record, five of an
// SSL 2.0 hello, or an HTTP method with the space after it. The error is NeedMore, or matches both
// ErrNotTLS and ErrNotHTTP.
//
// Detect does not parse the rest, which may be malformed.
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

// methodByte reports whether c may be in a method: letters, hyphen and underscore. RFC 9110 allows
// more characters, but no method in use has them. Without digits and dots, the banner of SSH is not
// a method.
func methodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}
