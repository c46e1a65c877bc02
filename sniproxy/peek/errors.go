package peek

import (
	"errors"
	"fmt"
	"strings"
)

// These are the kinds of errors. Test for them with errors.Is.
var (
	// ErrNeedMore matches every NeedMore.
	ErrNeedMore = errors.New("peek: need more bytes")

	// ErrNotTLS means that the bytes do not begin a ClientHello.
	ErrNotTLS = errors.New("peek: not TLS")

	// ErrNotHTTP means that the bytes do not begin an HTTP request.
	ErrNotHTTP = errors.New("peek: not HTTP")

	// ErrNoName means that the bytes are well-formed but name no host. The result that comes with
	// ErrNoName is complete except for the name.
	ErrNoName = errors.New("peek: no host name")

	// ErrTooLarge means that the ClientHello or request head is longer than the limit; see
	// Parser.MaxBytes.
	ErrTooLarge = errors.New("peek: too large")

	// ErrMalformed means that the bytes break the rules of their protocol, or that two servers
	// could read different hosts from them.
	ErrMalformed = errors.New("peek: malformed")

	// ErrInvalidName means that the name is not a host name. With errors.Is, the three errors below
	// match ErrInvalidName too.
	ErrInvalidName = errors.New("peek: invalid host name")

	// ErrIPLiteral means that the name is an IP address, in any notation, such as "::1" or
	// "0x7f.1".
	ErrIPLiteral = fmt.Errorf("%w: IP address", ErrInvalidName)

	// ErrControlCharacter means that the name contains a control character, such as NUL or a line
	// end.
	ErrControlCharacter = fmt.Errorf("%w: control character", ErrInvalidName)

	// ErrNameTooLong means that the name has more than 253 bytes, or a label more than 63.
	ErrNameTooLong = fmt.Errorf("%w: too long", ErrInvalidName)
)

// errNeither is the error for bytes that begin neither a TLS connection nor an HTTP request. With
// errors.Is, it matches ErrNotTLS and ErrNotHTTP.
var errNeither = &neither{}

type neither struct{}

func (*neither) Error() string   { return "peek: neither TLS nor HTTP" }
func (*neither) Unwrap() []error { return []error{ErrNotTLS, ErrNotHTTP} }

// NeedMore is the error for too few bytes. Its value is the least number of further bytes that
// Parse needs to find the name, or 1 if this number is unknown. Parse may find an error with fewer
// bytes. NeedMore is never wrapped, so a type assertion finds it.
type NeedMore int

func (n NeedMore) Error() string { return fmt.Sprintf("%v, at least %d", ErrNeedMore, int(n)) }

// Is makes errors.Is(err, ErrNeedMore) work.
func (NeedMore) Is(target error) bool { return target == ErrNeedMore }

// Error describes an error in the bytes.
type Error struct {
	Err    error  // the kind: one of the variables in this package
	What   string // the field and its error: "server_name: empty list"
	Offset int    // the offset of the field in the parsed bytes, or in the name
}

func (e *Error) Error() string {
	text := e.Err.Error()
	if !strings.HasSuffix(text, ": "+e.What) {
		text += ": " + e.What
	}
	return fmt.Sprintf("%s at byte %d", text, e.Offset)
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Err }

func malformed(offset int, what string) error {
	return &Error{Err: ErrMalformed, What: what, Offset: offset}
}

func tooLarge(offset int, what string) error {
	return &Error{Err: ErrTooLarge, What: what, Offset: offset}
}
