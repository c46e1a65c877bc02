package routes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tableOf makes a table from keys. "host/path" becomes a route, and "=host/path" becomes an exact
// route.
func tableOf(t testing.TB, keys ...string) Table {
	var rs []Route
	for _, k := range keys {
		key, exact := strings.CutPrefix(k, "=")
		host, path, _ := strings.Cut(key, "/")
		rs = append(rs, Route{Host: host, Path: "/" + path, Exact: exact, Backends: []Backend{tracks}})
	}
	table, problems := New(rs...)
	require.Empty(t, problems)
	return table
}

func TestMatch(t *testing.T) {
	table := tableOf(t,
		"a.example/", "a.example/api", "a.example/api/v1", "=a.example/api", "=a.example/api/", "=a.example/only", "a.example/x%2Fy",
		"*.example/", "*.example/api", "*.b.example/deep", "=c.example/", "c.example/in", "=d.example/", "d.example/")
	for _, c := range []struct{ host, path, want string }{
		{"a.example", "/", "a.example/"},
		{"a.example", "/other", "a.example/"},
		{"a.example", "/api", "=a.example/api"},
		{"a.example", "/api/", "=a.example/api/"},
		{"a.example", "/api/x", "a.example/api"},
		{"a.example", "/apiary", "a.example/"},
		{"a.example", "/api/v1", "a.example/api/v1"},
		{"a.example", "/api/v1/", "a.example/api/v1"},
		{"a.example", "/api/v1/x/y", "a.example/api/v1"},
		{"a.example", "/api/v10", "a.example/api"},
		{"a.example", "/only", "=a.example/only"},
		{"a.example", "/only/", "a.example/"},
		{"a.example", "/API", "a.example/"},
		{"a.example", "/%61pi", "a.example/"},
		{"a.example", "//api", "a.example/"},
		{"a.example", "/api//v1", "a.example/api"},
		{"a.example", "/api/../v1", "a.example/api"},
		{"a.example", "/x%2Fy/z", "a.example/x%2Fy"},
		{"a.example", "/x%2fy", "a.example/"},
		{"a.example", "/x/y", "a.example/"},
		{"a.example", "/" + strings.Repeat("l", 5000), "a.example/"},
		{"a.example", "/api/" + strings.Repeat("l/", 5000), "a.example/api"},

		{"A.EXAMPLE", "/only", "=a.example/only"},
		{"a.example.", "/only", "=a.example/only"},
		{"a.example:8443", "/only", "=a.example/only"},
		{"a.example.:8443", "/only", "=a.example/only"},
		{"a.example:", "/only", "=a.example/only"},
		{"a.example..", "/only", ""},
		{"a.example:80:80", "/only", ""},
		{"a.example:8o", "/only", ""},

		{"other.example", "/", "*.example/"},
		{"Other.Example.:80", "/api/v1", "*.example/api"},
		{"x_y.example", "/", "*.example/"},
		{"b.example", "/deep", "*.example/"},
		{"x.b.example", "/deep", "*.b.example/deep"},
		{"x.b.example", "/", ""},
		{"x.y.b.example", "/deep", ""},
		{"x.a.example", "/", ""},
		{".example", "/", ""},
		{"example", "/", ""},
		{"*.example", "/", ""},
		{"evil/x.example", "/", ""},
		{"[::1].example", "/", ""},
		{"x:80.example", "/", ""},
		{"user@x.example", "/", ""},
		{"\u00e4.example", "/", ""},

		// A declared host hides the wildcard, even for paths that the host does not declare.
		{"c.example", "/", "=c.example/"},
		{"c.example", "/api", ""},
		{"c.example", "/in", "c.example/in"},
		{"c.example", "/in/side", "c.example/in"},
		{"d.example", "/", "=d.example/"},
		{"d.example", "/x", "d.example/"},

		{"", "/", ""},
		{".", "/", ""},
		{":80", "/", ""},
		{"unknown.test", "/", ""},
		{"[::1]:80", "/", ""},
		{"127.0.0.1", "/", ""},
		{strings.Repeat("a", 245) + ".example", "/", "*.example/"},
		{strings.Repeat("a", 246) + ".example", "/", "*.example/"},
		{strings.Repeat("A", 5000) + ".Example.:80", "/", "*.example/"},
		{strings.Repeat("a", 5000), "/", ""},
		{strings.Repeat("a.", 5000), "/", ""},
		{"a.example", "", ""},
		{"a.example", "*", ""},
		{"a.example", "api", ""},
	} {
		t.Run(c.host+c.path, func(t *testing.T) {
			r, ok := table.Match(c.host, c.path)
			require.Equal(t, c.want, short(r, ok))
			r, ok = slowMatch(table, c.host, c.path)
			require.Equal(t, c.want, short(r, ok), "the slow model")
		})
	}
}

