package peek

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of errors. Test with errors.Is.
var (
	// ErrNeedMore is what every NeedMore is.
	ErrNeedMore = errors.New("peek: need more bytes")

	// ErrNotTLS: the bytes do not begin a ClientHello.
	ErrNotTLS = errors.New("peek: not TLS")

	// ErrNotHTTP: the bytes do not begin an HTTP request.
	ErrNotHTTP = errors.New("peek: not HTTP")

	// ErrNoName: well-formed, but no host is named. The values that come with it
	// are complete otherwise.
	ErrNoName = errors.New("peek: no host name")

	// ErrTooLarge: the answer would need more bytes than the bound.
	ErrTooLarge = errors.New("peek: too large")

	// ErrMalformed: the bytes break their protocol, or could be read in two ways.
	ErrMalformed = errors.New("peek: malformed")

	// ErrInvalidName: the name is none that a host can have. The three below are
	// ErrInvalidName too.
	ErrInvalidName = errors.New("peek: invalid host name")

	// ErrIPLiteral: an address in place of a name, in any of its spellings.
	ErrIPLiteral = fmt.Errorf("%w: IP address", ErrInvalidName)

	// ErrControlCharacter: NUL, a line end, DEL or the like in a name.
	ErrControlCharacter = fmt.Errorf("%w: control character", ErrInvalidName)

	// ErrNameTooLong: more than 253 bytes, or a label of more than 63.
	ErrNameTooLong = fmt.Errorf("%w: too long", ErrInvalidName)
)

// errNeither is for bytes that are no protocol known here.
var errNeither = &neither{}

type neither struct{}

func (*neither) Error() string   { return "peek: neither TLS nor HTTP" }
func (*neither) Unwrap() []error { return []error{ErrNotTLS, ErrNotHTTP} }

// NeedMore is the error for bytes that are not enough to decide. Its value is how
// many further ones a name takes at the least, 1 where that is not known; what is
// wrong may show before. It is returned as it is, never wrapped, so a type assertion
// finds it.
type NeedMore int

func (n NeedMore) Error() string { return fmt.Sprintf("%v, at least %d", ErrNeedMore, int(n)) }

// Is makes errors.Is(err, ErrNeedMore) work.
func (NeedMore) Is(target error) bool { return target == ErrNeedMore }

// Error says what is wrong with the bytes, and where.
type Error struct {
	Err    error  // the kind: one of the variables above
	What   string // the field and its fault: "server_name: empty list"
	Offset int    // of the field, in the bytes or the name that were given
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
