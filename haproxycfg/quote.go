package haproxycfg

import (
	"strconv"
	"time"
)

// text is rendered configuration. Its methods append; none of them can be made
// to add a line or a word by the value that it is given, provided that the
// value passed validation: line ends and NUL have no quoted form.
type text []byte

// bare says which bytes may stand outside quotes. "%" is left out although the
// word splitter ignores it, so that whoever reads the file need not wonder.
var bare = func() (ok [256]bool) {
	for c := range ok {
		ok[c] = nameByte[c]
	}
	for _, c := range "/,@+=*[]" {
		ok[c] = true
	}
	return ok
}()

// nameByte says which bytes HAProxy allows in the names of proxies and servers
// (invalid_char in its source).
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

// line begins a line inside a section.
func (t *text) line(keyword string) {
	*t = append(*t, "\n    "...)
	*t = append(*t, keyword...)
}

// section begins a section.
func (t *text) section(keyword, name string) {
	if len(*t) > 0 {
		*t = append(*t, "\n\n"...)
	}
	*t = append(*t, keyword...)
	if name != "" {
		t.raw(" ")
		t.raw(name)
	}
}

// raw appends what needs no quotes: own keywords and validated names.
func (t *text) raw(s string) { *t = append(*t, s...) }

// word appends a space and s as exactly one word, whatever it holds. Single
// quotes are used, inside of which HAProxy interprets nothing (configuration
// manual, section 2.2).
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

// duration appends d in the unit that reads best: HAProxy knows no "1m30s", and
// 90s is plainer than 90000ms.
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

// logFormat doubles "%" for words that HAProxy reads as a log-format.
func logFormat(s string) string {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+n)
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			b = append(b, '%')
		}
		b = append(b, s[i])
	}
	return string(b)
}