func short(r Route, ok bool) string {
	switch {
	case !ok:
		return ""
	case r.Exact:
		return "=" + r.Host + r.Path
	}
	return r.Host + r.Path
}

// slowMatch does the same as Match without binary search: it compares the request with every route.
func slowMatch(t Table, host, path string) (Route, bool) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	host = strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.TrimSuffix(host, "."))
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return Route{}, false
	}
	of := func(name string) (rs []Route) {
		for _, r := range t.routes {
			if r.Host == name {
				rs = append(rs, r)
			}
		}
		return rs
	}
	rs := of(host)
	if first, rest, ok := strings.Cut(host, "."); ok && len(rs) == 0 && first != "" && rest != "" {
		rs = of("*." + rest)
	}
	best, found := Route{}, false
	for _, r := range rs {
		if r.Exact && r.Path == path {
			return r, true
		}
		if !r.Exact && strings.HasPrefix(path+"/", strings.TrimSuffix(r.Path, "/")+"/") && strings.HasPrefix(path, "/") &&
			(!found || len(r.Path) > len(best.Path)) {
			best, found = r, true
		}
	}
	return best, found
}

// TestMatchAgainstSlow compares Match with slowMatch on random tables. The tables have few names,
// so that many requests match, nearly match, or meet a hidden wildcard.
func TestMatchAgainstSlow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(s ...string) string { return s[rnd.IntN(len(s))] }
	path := func() string {
		var b strings.Builder
		for range rnd.IntN(4) {
			b.WriteString("/" + pick("a", "b", "ab", "a-", "a.b", "A"))
		}
		return b.String()
	}
	host := func() string {
		h := pick("a", "b", "c", "*") + pick(".x", ".y", ".a.x", ".b.x")
		return h + pick("", ".z")
	}
	hits := 0
	for range 300 {
		var rs []Route
		for range rnd.IntN(25) {
			r := Route{Host: host(), Path: path(), Exact: rnd.IntN(3) == 0, Backends: []Backend{tracks}}
			if r.Exact && r.Path != "" && rnd.IntN(3) == 0 {
				r.Path += "/"
			}
			rs = append(rs, r)
		}
		table, _ := New(rs...) // conflicts are expected
		for range 200 {
			h := strings.ReplaceAll(host(), "*", pick("a", "d", "A")) + pick("", "", ".", ":80", ".:80")
			p := "/" + strings.TrimPrefix(path()+pick("", "", "/", "//", "/a"), "/")
			got, ok := table.Match(h, p)
			want, wantOK := slowMatch(table, h, p)
			require.Equal(t, short(want, wantOK), short(got, ok), "%s%s in %v", h, p, table.routes)
			if ok {
				hits++
			}
		}
	}
	require.Greater(t, hits, 5_000)
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := tableOf(t, "*.a-rather-long-name-beyond-any-small-buffer.example/api", "b.example/")
	allocs := testing.AllocsPerRun(100, func() {
		table.Match("X.A-Rather-Long-Name-Beyond-Any-Small-Buffer.Example.:443", "/api/x/y")
		table.Match("b.example", "/")
	})
	require.Zero(t, allocs)
}

// declarations writes a file of n routes for n/4 hosts, with one or two backends each.
func declarations(n int) []byte {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&b, "- host: host-%d.example.com\n  path: /part-%d/api\n  backends:\n  - {cluster: eu-1, namespace: ns-%d, service: svc-%d, port: http}\n", i/4, i%4, i%50, i)
		if i%2 == 0 {
			fmt.Fprintf(&b, "  - {cluster: eu-2, namespace: ns-%d, service: svc-%d, port: http, weight: 50}\n", i%50, i)
		}
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			data := declarations(n)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if t, problems := Parse("f", data); len(t.routes) != n || len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		table, _ := Parse("f", declarations(n))
		for _, c := range []struct{ name, host, path string }{
			{"hit", "host-77.example.com", "/part-2/api/v1/things/9"},
			{"miss", "unknown.example.com", "/part-2/api/v1/things/9"},
		} {
			b.Run(fmt.Sprintf("routes=%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := table.Match(c.host, c.path); ok != (c.name == "hit") {
						b.Fatal(ok)
					}
				}
			})
		}
	}
}
