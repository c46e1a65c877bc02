package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSeconds is how numbers too large are read (RFC 9111 section 1.2.2).
const maxSeconds = 1 << 31

// freshness returns for how long an answer may be kept: 0 if it does not say,
// negative for not at all.
func freshness(h http.Header) time.Duration {
	d := parseCacheControl(strings.Join(h.Values("Cache-Control"), ","))
	if d.noStore {
		return -1
	}
	ttl := d.maxAge
	if d.sMaxAge != unset {
		ttl = d.sMaxAge // a router serves many: it is a shared cache
	}
	if ttl == unset {
		return 0
	}
	if age, ok := parseSeconds(strings.TrimSpace(h.Get("Age"))); ok {
		ttl -= age
	}
	if ttl <= 0 {
		return -1
	}
	return time.Duration(ttl) * time.Second
}

// directives are the members of Cache-Control that matter here. Ages are in seconds.
type directives struct {
	noStore         bool // no-store, or no-cache, which comes to the same without validators
	maxAge, sMaxAge int64
}

const unset = -1

// parseCacheControl reads a Cache-Control field: names with optional values, as token
// or quoted string, between commas. Of a directive that comes twice, the smaller
// value counts; one with a value that is no number is as if it were not there.
func parseCacheControl(s string) directives {
	d := directives{maxAge: unset, sMaxAge: unset}
	for s != "" {
		var name, value string
		name, value, s = nextDirective(s)
		switch strings.ToLower(name) {
		case "no-store":
			d.noStore = true
		case "no-cache":
			// no-cache="field" is about that field alone.
			d.noStore = d.noStore || value == ""
		case "max-age":
			smaller(&d.maxAge, value)
		case "s-maxage":
			smaller(&d.sMaxAge, value)
		}
	}
	return d
}

func smaller(age *int64, value string) {
	if n, ok := parseSeconds(value); ok && (*age == unset || n < *age) {
		*age = n
	}
}

// nextDirective cuts the first directive off.
func nextDirective(s string) (name, value, rest string) {
	end := strings.IndexAny(s, ",=")
	if end < 0 {
		return strings.Trim(s, " \t"), "", ""
	}
	name, rest = strings.Trim(s[:end], " \t"), s[end+1:]
	if s[end] == ',' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest, " \t")
	if !strings.HasPrefix(rest, `"`) {
		value, rest, _ = strings.Cut(rest, ",")
		return name, strings.Trim(value, " \t"), rest
	}
	value, rest = unquote(rest[1:])
	_, rest, _ = strings.Cut(rest, ",")
	return name, value, rest
}

// unquote reads a quoted string behind its first quote (RFC 9110 section 5.6.4).
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return b.String(), ""
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

func parseSeconds(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > maxSeconds {
		n = maxSeconds
	}
	return n, true
}

// retryAfter returns how long to leave the server alone, 0 if it does not say
// (RFC 9110 section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if n, ok := parseSeconds(s); ok {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	// By the server's clock, if it tells it.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(at.Sub(now), 0)
}
