package peek

import "strings"

// MaxBytes is how many bytes are looked at where nothing else is said. Hellos with
// post-quantum key shares reach 21.5 KB, and request heads are refused above 8 to
// 64 KiB by most servers.
const MaxBytes = 64 << 10

// Parser decides on one connection, over bytes that come little by little. The zero
// value is ready, takes every protocol and looks at MaxBytes at most. A Parser is
// not safe for concurrent use, and is done with when it has given a final answer;
// assign a new value to use it again. It holds no view of the bytes between calls.
type Parser struct {
	// Accept is the set of protocols to take; 0 is all.
	Accept Protocol
	// MaxBytes bounds a hello with its record headers, or the head of a request;
	// 0 is the constant MaxBytes.
	MaxBytes int

	protocol Protocol
	hello    helloScan
	head     headScan
	frames   frameScan
}

// Result is what the first bytes say.
type Result struct {
	// Protocol is what the client speaks; 0 as long as that is not known. It is
	// set beside an error too, as soon as it is known.
	Protocol Protocol

	// Name is the host in the form of NormalizeHost: lower case A-labels without
	// port and trailing dot. Empty beside an error.
	Name string

	// RawName is the name as it was sent, with its port if it had one: anything
	// that a client may send, for logs only. It is set beside an error about the
	// name.
	RawName string

	// Hello is the ClientHello of TLS, complete also with ErrNoName.
	Hello ClientHello

	// Request is the request of HTTP1 or HTTP2, complete also with ErrNoName.
	Request Request
}

// Parse looks at b, which holds all that the client has sent so far: what the call
// before was given, in the same array or another, and more after it. It does not
// change or keep b, but the lists in Result.Hello are views of it.
//
// The error is nil, NeedMore, ErrNoName or an *Error. Bytes that begin no accepted
// protocol are ErrNotTLS where only TLS is accepted, ErrNotHTTP where it is not,
// else both.
func (p *Parser) Parse(b []byte) (Result, error) {
	var r Result
	err := p.parse(&r, b)
	return r, err
}

func (p *Parser) parse(r *Result, b []byte) error {
	r.Protocol = p.protocol
	limit := p.MaxBytes
	if limit == 0 {
		limit = MaxBytes
	}
	if p.protocol == 0 {
		detected, err := Detect(b)
		switch {
		case err == nil:
			r.Protocol = detected
			if p.Accept != 0 && p.Accept&detected == 0 {
				return p.refuse(detected.String())
			}
			p.protocol = detected
		case len(b) < limit && isNeedMore(err):
			return err
		case isNeedMore(err):
			return tooLarge(limit, "first word")
		default:
			return p.refuse("first bytes")
		}
	}

	var err error
	if r.Protocol == TLS {
		err = p.hello.scan(&r.Hello, b, limit)
		r.RawName = r.Hello.ServerName
	} else {
		if r.Protocol == HTTP1 {
			r.Request, err = p.head.scan(b, limit)
		} else {
			r.Request, err = p.frames.scan(b, limit)
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

// refuse is the error for a protocol that is not accepted.
func (p *Parser) refuse(what string) error {
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
