package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/manifesttest"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func entry(i int, result Result) Entry {
	e := Entry{Time: start.Add(time.Duration(i) * time.Minute), Result: result, ID: fmt.Sprint("id", i), Took: 7, Diff: "~ backend b\n"}
	e.Changes = kube.Changes{Time: e.Time, Services: []kube.ServiceChange{}, Causes: []kube.Cause{{Cluster: "eu-1", Object: "Node a", What: "added"}}, Servers: deploy.ServerCounts{Added: i}}
	if result != Applied {
		e.Changes.Reason, e.Allow = "too large", "to apply it: force"
	}
	return e
}

func state(i int) *State {
	return &State{
		Routes: []routes.Route{{
			Host: "api.example.com", Path: "/", Position: routes.Position{File: "routes.yaml", Line: i},
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"}, Weight: i}},
			Timeouts: routes.Timeouts{Server: time.Second}, Check: &routes.Check{Path: "/health"},
		}},
		Report: kube.Report{
			Problems: []kube.Problem{}, Services: []kube.ServiceReport{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"}, NodePort: uint16(i), Nodes: []string{"a"}}},
			Clusters: []kube.ClusterReport{{Name: "eu-1", Nodes: []kube.NodeReport{{Name: "a", Addr: netip.MustParseAddr("10.0.0.1"), Identity: "10.0.0.1"}}}},
			Refused:  &kube.Changes{}, Changes: &kube.Changes{},
		},
	}
}

func newDir(t testing.TB) *Dir { return &Dir{Path: filepath.Join(t.TempDir(), "journal")} }

func TestAppendAndList(t *testing.T) {
	d := newDir(t)
	entries, problems, err := d.List()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Empty(t, entries)
	_, err = d.At(start)
	require.ErrorIs(t, err, ErrUnknown)

	for i, result := range []Result{Applied, Refused, Failed, Applied} {
		s := state(i + 1)
		if result != Applied {
			s = nil
		}
		require.NoError(t, d.Append(entry(i, result), s, nil))
	}
	entries, problems, err = (&Dir{Path: d.Path}).List() // another process
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, []Entry{entry(0, Applied), entry(1, Refused), entry(2, Failed), entry(3, Applied)}, entries)
	require.Equal(t, "2026-05-01T12:01:00.000Z refused id1: 1 added, 0 removed, 0 changed servers; eu-1: Node a: added: too large; to apply it: force", entries[1].String())

	past, err := d.At(start.Add(150 * time.Second))
	require.NoError(t, err)
	require.Equal(t, entries[0], past.Entry)
	require.Equal(t, &entries[2], past.Refused)
	require.Equal(t, &entries[3], past.Next)
	require.Empty(t, past.Problems)
	want := *state(1)
	want.Report.Refused, want.Report.Changes = nil, nil
	require.Equal(t, want.Routes, past.State.Routes)
	require.Equal(t, want.Report.Services, past.State.Report.Services)
	require.Equal(t, want.Report.Clusters[0].Nodes, past.State.Report.Clusters[0].Nodes)
	require.Nil(t, past.State.Report.Refused)

	past, err = d.At(start.Add(3 * time.Minute)) // at the very time of an entry
	require.NoError(t, err)
	require.Equal(t, 4, past.State.Routes[0].Position.Line)
	require.Nil(t, past.Next)
	_, err = d.At(start.Add(-time.Second))
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorContains(t, err, "the oldest entry is of 2026-05-01T12:00:00.000Z")
}

