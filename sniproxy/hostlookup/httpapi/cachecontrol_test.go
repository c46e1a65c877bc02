package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

func TestFreshness(t *testing.T) {
	for _, test := range []struct {
		control []string
		age     string
		want    time.Duration // negative means that it must not be kept
	}{
		{nil, "", 0},
		{[]string{""}, "", 0},
		{[]string{"public"}, "", 0},
		{[]string{"max-age=60"}, "", time.Minute},
		{[]string{"Max-Age=60"}, "", time.Minute},
		{[]string{"public, max-age=60, must-revalidate"}, "", time.Minute},
		{[]string{"public,max-age=60,"}, "", time.Minute},
		{[]string{"public", "max-age=60"}, "", time.Minute},
		{[]string{" \tmax-age=60\t "}, "", time.Minute},
		{[]string{`max-age="60"`}, "", time.Minute},
		{[]string{`max-age="6\0", public`}, "", time.Minute},
		{[]string{"max-age=0"}, "", hostlookup.Revalidate},
		{[]string{"max-age"}, "", 0},
		{[]string{"max-age="}, "", 0},
		{[]string{"max-age=-1"}, "", 0},
		{[]string{"max-age=1.5"}, "", 0},
		{[]string{"max-age=60s"}, "", 0},
		{[]string{"x-max-age=60"}, "", 0},
		{[]string{"max-age=60, max-age=30"}, "", 30 * time.Second},
		{[]string{"max-age=nonsense, max-age=30"}, "", 30 * time.Second},
		{[]string{"max-age=99999999999999999999999999"}, "", apiclient.MaxSeconds * time.Second},
		{[]string{"max-age=60, s-maxage=10"}, "", 10 * time.Second},
		{[]string{"s-maxage=100, max-age=60"}, "", 100 * time.Second},
		{[]string{"s-maxage=0, max-age=60"}, "", hostlookup.Revalidate},
		{[]string{"no-store"}, "", -1},
		{[]string{"No-Store, max-age=60"}, "", -1},
		{[]string{"max-age=60", "no-store"}, "", -1},
		{[]string{"no-cache"}, "", hostlookup.Revalidate},
		{[]string{"no-cache, max-age=60"}, "", hostlookup.Revalidate},
		{[]string{"No-Cache", "no-store"}, "", -1},
		{[]string{"max-age=0, must-revalidate"}, "", hostlookup.Revalidate},
		{[]string{"max-age=0, private, must-revalidate"}, "", hostlookup.Revalidate},
		{[]string{"must-revalidate, proxy-revalidate, max-age=60"}, "", time.Minute},
		{[]string{"must-revalidate"}, "", 0},
		{[]string{`no-cache="set-cookie", max-age=60`}, "", time.Minute},
		{[]string{`private="a, no-store, b", max-age=60`}, "", time.Minute},
		{[]string{`ext="max-age=5\", max-age=6", max-age=60`}, "", time.Minute},
		{[]string{`ext="never closed, no-store`}, "", 0},
		{[]string{`ext="ends in \`}, "", 0},
		{[]string{"max-age=60"}, "20", 40 * time.Second},
		{[]string{"max-age=60"}, "60", hostlookup.Revalidate},
		{[]string{"max-age=60"}, "99999999999999999999", hostlookup.Revalidate},
		{[]string{"max-age=60"}, "-5", time.Minute},
		{nil, "20", 0},
	} {
		h := http.Header{}
		for _, v := range test.control {
			h.Add("Cache-Control", v)
		}
		if test.age != "" {
			h.Set("Age", test.age)
		}
		require.Equal(t, test.want, freshness(h), "%q, Age %q", test.control, test.age)
	}
}

// For every value of the header, the parser returns, and the ages are in range. If the test puts
// further directives before the value, the parser finds these directives.
func FuzzCacheControl(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		d := parseCacheControl(s)
		for _, age := range []int64{d.maxAge, d.sMaxAge} {
			if age < unset || age > apiclient.MaxSeconds {
				t.Fatalf("%q: age %d", s, age)
			}
		}
		if d.noStore && !strings.Contains(strings.ToLower(s), "no-store") {
			t.Fatalf("%q: no-store from nowhere", s)
		}
		if d.noCache && !strings.Contains(strings.ToLower(s), "no-cache") {
			t.Fatalf("%q: no-cache from nowhere", s)
		}
		with := parseCacheControl("no-store, no-cache, max-age=7," + s)
		if !with.noStore || !with.noCache || with.maxAge > 7 || with.maxAge == unset {
			t.Fatalf("%q hides what stands before it: %+v", s, with)
		}
		if want := min(uint64(7), uint64(d.maxAge)); uint64(with.maxAge) != want {
			t.Fatalf("%q: max-age %d, want %d", s, with.maxAge, want)
		}
		if again := parseCacheControl(s + "," + s); !strings.ContainsAny(s, `"\`) && again != d {
			t.Fatalf("%q twice is %+v, once %+v", s, again, d)
		}
	})
}
