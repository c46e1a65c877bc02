// Package dotsegment finds dot segments in the paths of requests: segments that some server
// resolves as "." or "..". Through them, a request could reach a path that its route does not
// cover.
package dotsegment

import (
	"net/url"
	"regexp"
)

// Pattern is a regular expression that finds a path segment "." or "..". HAProxy and package regexp
// can use it. Case must not matter, so use it with "-i" in HAProxy and with "(?i)" in package
// regexp. The dots and slashes may be percent-encoded up to four times. Servers disagree about what
// a dot is and what ends a segment. So the expression also covers these forms, which only some
// servers accept:
//   - "\" (Windows),
//   - ";" and parameters (servlets),
//   - "?", "#" and NUL, which end a path for a server that decodes first,
//   - "%c0%ae" and "%e0%80%ae", which are overlong UTF-8 for ".", and the same for "/" and "\",
//   - "%u002e" (old IIS), and the same for "/" and "\".
//
// Each repetition has a bound, so that no path makes PCRE reach its limits. HAProxy would read such
// a failure of PCRE as "no match".
const Pattern = "(^|" + segmentEnd + ")(" + encodedDot + "){1,2}(" + segmentEnd + "|[;?#]|%(25){0,3}(3b|3f|23|00)|$)"

const (
	encodedDot = `[.]|%(25){0,3}(2e|u002e|c0%(25){0,3}ae|e0%(25){0,3}80%(25){0,3}ae)`
	segmentEnd = `[/\\]|%(25){0,3}(2f|5c|u002f|u005c|c0%(25){0,3}af|e0%(25){0,3}80%(25){0,3}af|c1%(25){0,3}9c)`
)

var pattern = regexp.MustCompile("(?i)" + Pattern)

// In reports whether a path has a dot segment. "%2e" counts as a dot. Like HAProxy, In also decodes
// the path once and looks again, so it finds "%25%32%65", which becomes "%2e".
func In(path string) bool {
	if pattern.MatchString(path) {
		return true
	}
	decoded, err := url.PathUnescape(path)
	return err == nil && decoded != path && pattern.MatchString(decoded)
}
