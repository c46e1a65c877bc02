package peek

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // RFC 1035 section 2.3.4: 255 on the wire
	maxLabel = 63
)

// NormalizeHost brings a host as HTTP names it, "Example.COM.:8080", to the one form
// that hosts are compared in: "example.com". Port and one trailing dot are dropped,
// letters made lower case, other scripts than ASCII brought to A-labels by the
// lookup profile of IDNA ("bücher.example" is "xn--bcher-kva.example"). The result
// is its own normal form. It costs an allocation only where it differs in more than
// its length.
//
// Labels are of 1 to 63 letters, digits, hyphens and underscores, with no hyphen at
// either end; 253 bytes in all. Underscores are in no host name that RFC 1123 knows,
// but in many that are in use. A-labels are taken as they are.
//
// Errors are of ErrInvalidName: ErrIPLiteral for addresses, also "[::1]", and for
// names whose last label is a number, which many programs take for an address
// ("127.1", "0x7f.1"); ErrControlCharacter; ErrNameTooLong; itself for the rest.
func NormalizeHost(host string) (string, error) {
	name, err := cutPort(host)
	if err != nil {
		return "", err
	}
	if firstNonASCII(name) >= 0 {
		if !utf8.ValidString(name) { // IDNA would put U+FFFD in its place
			return "", &Error{Err: ErrInvalidName, What: "neither ASCII nor UTF-8", Offset: firstNonASCII(name)}
		}
		if len(name) > 4*maxName {
			return "", &Error{Err: ErrNameTooLong, What: "name of more than 253 characters", Offset: 4 * maxName}
		}
		mapped, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", &Error{Err: ErrInvalidName, What: "not a name by the rules of IDNA", Offset: firstNonASCII(name)}
		}
		name = mapped
	}
	return normalize(name)
}

// NormalizeServerName does for a server name of TLS what NormalizeHost does for hosts,
// and refuses what does not belong there (RFC 6066 section 3): a port, and anything
// but ASCII. One trailing dot is dropped, though RFC 6066 wants none.
func NormalizeServerName(name string) (string, error) {
	if strings.IndexByte(name, ':') >= 0 { // IPv6; normalize knows the other kind
		if _, err := netip.ParseAddr(name); err == nil {
			return "", &Error{Err: ErrIPLiteral, What: "address", Offset: 0}
		}
	}
	return normalize(name)
}

// cutPort drops ":port" and refuses bracketed and bare addresses of IPv6.
func cutPort(host string) (string, error) {
	if strings.HasPrefix(host, "[") {
		inner, _, _ := strings.Cut(host[1:], "]")
		if _, err := netip.ParseAddr(inner); err == nil {
			return "", &Error{Err: ErrIPLiteral, What: "address in brackets", Offset: 0}
		}
		return "", &Error{Err: ErrInvalidName, What: "bracket", Offset: 0}
	}
	colon := strings.IndexByte(host, ':')
	if colon < 0 {
		return host, nil
	}
	port := host[colon+1:]
	if strings.Contains(port, ":") {
		if _, err := netip.ParseAddr(host); err == nil {
			return "", &Error{Err: ErrIPLiteral, What: "address", Offset: 0}
		}
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", &Error{Err: ErrInvalidName, What: "port: not a number", Offset: colon + 1 + i}
		}
	}
	// RFC 3986 section 3.2.3 allows the port to be empty.
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return "", &Error{Err: ErrInvalidName, What: "port: out of range", Offset: colon + 1}
	}
	return host[:colon], nil
}

// normalize checks a name of ASCII without port, and lowers it.
func normalize(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", &Error{Err: ErrInvalidName, What: "empty", Offset: 0}
	}
	if len(s) > maxName {
		return "", &Error{Err: ErrNameTooLong, What: "name of more than 253 bytes", Offset: maxName}
	}
	upper := false
	start := 0 // of the label
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if err := checkLabel(s[start:i], start); err != nil {
				return "", err
			}
			start = i + 1
			continue
		}
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case 'A' <= c && c <= 'Z':
			upper = true
		case c < ' ', c == 0x7f:
			return "", &Error{Err: ErrControlCharacter, What: "character", Offset: i}
		case c >= 0x80:
			return "", &Error{Err: ErrInvalidName, What: "character that is not ASCII", Offset: i}
		default:
			return "", &Error{Err: ErrInvalidName, What: "character that is no letter, digit, hyphen or underscore", Offset: i}
		}
	}
	last := strings.LastIndexByte(s, '.') + 1
	if isNumber(s[last:]) {
		return "", &Error{Err: ErrIPLiteral, What: "last label is a number", Offset: last}
	}
	if upper {
		s = strings.ToLower(s)
	}
	return s, nil
}

// checkLabel checks the length and the ends of a label that begins at offset at.
func checkLabel(label string, at int) error {
	switch {
	case label == "":
		return &Error{Err: ErrInvalidName, What: "empty label", Offset: at}
	case len(label) > maxLabel:
		return &Error{Err: ErrNameTooLong, What: "label of more than 63 bytes", Offset: at}
	case label[0] == '-':
		return &Error{Err: ErrInvalidName, What: "hyphen at the start of a label", Offset: at}
	case label[len(label)-1] == '-':
		return &Error{Err: ErrInvalidName, What: "hyphen at the end of a label", Offset: at + len(label) - 1}
	}
	return nil
}

// isNumber tells a label that makes the whole a number to programs that read
// addresses as inet_aton does: digits, or hexadecimal ones behind "0x".
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

func firstNonASCII(s string) int {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return i
		}
	}
	return -1
}
