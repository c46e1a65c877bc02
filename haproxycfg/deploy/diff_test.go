package deploy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestDirDiff(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	a := testConfig("/run", 80, 1, 2, 3, 4)
	diff, err := d.Diff(a)
	require.NoError(t, err)
	require.Equal(t, ServerCounts{After: 4, Added: 4}, diff.Servers)
	require.Zero(t, diff.ServerShare(), "a first configuration disturbs nobody")
	require.True(t, diff.Backends[0].Added)
	require.Contains(t, diff.Text, "--- /dev/null\n+++ haproxy.cfg\n@@ -0,0 +1,")

	_, err = d.Apply(t.Context(), a)
	require.NoError(t, err)
	before := snapshot(t, d.Path)
	diff, err = d.Diff(a)
	require.NoError(t, err)
	require.True(t, diff.Empty())
	require.Equal(t, "no change\n", diff.String())

	b := testConfig("/run", 81, 1, 2, 5, 4)
	b.Backends[0].Servers[1].Weight = 50
	b.Backends = append(b.Backends, haproxycfg.Backend{Name: "new", Response: &haproxycfg.FixedResponse{Status: 404, Body: "no"}})
	b.Maps[0].Entries = []haproxycfg.MapEntry{{Key: "s4.example.com", Value: "w"}, {Key: "x.example.com", Value: "v"}}
	diff, err = d.Diff(b)
	require.NoError(t, err)
	require.Equal(t, `servers: 4 before, 4 after: 1 added, 1 removed, 1 altered (50.0% of those before)
~ frontend http
+ backend new
~ backend web
  - server 127.0.0.1:3
  + server 127.0.0.1:5
  ~ server 127.0.0.1:2
~ map hosts: 2 added, 1 removed
  - s4.example.com v
  + s4.example.com w
  + x.example.com v
`, diff.String())
	require.InDelta(t, 0.5, diff.ServerShare(), 0)
	requireUntouched(t, d.Path, before)

	// A section does not differ if only the file name of a map in it changes.
	c := testConfig("/run", 80, 1, 2, 3, 4)
	c.Maps[0].Entries[0].Value = "other"
	diff, err = d.Diff(c)
	require.NoError(t, err)
	require.Empty(t, diff.Sections)
	require.Empty(t, diff.Backends)
	require.Len(t, diff.Maps, 1)

	// Everything is removed.
	diff, err = d.Diff(&haproxycfg.Config{})
	require.NoError(t, err)
	require.Equal(t, ServerCounts{Before: 4, Removed: 4}, diff.Servers)
	require.InDelta(t, 1, diff.ServerShare(), 0)
	require.True(t, diff.Backends[0].Removed)
	require.Equal(t, []string{"frontend http", "global"}, diff.Sections)
}

func TestDiffFilesSeesOrderAndSettings(t *testing.T) {
	file := func(text string) []haproxycfg.RenderedFile {
		return []haproxycfg.RenderedFile{{Name: configFile, Data: []byte(text)}}
	}
	base := "defaults\n    retries 3\nbackend b\n    balance roundrobin\n    server s1 10.0.0.1:1\n    server s2 10.0.0.2:1\n"
	for name, tc := range map[string]struct {
		text     string
		settings bool
		sections []string
	}{
		"settings":    {strings.Replace(base, "roundrobin", "leastconn", 1), true, nil},
		"order":       {"defaults\n    retries 3\nbackend b\n    balance roundrobin\n    server s2 10.0.0.2:1\n    server s1 10.0.0.1:1\n", true, nil},
		"defaults":    {strings.Replace(base, "retries 3", "retries 4", 1), false, []string{"defaults"}},
		"white space": {strings.ReplaceAll(base, "    ", "\t"), false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := DiffFiles(file(base), file(tc.text))
			require.False(t, d.Empty())
			require.Equal(t, tc.sections, d.Sections)
			require.Equal(t, tc.settings, len(d.Backends) == 1 && d.Backends[0].Settings)
			require.Equal(t, ServerCounts{Before: 2, After: 2}, d.Servers)
		})
	}
}

// TestDiffSplitsWordsAtTabs compares a file that somebody wrote by hand, with tabs between words.
// If Diff found no servers in this file, a limit on the share of removed servers would not stop
// their removal.
func TestDiffSplitsWordsAtTabs(t *testing.T) {
	before := "backend\tb\n\tmode\thttp\n\tserver\ts1\t10.0.0.1:80\n\tserver \ts2 10.0.0.2:80\n\nlisten \tl\n\tserver\ts1\t10.0.0.3:80\n"
	after := "backend b\n    mode http\n    server s1 10.0.0.1:80\n"
	file := func(s string) []haproxycfg.RenderedFile {
		return []haproxycfg.RenderedFile{{Name: configFile, Data: []byte(s)}}
	}
	d := DiffFiles(file(before), file(after))
	require.Equal(t, ServerCounts{Before: 3, After: 1, Removed: 2, Altered: 1}, d.Servers)
	require.InDelta(t, 1.0, d.ServerShare(), 0)
	require.Equal(t, []string{"listen l"}, d.Sections)
	require.Len(t, d.Backends, 1)
	require.Equal(t, []string{"s2"}, d.Backends[0].ServersRemoved)
	require.Equal(t, []string{"s1"}, d.Backends[0].ServersAltered)
}

func FuzzReadSections(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		file := func(s string) []haproxycfg.RenderedFile {
			return []haproxycfg.RenderedFile{{Name: configFile, Data: []byte(s)}}
		}
		d := DiffFiles(file(a), file(b))
		n := d.Servers
		if n.Removed > n.Before || n.Added > n.After || n.Altered > n.Before {
			t.Fatalf("%+v", n)
		}
		if share := d.ServerShare(); share < 0 || share > 1 {
			t.Fatal(share)
		}
		if same := DiffFiles(file(a), file(a)); !same.Empty() || same.Servers.Added+same.Servers.Removed+same.Servers.Altered > 0 {
			t.Fatalf("%+v", same)
		}
		if !d.Empty() && d.String() == "" {
			t.Fatal("no words")
		}
	})
}

func BenchmarkDiffFiles(b *testing.B) {
	for _, services := range []int{500, 2000} {
		b.Run(fmt.Sprintf("services=%d/k=20", services), func(b *testing.B) {
			text := func(skip int) []haproxycfg.RenderedFile {
				var s strings.Builder
				for i := range services {
					fmt.Fprintf(&s, "\nbackend b%d\n    balance roundrobin\n", i)
					for j := range 21 {
						if j != (i*7+skip)%21 {
							fmt.Fprintf(&s, "    server 10.%d.%d.%d:31000 10.0.%d.%d:31000 track nodes.c/n weight 100 agent-check agent-port 9801\n", j, i/256, i%256, j, i)
						}
					}
				}
				return []haproxycfg.RenderedFile{{Name: configFile, Data: []byte(s.String())}}
			}
			before, after := text(0), text(1)
			b.SetBytes(int64(len(before[0].Data)))
			b.ReportAllocs()
			for b.Loop() {
				d := DiffFiles(before, after)
				if d.Servers.Removed != services {
					b.Fatalf("%+v", d.Servers)
				}
			}
		})
	}
}
