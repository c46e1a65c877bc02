package routes

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzParse: Parse never panics. Every problem has a position. Every route is in normal form. If
// AppendYAML writes a table and Parse reads it again, the table is the same.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		table, problems := Parse("f.yaml", data)
		lines := 1 + strings.Count(string(data), "\n")
		for _, p := range problems {
			require.Equal(t, "f.yaml", p.File)
			require.Positive(t, p.Line)
			require.LessOrEqual(t, p.Line, lines)
			require.NotEmpty(t, p.Message)
			require.NotContains(t, p.Error(), "\n")
			whole := p.Field == "" // Only a fault of a whole document has no field.
			require.True(t, !whole || strings.HasSuffix(p.Message, "nothing of this file is used") || strings.HasPrefix(p.Message, "must be a mapping"), p.Error())
		}
		requireNormal(t, table)
		for _, r := range table.routes {
			require.Equal(t, "f.yaml", r.Position.File)
			require.Positive(t, r.Position.Line)
		}
		written := AppendYAML(nil, table)
		again, problems := Parse("again", written)
		require.Empty(t, problems, string(written))
		want := withoutPositions(table)
		require.Equal(t, want.routes, withoutPositions(again).routes)
		require.Equal(t, string(written), string(AppendYAML(nil, again)))

		// The renderings accept every table that Publishable returns.
		zone := ZoneOptions{Origin: "example", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		published, problems := zone.Publishable(table)
		for _, p := range problems {
			require.Contains(t, p.Message, "underscore")
		}
		_, err := AppendZone(nil, published, zone)
		require.NoError(t, err)
		_, err = AppendCDN(nil, table, CDNOptions{Origin: "origin.no-such-host.invalid"})
		require.NoError(t, err)
	})
}

