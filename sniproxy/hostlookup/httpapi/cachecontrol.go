package httpapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// freshness returns the TTL of an answer:
//
//   - 0 means that the answer sets no time.
//   - Revalidate means that the answer is already stale, as with no-cache or max-age=0. A cache may
//     keep it, and use it as a stale answer (RFC 9111 sections 4.2.4 and 5.2.2.4).
//   - A negative TTL means that a cache must not keep the answer (no-store).
//
// freshness ignores must-revalidate and proxy-revalidate, although they forbid stale answers (RFC
// 9111 sections 5.2.2.2 and 5.2.2.8). Many web frameworks add must-revalidate to every answer, and
// each failure of such an API would cut off known hosts. An API that does not want stale answers
// can send no-store.
func freshness(h http.Header) time.Duration {
	d := parseCacheControl(strings.Join(h.Values("Cache-Control"), ","))
	if d.noStore {
		return -1
	}
	if d.noCache {
		return hostlookup.Revalidate
	}
	ttl := d.maxAge
	if d.sMaxAge != unset {
		ttl = d.sMaxAge // a router serves many clients, so its cache is a shared cache
	}
	if ttl == unset {
		return 0
	}
	if age, ok := apiclient.ParseSeconds(strings.TrimSpace(h.Get("Age"))); ok {
		ttl -= age
	}
	if ttl <= 0 {
		return hostlookup.Revalidate
	}
	return time.Duration(ttl) * time.Second
}

// directives are the directives of Cache-Control that a Client uses. maxAge and sMaxAge are in
// seconds.
type directives struct {
	noStore, noCache bool
	maxAge, sMaxAge  int64
}

const unset = -1

// parseCacheControl reads the value of a Cache-Control header, whose directives are separated by
// commas. A directive is a name, perhaps with a token or a quoted string. If a directive comes
// twice, the smaller value counts. If the value of max-age or s-maxage is not a number,
// parseCacheControl ignores the directive.
func parseCacheControl(s string) directives {
	d := directives{maxAge: unset, sMaxAge: unset}
	for s != "" {
		var name, value string
		name, value, s = nextDirective(s)
		switch strings.ToLower(name) {
		case "no-store":
			d.noStore = true
		case "no-cache":
			// A no-cache with a value concerns only the header fields that the value names, and not
			// the answer.
			d.noCache = d.noCache || value == ""
		case "max-age":
			smaller(&d.maxAge, value)
		case "s-maxage":
			smaller(&d.sMaxAge, value)
		}
	}
	return d
}

// The function "smaller" reads a number of seconds from value. It stores the number in *age if *age
// is unset or larger. If value is not a number, *age does not change.
func smaller(age *int64, value string) {
	if n, ok := apiclient.ParseSeconds(value); ok && (*age == unset || n < *age) {
		*age = n
	}
}

// nextDirective splits the value of a Cache-Control header. It returns the name and the value of
// the first directive, and the rest of the header after it.
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

// unquote reads a quoted string (RFC 9110 section 5.6.4). The argument s begins after the opening
// quote. The result "rest" is the text after the closing quote.
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
