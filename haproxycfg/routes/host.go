package routes

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/hostname"
)

// normalPattern returns the normal form of a declared host, which may be a wildcard.
func normalPattern(s string) (string, error) { return declaredHost(hostname.NormalizePattern(s)) }

// normalHost returns the normal form of a declared host that is no wildcard.
func normalHost(s string) (string, error) { return declaredHost(hostname.NormalizeHost(s)) }

func declaredHost(name string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("is not a host name: %w", err)
	}
	return name, nil
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// quote quotes text of a file for a message, and cuts long text.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "…"
}
