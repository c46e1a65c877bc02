package peek

import (
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/internal/hostname"
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
