package routes

import (
	"errors"
	"strconv"

	"github.com/headgate/headgate/internal/hostname"
)

// checkDNSLabel holds a name to the DNS labels of Kubernetes (RFC 1123).
func checkDNSLabel(s string) error {
	switch {
	case s == "":
		return errors.New("is missing")
	case len(s) > hostname.MaxLabel:
		return errors.New("is longer than 63 bytes")
	case !isLowerAlnum(s[0]), !isLowerAlnum(s[len(s)-1]):
		return errors.New("must begin and end with a lower-case letter or a digit")
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return errors.New("may have lower-case letters, digits and hyphens")
		}
	}
	return nil
}

// checkPort accepts a port's number or name. The names of Service ports are
// DNS labels; the 15 bytes of RFC 6335 bind container ports alone.
func checkPort(s string) error {
	if isDigits(s) && !isPortNumber(s) {
		return errors.New("must be a number from 1 to 65535, or the name of a service port")
	}
	return checkDNSLabel(s)
}

// isPortNumber accepts plain decimal digits without leading zeros.
func isPortNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && isDigits(s) && s[0] != '0'
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