var (
	hostForm = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*$`)
	pathForm = regexp.MustCompile(`^(/([-._~!$&'()+,;=:@A-Za-z0-9]|%[0-9A-Fa-f]{2})+)*/?$`)
	nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dotForm  = regexp.MustCompile(`(?i)/(\.|%2e){1,2}(/|$)`)
)

// requireNormal checks the rules for a Table with code of its own, not with the code that makes
// tables.
func requireNormal(t testing.TB, table Table) {
	require.True(t, slices.IsSortedFunc(table.routes, func(a, b Route) int {
		return strings.Compare(a.Host+"\x00"+a.Path+map[bool]string{true: "\x00", false: "\x01"}[a.Exact], b.Host+"\x00"+b.Path+map[bool]string{true: "\x00", false: "\x01"}[b.Exact])
	}))
	seen := map[string]bool{}
	for _, r := range table.routes {
		k := short(r, true)
		require.False(t, seen[k], k)
		seen[k] = true

		require.Regexp(t, hostForm, r.Host)
		require.LessOrEqual(t, len(r.Host), 253)
		last := r.Host[strings.LastIndexByte(r.Host, '.')+1:]
		require.NotRegexp(t, `^([0-9]+|0x[0-9a-f]*)$`, last)

		require.Regexp(t, pathForm, r.Path)
		require.NotEmpty(t, r.Path)
		require.LessOrEqual(t, len(r.Path), 1024)
		require.NotRegexp(t, dotForm, r.Path)
		for decoded, i := r.Path, 0; i < 4; i++ {
			require.NotRegexp(t, `[/\\]\.{1,2}([/\\;?#]|$)`, decoded, r.Path)
			var err error
			if decoded, err = url.PathUnescape(decoded); err != nil {
				break
			}
		}
		require.True(t, r.Exact || r.Path == "/" || !strings.HasSuffix(r.Path, "/"), r.Path)

		require.NotEmpty(t, r.Backends)
		require.LessOrEqual(t, len(r.Backends), 64)
		for i, b := range r.Backends {
			require.Regexp(t, nameForm, b.Cluster)
			require.Regexp(t, nameForm, b.Namespace)
			require.Regexp(t, nameForm, b.Service)
			require.Regexp(t, nameForm, b.Port)
			require.True(t, b.Weight >= 0 && b.Weight <= 256)
			require.True(t, i == 0 || r.Backends[i-1].Compare(b.Ref) < 0, "sorted and unique")
		}
		require.LessOrEqual(t, len(r.Prefer), 32)
		for i, p := range r.Prefer {
			require.True(t, p.Region == "" || nameForm.MatchString(p.Region))
			require.True(t, i == 0 || r.Prefer[i-1].Region < p.Region, "sorted and unique")
			require.True(t, p.Quorum >= 0 && p.Quorum <= 100)
			require.True(t, len(p.Clusters) > 0 && len(p.Clusters) <= 4)
			for j, c := range p.Clusters {
				require.NotContains(t, p.Clusters[:j], c)
				require.True(t, slices.ContainsFunc(r.Backends, func(b Backend) bool { return b.Cluster == c }))
			}
		}
		require.Contains(t, []Protocol{"", "h2c", "grpc"}, r.Protocol)
		for _, n := range []int{r.Limits.Requests, r.Limits.Connections, r.Limits.Source.Requests, r.Limits.Source.Connections} {
			require.True(t, n >= 0 && n <= 10_000_000)
		}
		for _, d := range []time.Duration{r.Timeouts.Server, r.Timeouts.Tunnel} {
			require.True(t, d >= 0 && d%time.Millisecond == 0 && d <= (1<<31-1)*time.Millisecond, d)
		}
		if c := r.Check; c != nil {
			require.True(t, c.Interval == 0 || c.Interval >= 100*time.Millisecond && c.Interval%time.Millisecond == 0)
			require.True(t, c.Rise >= 0 && c.Rise <= 100 && c.Fall >= 0 && c.Fall <= 100)
			require.Regexp(t, `^(/[!-~]*)?$`, c.Path)
			require.NotContains(t, c.Path, `"`)
			require.NotContains(t, c.Path, `\`)
			require.True(t, c.Host == "" || c.Path != "" && hostForm.MatchString(c.Host) && c.Host[0] != '*')
		}

		// A route serves its own path, for every spelling of its host.
		host := strings.Replace(r.Host, "*", "any-label-of-nobody", 1)
		if got, ok := table.Match(strings.ToUpper(host)+".:8443", r.Path); len(host) <= 253 && !table.has(host) {
			require.True(t, ok)
			if r.Exact || !seenExact(table, r) {
				require.Equal(t, short(r, true), short(got, ok))
			}
		}
	}
}

// The method has reports whether a table declares the host by which requireNormal replaces a
// wildcard.
func (t Table) has(host string) bool {
	return strings.HasPrefix(host, "any-label-of-nobody.") && slices.Contains(t.Hosts(), host)
}

func seenExact(t Table, r Route) bool {
	return slices.ContainsFunc(t.routes, func(o Route) bool { return o.Exact && o.Host == r.Host && o.Path == r.Path })
}

// FuzzMatch: for every request, Match returns the same route as slowMatch. If a host is in normal
// form, its normal form is the host itself.
func FuzzMatch(f *testing.F) {
	f.Fuzz(func(t *testing.T, host, path, declaredHost, declaredPath string, exact bool) {
		if normal, err := normalPattern(declaredHost); err == nil {
			again, err := normalPattern(normal)
			require.NoError(t, err)
			require.Equal(t, normal, again, "the normal form is a fixed point")
		}
		backends := []Backend{tracks}
		table, _ := New(
			Route{Host: declaredHost, Path: declaredPath, Exact: exact, Backends: backends},
			Route{Host: declaredHost, Path: "/a", Backends: backends},
			Route{Host: "*.example", Backends: backends},
			Route{Host: "a.example", Path: "/a/b", Backends: backends},
			Route{Host: "a.example", Path: "/a", Exact: true, Backends: backends},
		)
		requireNormal(t, table)
		got, ok := table.Match(host, path)
		want, wantOK := slowMatch(table, host, path)
		require.Equal(t, short(want, wantOK), short(got, ok))
	})
}
