package routes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxPathBytes is far above real paths and keeps host and path within the
// buffer (16 KiB by default) in which HAProxy composes its map keys.
const maxPathBytes = 1024

// normalPath returns the normal form of a route's path; "" is "/".
func normalPath(s string, exact bool) (string, error) {
	switch {
	case s == "":
		return "/", nil
	case s[0] != '/':
		return "", errors.New(`must begin with "/"`)
	case len(s) > maxPathBytes:
		return "", fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxPathBytes)
	case strings.ContainsAny(s, "?#"):
		return "", errors.New("must be a path alone: a query or fragment plays no part in routing")
	case strings.Contains(s, "*"):
		return "", errors.New(`has a "*", but paths are no patterns: /a covers itself and all below it, unless it is exact`)
	}
	if err := checkURI(s); err != nil {
		return "", err
	}
	if strings.Contains(s, "//") {
		return "", errors.New(`has an empty segment ("//"), which intermediaries fold or keep as they please`)
	}
	for seg := range strings.SplitSeq(s[1:], "/") {
		if isDotSegment(seg) {
			return "", fmt.Errorf("has the segment %s, which clients resolve before they send a request", quote(seg))
		}
	}
	if !exact && len(s) > 1 {
		s = strings.TrimSuffix(s, "/")
	}
	return s, nil
}

// checkRequestPath checks the path of a health check, which may have a query.
func checkRequestPath(s string) error {
	path, query, _ := strings.Cut(s, "?")
	switch {
	case s == "" || s[0] != '/':
		return errors.New(`must begin with "/"`)
	case len(s) > maxPathBytes:
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxPathBytes)
	}
	if err := checkURI(path); err != nil {
		return err
	}
	return checkURI(strings.ReplaceAll(query, "?", "/")) // RFC 3986 section 3.4: "?" is data in a query
}

// checkURI holds s to the characters that a path may have on the wire (RFC
// 3986 section 3.3): unreserved, sub-delims, ":", "@", "/" and "%" with two
// hexadecimal digits.
func checkURI(s string) error {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isLowerAlnum(c), 'A' <= c && c <= 'Z', strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0:
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return fmt.Errorf("has a %% without two hexadecimal digits after it at byte %d", i)
			}
			i += 2
		default:
			r := firstRune(s[i:])
			if c >= 0x80 && r == '\uFFFD' {
				return fmt.Errorf("has the byte 0x%02x, which is not UTF-8", c)
			}
			return fmt.Errorf("has the character %s; write it as requests carry it: %s", strconv.QuoteRune(r), percent(r))
		}
	}
	return nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func percent(r rune) string {
	var b strings.Builder
	for _, c := range []byte(string(r)) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// isDotSegment knows "." and ".." also with encoded dots, which browsers
// resolve alike (WHATWG URL, "double-dot URL path segment").
func isDotSegment(seg string) bool {
	if len(seg) > len("%2e%2e") {
		return false
	}
	switch strings.ReplaceAll(strings.ToLower(seg), "%2e", ".") {
	case ".", "..":
		return true
	}
	return false
}
