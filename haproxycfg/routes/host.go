package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxHostBytes  = 253 // RFC 1035 section 2.3.4, without the root's dot
	maxLabelBytes = 63
)

// lookupProfile is the IDNA2008 lookup profile with the mapping of UTS 46. Its
// hyphen rule is off: it would refuse registered ASCII names such as
// "r3---sn-abc.example.com". checkLabel still refuses a hyphen at either end.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.CheckHyphens(false),
)

// normalHost returns the normal form of a declared host, which may be a
// one-label wildcard.
func normalHost(s string) (string, error) {
	if s == "*" {
		return "", errors.New("would be every host; a wildcard stands for one label below a name, as in *.example.com")
	}
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		name, err := normalName(rest)
		if err != nil {
			return "", err
		}
		if len(name)+2 > maxHostBytes {
			return "", tooLongHost(len(name) + 2)
		}
		return "*." + name, nil
	}
	return normalName(s)
}

// normalName is normalHost without wildcards.
func normalName(s string) (string, error) {
	// 64 KiB of text would not hurt, but nothing so long can become a name.
	if len(s) > 4*maxHostBytes {
		return "", tooLongHost(len(s))
	}
	if !utf8.ValidString(s) {
		return "", errors.New("is not UTF-8")
	}
	switch {
	case s == "":
		return "", errors.New("is empty")
	case strings.Contains(s, "://"):
		return "", errors.New("must be a host name alone, without a scheme")
	case strings.ContainsAny(s, "/?#"):
		return "", errors.New("must be a host name alone; the path has its own field")
	case strings.Contains(s, "@"):
		return "", errors.New("must be a host name alone, without a user")
	case strings.Contains(s, "*"):
		return "", errors.New("may have a wildcard only as its whole first label, as in *.example.com")
	}
	if isIP(s) {
		return "", errIPHost
	}
	name, err := cutPort(s)
	if err != nil {
		return "", err
	}
	if name, err = toASCII(name); err != nil {
		return "", err
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "", errors.New("has no labels")
	}
	if len(name) > maxHostBytes {
		return "", tooLongHost(len(name))
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		last = label
	}
	if isIP(name) || isNumeric(last) {
		return "", errIPHost
	}
	return name, nil
}

// errIPHost: clients send no server name for an address (RFC 6066 section 3),
// public certificates rarely hold one, and browsers rewrite anything whose last
// label is a number to an IPv4 address (WHATWG URL, "ends in a number").
var errIPHost = errors.New("is an IP address, which has neither DNS entry nor TLS server name; declare a host name")

func tooLongHost(n int) error {
	return fmt.Errorf("is %d bytes long; a host name has at most %d", n, maxHostBytes)
}

// cutPort removes ":443". An empty port is allowed as in a URL.
func cutPort(s string) (string, error) {
	name, port, ok := strings.Cut(s, ":")
	if !ok || port == "" {
		return name, nil
	}
	if !isPortNumber(strings.TrimLeft(port, "0")) {
		return "", fmt.Errorf("has the port %s, which is not a number from 1 to 65535", quote(port))
	}
	return name, nil
}

// toASCII lowers s and turns its labels into A-labels. Most names need no
// tables.
func toASCII(s string) (string, error) {
	lower := strings.ToLower(s)
	if isASCII(s) && !strings.HasPrefix(lower, "xn--") && !strings.Contains(lower, ".xn--") {
		return lower, nil
	}
	name, err := lookupProfile.ToASCII(s)
	if err != nil {
		return "", fmt.Errorf("is not a valid internationalised name: %s", strings.TrimPrefix(err.Error(), "idna: "))
	}
	return name, nil
}

// checkLabel holds one label to letters, digits and inner hyphens (RFC 1123
// section 2.1).
func checkLabel(l string) error {
	if l == "" {
		return errors.New("has an empty label")
	}
	if len(l) > maxLabelBytes {
		return fmt.Errorf("has a label of %d bytes; at most %d are allowed", len(l), maxLabelBytes)
	}
	for i := range len(l) {
		if c := l[i]; !isLowerAlnum(c) && c != '-' {
			return fmt.Errorf("has the character %s; a host name has letters, digits, hyphens and dots", strconv.QuoteRune(firstRune(l[i:])))
		}
	}
	if l[0] == '-' || l[len(l)-1] == '-' {
		return fmt.Errorf("has the label %s, which begins or ends with a hyphen", quote(l))
	}
	return nil
}

func isIP(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	return strings.HasPrefix(s, "[")
}

// isNumeric tells whether browsers take a label for a number: decimal digits,
// or 0x and hexadecimal digits.
func isNumeric(l string) bool {
	if h, ok := strings.CutPrefix(l, "0x"); ok {
		return strings.Trim(h, "0123456789abcdef") == ""
	}
	return strings.Trim(l, "0123456789") == ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// quote shows text of a file in a message: quoted, and cut where it is long.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "…"
}
