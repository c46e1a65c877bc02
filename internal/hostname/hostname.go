// Package hostname defines the normal form of a host name, so that names from declarations
// (routes.yaml), the hosts file, the host API, TLS and HTTP can be compared.
//
// # Normal form
//
// A name in normal form consists of labels with dots between them, without a final dot, and has at
// most 253 bytes. A label has 1 to 63 lower-case ASCII letters, digits, hyphens and underscores,
// and neither begins nor ends with a hyphen. The last label is not a number.
//
// The package changes or refuses other spellings:
//
//   - Upper case becomes lower case (RFC 4343).
//   - A final dot is removed.
//   - Underscores are allowed. RFC 1123 forbids them in host names, but clients send them and
//     resolvers resolve them.
//   - A name with a character outside ASCII is mapped as browsers do: "bücher.example" becomes
//     "xn--bcher-kva.example". The mapping is WHATWG URL, "domain to ASCII": UTS 46, not
//     transitional, with the rules for joiners and right-to-left labels, and without rules for
//     hyphens.
//   - An ASCII name is not decoded. So "xn--zzzzzz99.example" is valid, although its first label is
//     not valid Punycode: many clients send such a name unchanged.
//   - An IP address is refused: it has neither a DNS entry nor a server name in TLS (RFC 6066
//     section 3).
//   - A name whose last label is a number is refused. The number may be decimal, or "0x" with
//     hexadecimal digits. The reason is that browsers read "127.1" and "a.0x7f" as an IPv4 address
//     or refuse them (WHATWG URL, "ends in a number").
//   - A port is removed in HTTP and in declarations, and is an error in a TLS server name.
//   - A wildcard, allowed only in declarations, is "*" in place of the whole first label:
//     "*.example.com". It covers exactly one label.
//
// HAProxy itself makes only three changes to a Host header: it changes it to lower case, removes
// the port, and removes a final dot. So a Host header with characters outside ASCII, which HTTP
// clients do not send, matches no host in HAProxy.
package hostname

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	MaxName  = 253 // bytes of a name in normal form: RFC 1035 section 2.3.4 allows 255 on the wire
	MaxLabel = 63  // bytes of a label

	// maxMapped is the largest size, in bytes, of a name that IDNA maps. A character has at most 4
	// bytes, so a name of MaxName characters fits.
	maxMapped = 4 * MaxName
)

// Kind is the class of an Error.
type Kind uint8

// The classes of errors.
const (
	Malformed        Kind = iota // every fault that has no class of its own
	IPLiteral                    // an IP address, or a name that ends in a number
	ControlCharacter             // an ASCII control character
	TooLong                      // a name longer than MaxName, or a label longer than MaxLabel
)

// Error says why a text is not a host name. It contains no part of the text.
type Error struct {
	Kind   Kind
	What   string // a noun phrase: "empty label"
	Offset int    // offset of the byte with the fault, in the text
}

func (e *Error) Error() string { return e.What + " at byte " + strconv.Itoa(e.Offset) }

// profile maps names with characters outside ASCII as browsers do. It does not apply IDNA's rules
// for ASCII characters and hyphens: browsers do not apply them either, and NormalizeServerName
// checks the result.
var profile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.CheckHyphens(false),
	idna.StrictDomainName(false),
)

// Normalize returns the normal form of a name without a port. If the name has neither upper case
// nor characters outside ASCII, Normalize does not allocate. Errors have the type *Error.
func Normalize(name string) (string, error) {
	first := firstNonASCII(name)
	switch {
	case first < 0:
		return NormalizeServerName(name)
	case !utf8.ValidString(name): // IDNA would replace the bytes with U+FFFD.
		return "", &Error{Malformed, "character outside ASCII in a name that is not UTF-8", first}
	case len(name) > maxMapped:
		return "", &Error{TooLong, fmt.Sprintf("name of more than %d characters", MaxName), maxMapped}
	}
	mapped, err := profile.ToASCII(name)
	if err != nil {
		return "", &Error{Malformed, "character that IDNA does not allow here", first}
	}
	normal, err := NormalizeServerName(mapped)
	if e, ok := err.(*Error); ok {
		return "", &Error{e.Kind, e.What + " after the mapping of IDNA", first}
	}
	return normal, nil
}

// firstNonASCII returns the offset of the first byte outside ASCII, or -1 if there is none.
func firstNonASCII(s string) int {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return i
		}
	}
	return -1
}

