package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestPlan(t *testing.T) {
	d := &Dir{Path: filepath.Join(t.TempDir(), "conf")}
	a, b := testConfig("/run", 80, 1, 2), testConfig("/run", 80, 2, 3, 4)
	plan := func(c *haproxycfg.Config) *Plan {
		t.Helper()
		p, err := d.Plan(c)
		require.NoError(t, err)
		whole, err := d.Diff(c)
		require.NoError(t, err)
		require.Equal(t, whole.Empty(), p.Diff.Empty())
		require.Empty(t, p.Diff.Text)
		whole.Text = ""
		require.Equal(t, whole, p.Diff)
		return p
	}
	p := plan(a)
	require.Equal(t, ServerCounts{After: 2, Added: 2}, p.Diff.Servers)
	require.NoDirExists(t, d.Path, "a plan changes nothing")
	changed, err := p.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("1")})
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, rendered(t, d.Path, a), onDisk(t, d.Path, configFile))
	require.Equal(t, "1", onDisk(t, d.Path, "report.json"))

	before := snapshot(t, d.Path)
	same := plan(a)
	require.True(t, same.Diff.Empty())
	require.Equal(t, p.ID(), same.ID())
	changed, err = same.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("1")})
	require.NoError(t, err)
	require.False(t, changed)
	requireUntouched(t, d.Path, before)
	changed, err = same.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("2")})
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, "2", onDisk(t, d.Path, "report.json"))

	next := plan(b)
	require.Equal(t, ServerCounts{Before: 2, After: 3, Added: 2, Removed: 1}, next.Diff.Servers)
	require.NotEqual(t, p.ID(), next.ID())
	stale := plan(testConfig("/run", 80, 9))
	_, err = next.Apply(t.Context())
	require.NoError(t, err)
	_, err = stale.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("3")})
	require.ErrorIs(t, err, ErrStalePlan)
	require.Equal(t, rendered(t, d.Path, b), onDisk(t, d.Path, configFile))
	require.Equal(t, "2", onDisk(t, d.Path, "report.json"))
	_, err = next.Apply(t.Context())
	require.NoError(t, err, "a plan may be applied again")
}

func TestAuxiliaryFilesAreWrittenOnlyIfTheConfigurationIsInForce(t *testing.T) {
	var refuse, broken error
	d := &Dir{
		Path:   t.TempDir(),
		Check:  func(context.Context, haproxycfg.Valid) error { return refuse },
		Reload: func(context.Context) error { return broken },
	}
	apply := func(c *haproxycfg.Config, report string) error {
		p, err := d.Plan(c)
		require.NoError(t, err)
		_, err = p.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte(report)})
		return err
	}
	require.NoError(t, apply(testConfig("/run", 80, 1), "one"))
	refuse = errors.New("no")
	require.ErrorIs(t, apply(testConfig("/run", 80, 2), "two"), refuse)
	require.Equal(t, "one", onDisk(t, d.Path, "report.json"))
	refuse, broken = nil, errors.New("reload")
	require.ErrorIs(t, apply(testConfig("/run", 80, 2), "two"), broken)
	require.Equal(t, "one", onDisk(t, d.Path, "report.json"))
	broken = nil
	require.NoError(t, apply(testConfig("/run", 80, 2), "two"))
	require.Equal(t, "two", onDisk(t, d.Path, "report.json"))

	changed, err := d.WriteAuxiliary(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("three")})
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, rendered(t, d.Path, testConfig("/run", 80, 2)), onDisk(t, d.Path, configFile))
	require.NoError(t, os.Remove(filepath.Join(d.Path, "report.json")))
	require.NoError(t, os.Mkdir(filepath.Join(d.Path, "report.json"), 0o755))
	_, err = d.WriteAuxiliary(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("three")})
	require.ErrorContains(t, err, "the configuration is in force, but")
}

// TestEqualSectionsAreSkipped compares random texts. Skipping the sections with the same text does
// not change the result, and neither does what a Dir remembers of earlier texts.
func TestEqualSectionsAreSkipped(t *testing.T) {
	lines := []string{
		"global", "defaults", "backend a", "backend b", "  backend c", "frontend f", "server s1 1.2.3.4:5", "\tserver s1 1.2.3.4:6",
		"server s2 x", "server", "    server s3 x", "    server  s4\tx", "    server ", "    server \u0085s5", "server\ts6", "mode http", "# comment", "", "use_backend %[path,map_str(maps/x-0123456789abcdef.map)]",
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteString(lines[r.IntN(len(lines))] + "\n")
		}
		return b.String()
	}
	differ := 0
	var remembered texts
	for range 3000 {
		common := text()
		before, after := common+text(), common+text()
		if r.IntN(4) == 0 {
			after = strings.Replace(before, "s1", "s2", 1)
		}
		var want, got Diff
		compareAll(&want, before, after)
		got.compareConfigs(remembered.sections([]byte(before)), remembered.sections([]byte(after)))
		require.Equal(t, want, got, "%q\n%q", before, after)
		require.Equal(t, namedFiles([]byte(after)), remembered.parse([]byte(after)).files)
		require.LessOrEqual(t, len(remembered.last), 2)
		if want.Servers.Removed > 0 {
			differ++
		}
	}
	require.Greater(t, differ, 500)
}

// compareAll does the same as compareConfigs, and parses all sections.
func compareAll(d *Diff, before, after string) {
	a, b := cutSections([]byte(before)), cutSections([]byte(after))
	heads := maps.Clone(a)
	maps.Copy(heads, b)
	for _, head := range slices.Sorted(maps.Keys(heads)) {
		d.Servers.Before += len(a[head].lines().servers)
		d.Servers.After += len(b[head].lines().servers)
		d.addSection(head, compareSections(head, a, b))
	}
}

func BenchmarkPlan(b *testing.B) {
	config := func(first int) *haproxycfg.Config {
		c := testConfig("/run", 80)
		for i := range 2000 {
			backend := haproxycfg.Backend{Name: fmt.Sprintf("service-%d", i)}
			for j := range 20 {
				port := uint16(30000 + i)
				if i%50 == 0 && j == 0 {
					port += uint16(first)
				}
				backend.Servers = append(backend.Servers, haproxycfg.Server{Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:%d", i%200, j, port))})
			}
			c.Backends = append(c.Backends, backend)
		}
		return c
	}
	d := &Dir{Path: b.TempDir()}
	_, err := d.Apply(b.Context(), config(0))
	require.NoError(b, err)
	next := config(7000)
	b.ReportAllocs()
	for b.Loop() {
		p, err := d.Plan(next)
		require.NoError(b, err)
		require.Equal(b, 40, p.Diff.Servers.Added)
	}
}
