package haproxycfg

import (
	"strconv"
	"strings"
	"time"
)

// text is rendered configuration. Its methods append to it, and quote each value. After Validate, a
// value is always one word of one line, because Validate rejects line ends and NUL, which quotes
// cannot contain.
type text []byte

// bare contains the bytes that need no quotes. It does not contain "%": HAProxy accepts "%" without
// quotes, but many people who read the file do not know that.
var bare = func() (ok [256]bool) {
	for c := range ok {
		ok[c] = nameByte[c]
	}
	for _, c := range "/,@+=*[]" {
		ok[c] = true
	}
	return ok
}()

// nameByte contains the bytes that HAProxy allows in names of proxies and servers (invalid_char in
// its source).
var nameByte = func() (ok [256]bool) {
	for c := range ok {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			ok[c] = true
		case c == '-', c == '_', c == '.', c == ':':
			ok[c] = true
		}
	}
	return ok
}()

// line begins a line of a section.
func (t *text) line(keyword string) {
	*t = append(*t, "\n    "...)
	*t = append(*t, keyword...)
}

// section begins a section. Sections never come first in haproxy.cfg: the constant "notice" does.
func (t *text) section(keyword, name string) {
	*t = append(*t, "\n\n"...)
	*t = append(*t, keyword...)
	if name != "" {
		t.raw(" ")
		t.raw(name)
	}
}

// The method "raw" appends a keyword or a validated name without quotes.
func (t *text) raw(s string) { *t = append(*t, s...) }

// word appends a space and, after it, the text s as exactly one word, in single quotes if
// necessary. HAProxy interprets nothing inside single quotes (configuration manual, section 2.2).
func (t *text) word(s string) {
	*t = append(*t, ' ')
	*t = appendQuoted(*t, s)
}

func appendQuoted(b []byte, s string) []byte {
	quote := s == ""
	for i := 0; i < len(s) && !quote; i++ {
		quote = !bare[s[i]]
	}
	if !quote {
		return append(b, s...)
	}
	b = append(b, '\'')
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			b = append(b, `'\''`...)
			continue
		}
		b = append(b, s[i])
	}
	return append(b, '\'')
}

func (t *text) int(n int) {
	*t = append(*t, ' ')
	*t = strconv.AppendInt(*t, int64(n), 10)
}

// duration appends a space and d, as a whole number of the largest possible unit: hours, minutes
// (for 10m and longer), seconds or milliseconds. HAProxy cannot read "1m30s".
func (t *text) duration(d time.Duration) {
	*t = append(*t, ' ')
	unit, name := time.Millisecond, "ms"
	switch {
	case d%time.Hour == 0:
		unit, name = time.Hour, "h"
	case d%time.Minute == 0 && d >= 10*time.Minute:
		unit, name = time.Minute, "m"
	case d%time.Second == 0:
		unit, name = time.Second, "s"
	}
	*t = strconv.AppendInt(*t, int64(d/unit), 10)
	t.raw(name)
}

// logFormat doubles each "%" of s. HAProxy reads some words as a log-format, in which "%" begins a
// variable.
func logFormat(s string) string { return strings.ReplaceAll(s, "%", "%%") }