func TestStateOfAnEntry(t *testing.T) {
	d := newDir(t)
	require.NoError(t, d.Append(entry(0, Applied), state(1), nil))
	require.NoError(t, d.Append(entry(1, Refused), nil, nil))
	entries, _, err := d.List()
	require.NoError(t, err)
	got, err := d.State(entries[0])
	require.NoError(t, err)
	require.Equal(t, state(1).Routes, got.Routes)
	_, err = d.State(entries[1])
	require.ErrorContains(t, err, "the entry has no state")
	_, err = d.State(entry(5, Applied))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestRoutesID: only the place of a declaration does not matter.
func TestRoutesID(t *testing.T) {
	one, moved, other := state(1).Routes, state(1).Routes, state(2).Routes
	moved[0].Position.Line = 7
	require.Equal(t, RoutesID(one), RoutesID(moved))
	require.NotEqual(t, RoutesID(one), RoutesID(other))
	require.NotEqual(t, RoutesID(nil), RoutesID(one))
	require.Len(t, RoutesID(one), 16)
}

func TestLatest(t *testing.T) {
	d := newDir(t)
	latest, err := d.Latest()
	require.NoError(t, err)
	require.Equal(t, Latest{}, latest)
	require.NoError(t, d.Append(entry(0, Refused), nil, nil))
	latest, err = d.Latest()
	require.NoError(t, err)
	require.Equal(t, Latest{Entry: entry(0, Refused)}, latest)
	for i, result := range []Result{Applied, Applied, Failed, Refused} {
		require.NoError(t, d.Append(entry(i+1, result), state(1), nil))
	}
	for _, i := range []int{1, 3} { // Latest does not reach entry 1
		require.NoError(t, os.Truncate(filepath.Join(d.Path, fileName(entry(i, Applied).Time, Applied)), 1))
	}
	latest, err = d.Latest()
	require.NoError(t, err)
	require.Equal(t, entry(4, Refused), latest.Entry)
	require.Equal(t, entry(2, Applied), latest.Applied)
	require.Len(t, latest.Problems, 1)
	require.ErrorContains(t, latest.Problems[0], "20260501T120300.000Z.entry")
}

func TestRecent(t *testing.T) {
	d := newDir(t)
	ids := func(n int) (list []string, problems, total int) {
		entries, failed, total, err := d.Recent(n)
		require.NoError(t, err)
		for _, e := range entries {
			list = append(list, e.ID)
		}
		return list, len(failed), total
	}
	list, _, total := ids(3)
	require.Empty(t, list)
	require.Zero(t, total)
	for i := range 5 {
		require.NoError(t, d.Append(entry(i, Refused), nil, nil))
	}
	list, problems, total := ids(3)
	require.Equal(t, []string{"id4", "id3", "id2"}, list)
	require.Equal(t, [2]int{0, 5}, [2]int{problems, total})

	// Recent does not read these files again. It reads a new file, and forgets the oldest one.
	for i := range 5 {
		require.NoError(t, os.WriteFile(filepath.Join(d.Path, fileName(entry(i, Refused).Time, Refused)), []byte("damaged\n"), 0o600))
	}
	require.NoError(t, d.Append(entry(5, Refused), nil, nil))
	list, problems, total = ids(3)
	require.Equal(t, []string{"id5", "id4", "id3"}, list)
	require.Equal(t, [2]int{0, 6}, [2]int{problems, total})
	list, problems, _ = ids(4)
	require.Equal(t, []string{"id5", "id4", "id3"}, list)
	require.Equal(t, 1, problems)
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"0s": start, "90m": start.Add(-90 * time.Minute),
		"2026-05-01T12:00:00Z": start, "2026-05-01T13:30:00+02:00": start.Add(-30 * time.Minute),
	} {
		got, err := ParseTime(text, start)
		require.NoError(t, err)
		require.Truef(t, want.Equal(got), "%s is %v", text, got)
	}
	for text, want := range map[string]string{
		"": "want a time such as", "yesterday": "want a time such as", "2026-05-01 12:00": "want a time such as",
		"-1s": "is in the future", "2026-05-01T12:00:01Z": "is in the future",
	} {
		_, err := ParseTime(text, start)
		require.ErrorContains(t, err, want)
	}
}

func FuzzParseTime(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTime(text, start)
		if err == nil && got.After(start) {
			t.Fatalf("%q is %v, which is in the future", text, got)
		}
	})
}

// TestShiftsDoNotRemoveChanges: each kind of entry has its own bound.
func TestShiftsDoNotRemoveChanges(t *testing.T) {
	d := newDir(t)
	d.MaxEntries = 2
	require.NoError(t, d.Append(entry(0, Applied), state(1), nil))
	for i := range 5 {
		require.NoError(t, d.Append(entry(i+1, Shifted), nil, nil))
	}
	entries, problems, err := d.List()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Len(t, entries, 3)
	require.Equal(t, []Result{Applied, Shifted, Shifted}, []Result{entries[0].Result, entries[1].Result, entries[2].Result})
	require.Equal(t, "id4", entries[1].ID)
	_, err = d.State(entries[0])
	require.NoError(t, err)
	latest, err := d.Latest()
	require.NoError(t, err)
	require.Equal(t, "id0", latest.Applied.ID)
	for i := range 3 {
		require.NoError(t, d.Append(entry(i+6, Applied), state(1), nil))
	}
	entries, _, err = d.List()
	require.NoError(t, err)
	require.Len(t, entries, 4)
	require.Equal(t, "id4", entries[0].ID, "an old shift")
}

