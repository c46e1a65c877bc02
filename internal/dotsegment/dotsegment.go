// Package dotsegment finds dot segments in the paths of requests: segments that some server
// resolves as "." or "..". Through them, a request could reach a path that its route does not
// cover.
package dotsegment

import (
	"net/url"
	"regexp"
)

// Pattern is a regular expression that finds a path segment "." or "..". Use it without regard to
// case: with "-i" in HAProxy and with "(?i)" in package regexp. The dots and slashes may be
// percent-encoded up to four times. The expression also covers these forms, which only some servers
// read as a dot or as the end of a segment:
//   - "\" (Windows),
//   - ";" and parameters (servlets),
//   - "?", "#" and NUL, which end a path for a server that decodes first,
//   - "%25%32%65" and "%%32%65", which a server that decodes twice reads as ".", and the same for
//     the other ASCII characters of this list,
//   - "%c0%ae", "%e0%80%ae" and "%f0%80%80%ae", which are overlong UTF-8 for ".", and the same for
//     "/" and "\",
//   - "%u002e" (old IIS), and the same for "/" and "\",
//   - the characters U+FF0E, U+FF0F, U+FF3C, U+2044, U+2215 and U+2216, which Unicode's
//     compatibility forms or the best-fit tables of Windows turn into ".", "/" or "\".
//
// Each repetition has a bound, so that no path makes PCRE reach its limits. HAProxy would take such
// an error of PCRE for "no match".
const Pattern = "(^|" + segmentEnd + ")(" + encodedDot + "){1,2}(" + segmentEnd + "|[;?#]|" + percent + "(" + three + "([bf]|" + percent + "[46][26])|" + two + three + "|" + zero + zero + ")|$)"

const (
	percent = `%(25){0,3}` // "%", encoded up to three times
	zero    = "(0|" + percent + "30)"
	two     = "(2|" + percent + "32)"
	three   = "(3|" + percent + "33)"
	five    = "(5|" + percent + "35)"

	encodedDot = `[.]|` + percent + "(" + two + "(e|" + percent + "[46]5)|u(002e|ff0e)|" +
		"c0" + percent + "ae|e0" + percent + "80" + percent + "ae|f0" + percent + "80" + percent + "80" + percent + "ae|" +
		"ef" + percent + "bc" + percent + "8e)"
	segmentEnd = `[/\\]|` + percent + "(" + two + "(f|" + percent + "[46]6)|" + five + "(c|" + percent + "[46]3)|" +
		"u(002f|005c|ff0f|ff3c|2044|2215|2216)|" +
		"c0" + percent + "af|e0" + percent + "80" + percent + "af|f0" + percent + "80" + percent + "80" + percent + "af|c1" + percent + "9c|" +
		"ef" + percent + "bc" + percent + "(8f|bc)|e2" + percent + "(81" + percent + "84|88" + percent + "9[56]))"
)

// Stripped is a regular expression for encoded tabs and ends of lines. Parsers that follow the URL
// Standard of WHATWG, and Python's urllib.parse.urlsplit, remove these characters. So "/.%09./"
// becomes "/../" in a server that decodes a path before it parses the path. In a server that
// decodes the path twice, "/.%25%30%39./" also becomes "/../".
const Stripped = percent + zero + "([9ad]|" + percent + "(39|[46][14]))"

var (
	pattern  = regexp.MustCompile("(?i)" + Pattern)
	stripped = regexp.MustCompile("(?i)" + Stripped)
)

// In reports whether a path has a dot segment. "%2e" counts as a dot. In examines three forms of
// the path, as HAProxy does: the path itself, the path decoded once, and the path without the parts
// that match Stripped.
func In(path string) bool {
	if pattern.MatchString(path) || pattern.MatchString(stripped.ReplaceAllLiteralString(path, "")) {
		return true
	}
	decoded, err := url.PathUnescape(path)
	return err == nil && decoded != path && pattern.MatchString(decoded)
}