// NormalizeHost returns the normal form of a host that may have a port, such as
// "Example.COM.:8080". It removes the port, and then does the same as Normalize. The port must be
// empty (RFC 3986 section 3.2.3), or a decimal number from 1 to 65535.
func NormalizeHost(host string) (string, error) {
	name, port, ok := strings.Cut(host, ":")
	if !ok {
		return Normalize(host)
	}
	for i := range len(port) {
		switch {
		case port[i] == '/': // "https://a.example"
			return "", badCharacter(host, len(name)+1+i)
		case port[i] < '0' || port[i] > '9':
			return "", fault(host, Malformed, "port that is not a number", len(name)+1+i)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return "", &Error{Malformed, "port that is not from 1 to 65535", len(name) + 1}
	}
	return Normalize(name)
}

// NormalizePattern returns the normal form of a declared host. It accepts the same hosts as
// NormalizeHost. It also accepts a wildcard, such as "*.example.com", of at most MaxName bytes.
func NormalizePattern(host string) (string, error) {
	rest, wildcard := strings.CutPrefix(host, "*.")
	if !wildcard {
		return NormalizeHost(host)
	}
	name, err := NormalizeHost(rest)
	if e, ok := err.(*Error); ok {
		return "", &Error{e.Kind, e.What, e.Offset + len("*.")}
	}
	if len(name) > MaxName-len("*.") {
		return "", &Error{TooLong, nameTooLong, MaxName}
	}
	return "*." + name, nil
}

const nameTooLong = "name of more than 253 bytes"

// Covers reports whether pattern is the wildcard that covers host: "*.example.com" covers
// "a.example.com", but neither "example.com" nor "a.b.example.com". Both arguments must be in normal
// form. Covers does not allocate.
func Covers(pattern, host string) bool {
	suffix, ok := strings.CutPrefix(pattern, "*")
	dot := strings.IndexByte(host, '.')
	return ok && dot > 0 && host[dot:] == suffix && host != pattern
}

// NormalizeServerName returns the normal form of a TLS server name. It does not accept a port or
// characters outside ASCII (RFC 6066 section 3).
func NormalizeServerName(name string) (string, error) {
	s := strings.TrimSuffix(name, ".")
	if s == "" {
		return "", &Error{Malformed, "empty name", 0}
	}
	if len(s) > MaxName {
		return "", &Error{TooLong, nameTooLong, MaxName}
	}
	upper := false
	start := 0 // offset of the label in s
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if err := checkLabel(s[start:i], start); err != nil {
				return "", err
			}
			if i < len(s) {
				start = i + 1
			}
			continue
		}
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return "", badCharacter(s, i)
		}
	}
	if isNumber(s[start:]) {
		return "", fault(s, IPLiteral, "last label that is a number, as in an IP address,", start)
	}
	if upper {
		s = strings.ToLower(s)
	}
	return s, nil
}

// checkLabel checks the length of a label, its first character and its last character. offset is
// the label's offset in the name.
func checkLabel(label string, offset int) error {
	switch {
	case label == "":
		return &Error{Malformed, "empty label", offset}
	case len(label) > MaxLabel:
		return &Error{TooLong, "label of more than 63 bytes", offset}
	case label[0] == '-':
		return &Error{Malformed, "hyphen at the start of a label", offset}
	case label[len(label)-1] == '-':
		return &Error{Malformed, "hyphen at the end of a label", offset + len(label) - 1}
	}
	return nil
}

// isNumber reports whether a label is a number: decimal digits, or "0x" and any count of
// hexadecimal digits, even none. Programs that parse addresses like inet_aton read such a label as
// a number.
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

// badCharacter returns the error for the forbidden character at offset in text.
func badCharacter(text string, offset int) error {
	kind, what := Malformed, "character other than a letter, digit, hyphen or underscore"
	switch c := text[offset]; {
	case c < ' ' || c == 0x7f:
		kind, what = ControlCharacter, "control character"
	case c >= utf8.RuneSelf:
		what = "character outside ASCII"
	case c == ':':
		what = "colon (no port is allowed here)"
	case c == '/':
		what = "slash (a host has neither a scheme nor a path)"
	case c == '@':
		what = "at sign (a host has no user)"
	case c == '*':
		what = "asterisk (a wildcard is the whole first label of a declared host, as in *.example.com)"
	}
	return fault(text, kind, what, offset)
}

// fault returns an Error with the fields Kind, What and Offset from its arguments. If text is an IP
// address, it returns the Error for IP addresses instead.
func fault(text string, kind Kind, what string, offset int) error {
	address := text
	if inner, ok := strings.CutPrefix(text, "["); ok {
		address, _, _ = strings.Cut(inner, "]")
	}
	if _, err := netip.ParseAddr(address); err == nil {
		return &Error{IPLiteral, "IP address", 0}
	}
	return &Error{kind, what, offset}
}