func TestBounds(t *testing.T) {
	d := newDir(t)
	d.MaxEntries = 3
	for i := range 5 {
		require.NoError(t, d.Append(entry(i, Applied), state(i+1), nil))
	}
	entries, _, err := d.List()
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, "id2", entries[0].ID)
	d.MaxBytes = 1
	require.NoError(t, d.Append(entry(5, Applied), state(1), nil))
	entries, _, err = d.List()
	require.NoError(t, err)
	require.Len(t, entries, 1, "the newest entry always stays")
	require.Equal(t, "id5", entries[0].ID)

	long := entry(6, Applied)
	long.Diff = strings.Repeat("é", MaxDiff)
	long.Changes.Services = make([]kube.ServiceChange, MaxServices+3)
	require.NoError(t, d.Append(long, nil, nil))
	entries, _, err = d.List()
	require.NoError(t, err)
	require.LessOrEqual(t, len(entries[0].Diff), MaxDiff+len("…"))
	require.Len(t, entries[0].Changes.Services, MaxServices)
	require.Equal(t, 3, entries[0].MoreServices)
}

// TestClockThatGoesBack: the order of the entries stays the order in which they were written.
func TestClockThatGoesBack(t *testing.T) {
	d := newDir(t)
	require.NoError(t, d.Append(entry(5, Applied), state(1), nil))
	require.NoError(t, d.Append(entry(1, Applied), state(2), nil))
	require.NoError(t, d.Append(entry(5, Applied), state(3), nil))
	entries, _, err := d.List()
	require.NoError(t, err)
	require.Equal(t, []string{"id5", "id1", "id5"}, []string{entries[0].ID, entries[1].ID, entries[2].ID})
	require.Equal(t, entry(5, Applied).Time.Add(2*time.Millisecond), entries[2].Time)
}

// TestDamagedEntries: one bad file never costs the other entries.
func TestDamagedEntries(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut in the first line": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 20)) },
		"empty":                 func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"a directory": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o755))
		},
		"other content": func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte("{}\n"), 0o600)) },
		"cut in the state": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()-9))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			for i := range 3 {
				require.NoError(t, d.Append(entry(i, Applied), state(i+1), nil))
			}
			damage(t, filepath.Join(d.Path, fileName(entry(1, Applied).Time, Applied)))
			entries, problems, err := d.List()
			require.NoError(t, err)
			if name != "cut in the state" {
				require.Len(t, entries, 2)
				require.Len(t, problems, 1)
				require.ErrorContains(t, problems[0], "20260501T120100.000Z.entry")
			}
			past, err := d.At(start.Add(90 * time.Second))
			require.NoError(t, err)
			require.Equal(t, "id0", past.Entry.ID)
			require.Len(t, past.Problems, 1)
			past, err = d.At(start)
			require.NoError(t, err)
			require.Equal(t, "id0", past.Entry.ID)
			require.NoError(t, d.Append(entry(4, Applied), state(9), nil))
			past, err = d.At(start.Add(time.Hour))
			require.NoError(t, err)
			require.Equal(t, "id4", past.Entry.ID)
		})
	}
}

// TestCrash: a process is killed while it writes an entry. The other entries remain, and the next
// process removes the temporary file.
func TestCrash(t *testing.T) {
	d := newDir(t)
	require.NoError(t, d.Append(entry(0, Applied), state(1), nil))
	stop := errors.New("the process ends here")
	require.ErrorIs(t, d.Append(entry(1, Applied), state(2), func() error { return stop }), stop)
	left := filepath.Join(d.Path, "."+fileName(entry(1, Applied).Time, Applied)+"123")
	require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
	d = &Dir{Path: d.Path}
	entries, problems, err := d.List()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Len(t, entries, 1)
	require.NoError(t, d.Append(entry(1, Applied), state(2), nil))
	require.NoFileExists(t, left)
	entries, _, err = d.List()
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func TestUnwritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	d := &Dir{Path: path}
	require.ErrorContains(t, d.Append(entry(0, Applied), nil, nil), "journal: ")
	_, _, err := d.List()
	require.ErrorContains(t, err, "journal: ")
	_, err = d.At(start)
	require.ErrorContains(t, err, "journal: ")
}

