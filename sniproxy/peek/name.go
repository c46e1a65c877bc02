package peek

import "github.com/headgate/headgate/internal/hostname"

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