func TestStateLimit(t *testing.T) {
	data, err := encode(entry(0, Applied), state(1))
	require.NoError(t, err)
	_, rest, err := ReadEntry(data)
	require.NoError(t, err)
	_, err = readState(rest, 10)
	require.ErrorContains(t, err, "more than 10 bytes")
}

func TestStateFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "unexpected end",
		`{"report": {"services": [{}]}, "nodes": []}`:                             "1 services, and the nodes of 0 services",
		`{"report": {"services": [{}]}, "nodes": [[0, 1]], "names": ["a"]}`:       "service 0 has node 1 of 1",
		`{"report": {"services": [{}, {}]}, "nodes": [[], [-1]], "names": ["a"]}`: "service 1 has node -1 of 1",
		`{"report": {"services": [{}]}, "nodes": [[1000000000000000000000]]}`:     "cannot unmarshal",
	} {
		_, err := decodeState([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func FuzzDecodeState(f *testing.F) {
	whole, err := encodeState(*state(1))
	require.NoError(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err != nil {
			return
		}
		again, err := encodeState(s)
		if err != nil {
			return // an address or a time that JSON cannot contain
		}
		s2, err := decodeState(again)
		if err != nil || len(s2.Routes) != len(s.Routes) || len(s2.Report.Services) != len(s.Report.Services) {
			t.Fatalf("%+v becomes %+v, %v", s, s2, err)
		}
		for i := range s.Report.Services {
			if !slices.EqualFunc(s.Report.Services[i].Nodes, s2.Report.Services[i].Nodes, sameText) {
				t.Fatalf("service %d: %q becomes %q", i, s.Report.Services[i].Nodes, s2.Report.Services[i].Nodes)
			}
		}
	})
}

// sameText reports whether two names are the same in JSON, which has no invalid UTF-8.
func sameText(a, b string) bool {
	return strings.ToValidUTF8(a, "\uFFFD") == strings.ToValidUTF8(b, "\uFFFD")
}

func FuzzReadEntry(f *testing.F) {
	whole, err := encode(entry(1, Applied), state(1))
	require.NoError(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, rest, err := ReadEntry(data)
		if err != nil {
			return
		}
		_ = e.String()
		var s *State
		if read, err := readState(rest, 1<<20); err == nil {
			s = &read
		}
		again, err := encode(e, s)
		if err != nil {
			return // a time that JSON cannot contain
		}
		e2, _, err := ReadEntry(again)
		if err != nil || e2.ID != e.ID || !e2.Time.Equal(e.Time) || len(e2.Changes.Causes) != len(e.Changes.Causes) {
			t.Fatalf("%+v becomes %+v, %v", e, e2, err)
		}
	})
}

// BenchmarkAppend writes an entry with 10,000 routes to as many services on 20 of 1,000 nodes each. With
// GOMAXPROCS=1, the metric cpu-ms/op is the processor time that an entry costs.
func BenchmarkAppend(b *testing.B) {
	var s State
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		nodes := make([]string, 20)
		for j := range nodes {
			nodes[j] = manifesttest.NodeName(random.IntN(1000))
		}
		namespace, name := manifesttest.ServiceName(i)
		ref := routes.Ref{Cluster: "eu-1", Namespace: namespace, Service: name, Port: "http"}
		s.Routes = append(s.Routes, routes.Route{Host: fmt.Sprintf("s%06d.example.com", i), Path: "/api", Backends: []routes.Backend{{Ref: ref, Weight: 100}}})
		s.Report.Services = append(s.Report.Services, kube.ServiceReport{Ref: ref, NodePort: 30000, Nodes: nodes})
	}
	d := newDir(b)
	b.ReportAllocs()
	begin := cpuTime()
	for i := 0; b.Loop(); i++ {
		if err := d.Append(entry(i, Applied), &s, nil); err != nil {
			b.Fatal(err)
		}
	}
	files, err := d.files()
	require.NoError(b, err)
	b.ReportMetric(float64(files[len(files)-1].size), "file-bytes")
	b.ReportMetric(float64((cpuTime()-begin).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}
