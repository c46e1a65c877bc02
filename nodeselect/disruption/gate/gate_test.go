package gate_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

var now = time.Date(2026, 1, 2, 10, 32, 0, 0, time.UTC)

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

// node returns the node a, b, … with number i.
func node(i int) gate.Node {
	n := nodeselect.Node{Name: string(rune('a' + i)), Addr: addr(i), Zone: "z", Identity: addr(i).String()}
	return gate.Node{Node: n, Addrs: []netip.Addr{n.Addr}}
}

func applied(subsets map[string]string) gate.Applied {
	a := gate.Applied{Source: "edge", ID: "1", Time: now.Add(-time.Hour), Subsets: nodeselect.Subsets{}}
	for service, members := range subsets {
		for _, r := range members {
			a.Subsets[service] = append(a.Subsets[service], node(int(r-'a')).Node)
		}
	}
	return a
}

// input has the nodes a to f, and one service with a, b and c.
func input() gate.Input {
	in := gate.Input{Budget: disruption.Budget{Service: 1}, Applied: []gate.Applied{applied(map[string]string{"m/tracks": "abc"})}, Now: now}
	for i := range 6 {
		in.Nodes = append(in.Nodes, node(i))
	}
	return in
}

func newGate(t *testing.T, in gate.Input) *gate.Gate {
	t.Helper()
	g, err := gate.New(in)
	require.NoError(t, err)
	return g
}

func TestMay(t *testing.T) {
	tests := []struct {
		name   string
		change func(*gate.Input)
		nodes  []string
		ok     bool
		text   []string
	}{
		{"alone", nil, []string{"a"}, true, nil},
		{"together", nil, []string{"a", "b"}, false, []string{"service m/tracks", "2 named"}},
		{"the same node twice", nil, []string{"a", "a"}, true, nil},
		{"no subset", nil, []string{"f"}, true, []string{"f is not in any applied configuration since 2026-01-02T09:32:00Z: may go"}},
		{"unknown", nil, []string{"x"}, true, []string{"x is not a node of the cluster"}},
		{"another is cordoned", func(in *gate.Input) {
			in.Nodes[1].Away, in.Nodes[1].Since = "cordoned", now.Add(-time.Minute)
		}, []string{"a"}, false, []string{"b (cordoned since 2026-01-02T10:31:00Z)"}},
		{"another is deleted", func(in *gate.Input) { in.Nodes = in.Nodes[2:] }, []string{"c"}, false, []string{"a (not in the cluster)", "b (not in the cluster)"}},
		{"another has a new machine", func(in *gate.Input) { in.Nodes[1].Addrs = []netip.Addr{addr(99)} }, []string{"a"}, false, []string{"b (no longer has the address 10.0.0.1)"}},
		{"another is granted", func(in *gate.Input) {
			in.Grants = []gate.Grant{{Node: "b", Holder: "kured", Taken: now.Add(-time.Minute)}}
		}, []string{"a"}, false, []string{"b (granted to kured since 2026-01-02T10:31:00Z)"}},
		{"a node outside of the service is away", func(in *gate.Input) { in.Nodes[4].Away = "cordoned" }, []string{"a"}, true, nil},
		{"away itself", func(in *gate.Input) { in.Nodes[0].Away = "not Ready" }, []string{"a"}, true, []string{"a is away already: not Ready"}},
		{"away itself, and another is granted", func(in *gate.Input) {
			in.Nodes[0].Away = "not Ready"
			in.Grants = []gate.Grant{{Node: "b", Holder: "kured", Taken: now.Add(-time.Minute)}}
		}, []string{"a"}, false, []string{"1 away and 1 named, of at most 1: b (granted to kured since 2026-01-02T10:31:00Z)\na is away already: not Ready"}},
		{"all are away", func(in *gate.Input) {
			in.Nodes[0].Away, in.Nodes[1].Away, in.Nodes[2].Away = "not Ready", "not Ready", "not Ready"
		}, []string{"a"}, true, nil},
		{"all are deleted", func(in *gate.Input) { in.Nodes = in.Nodes[3:] }, []string{"a"}, true, nil},
		{"two that are away", func(in *gate.Input) {
			in.Nodes[0].Away, in.Nodes[1].Away = "not Ready", "not Ready"
		}, []string{"a", "b"}, false, []string{"2 named"}},
		{"the last node of a service is away itself", func(in *gate.Input) {
			in.Applied = []gate.Applied{applied(map[string]string{"m/tracks": "a"})}
			in.Nodes[0].Away = "not Ready"
		}, []string{"a"}, true, nil},
		{"a terminator lags behind", func(in *gate.Input) {
			in.Applied = append(in.Applied, applied(map[string]string{"m/tracks": "def"}))
			in.Nodes[5].Away = "cordoned"
		}, []string{"e"}, false, []string{"f (cordoned)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := input()
			if tt.change != nil {
				tt.change(&in)
			}
			a := newGate(t, in).May(tt.nodes...)
			require.Equal(t, tt.ok, a.OK, a)
			for _, text := range tt.text {
				require.Contains(t, a.String(), text)
			}
		})
	}
}

func TestNewNeedsSubsets(t *testing.T) {
	in := input()
	in.Applied = nil
	_, err := gate.New(in)
	require.ErrorIs(t, err, gate.ErrNoSubsets)
	in.Applied = []gate.Applied{applied(nil)}
	_, err = gate.New(in)
	require.ErrorIs(t, err, gate.ErrNoSubsets)
}

func TestTake(t *testing.T) {
	in := input()
	g := newGate(t, in)
	a, grants := g.Take("one", time.Hour, "a", "f")
	require.True(t, a.OK)
	require.Equal(t, []gate.Grant{{Node: "a", Holder: "one", Taken: now, TTL: time.Hour}}, grants, "f needs no grant")
	require.NotContains(t, a.String(), "is away already", "a is away only from now on")

	a, grants = g.Take("two", time.Hour, "b")
	require.False(t, a.OK, "a counts as away")
	require.Empty(t, grants)

	a, grants = g.Take("two", time.Hour, "a")
	require.False(t, a.OK)
	require.Contains(t, a.String(), "a granted to one at")
	require.Empty(t, grants)

	a, grants = g.Take("one", time.Hour, "a")
	require.True(t, a.OK, "the holder asks again")
	require.Empty(t, grants)

	in.Grants = []gate.Grant{{Node: "a", Holder: "one", Taken: now.Add(-2 * time.Hour), TTL: time.Hour}}
	a, _ = newGate(t, in).Take("one", time.Hour, "a")
	require.False(t, a.OK, "the holder may no longer start")
	in.Grants[0].Went = now.Add(-time.Hour)
	a, _ = newGate(t, in).Take("one", time.Hour, "a")
	require.True(t, a.OK, "the node has gone in time")
}

func TestWaveIsTakenAsAWhole(t *testing.T) {
	g := newGate(t, input())
	wave := g.Wave(nil, 0)
	require.Len(t, wave, 4, wave) // d, e, f and one of the service
	a, _ := g.Take("one", time.Hour, wave...)
	require.True(t, a.OK)
}

func TestObserve(t *testing.T) {
	const present, cordoned, gone, starting = "present", "cordoned", "out of the configuration", "Ready, agent not up"
	observe := map[string]gate.Observation{
		present:  {Applied: true, Up: true},
		cordoned: {Applied: true, Away: true},
		starting: {Applied: true},
		gone:     {Away: true},
	}
	type step struct {
		after time.Duration // since the grant
		state string
		ended bool
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"out of the configuration", []step{{time.Second, cordoned, false}, {2 * time.Second, gone, true}}},
		{"never away", []step{{59 * time.Minute, present, false}, {time.Hour, present, true}}},
		{"never away, agent down", []step{{time.Hour, starting, true}}},
		{"away longer than the TTL", []step{{time.Minute, cordoned, false}, {48 * time.Hour, cordoned, false}}},
		{"back", []step{{time.Minute, cordoned, false}, {10 * time.Minute, present, false}, {10*time.Minute + 59*time.Second, present, false}, {11 * time.Minute, present, true}}},
		{"back, and the agent starts late", []step{{time.Minute, cordoned, false}, {10 * time.Minute, starting, false}, {15 * time.Minute, starting, false}, {16 * time.Minute, present, false}, {17 * time.Minute, present, true}}},
		{"away again in the hold-down", []step{{time.Minute, cordoned, false}, {10 * time.Minute, present, false}, {10*time.Minute + 30*time.Second, cordoned, false}, {12 * time.Minute, present, false}, {13 * time.Minute, present, true}}},
		{"the agent fails in the hold-down", []step{{time.Minute, cordoned, false}, {10 * time.Minute, present, false}, {11 * time.Minute, starting, false}, {12 * time.Minute, present, false}, {13 * time.Minute, present, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gate.Grant{Node: "a", Holder: "one", Taken: now, TTL: time.Hour}
			for _, s := range tt.steps {
				var why string
				g, why = g.Observe(observe[s.state], 0, now.Add(s.after))
				require.Equal(t, s.ended, why != "", "%v %s: %s", s.after, s.state, why)
			}
		})
	}
}

// TestObserveARestartThatNobodySaw: the node became Ready after the grant.
func TestObserveARestartThatNobodySaw(t *testing.T) {
	g := gate.Grant{Node: "a", Holder: "one", Taken: now, TTL: time.Hour}
	o := gate.Observation{Applied: true, Up: true, ReadySince: now.Add(time.Second)}
	next, why := g.Observe(o, 0, now.Add(10*time.Minute))
	require.Equal(t, g, next, "the clocks may differ by a second")
	require.Empty(t, why)
	o.ReadySince = now.Add(time.Minute)
	g, why = g.Observe(o, 0, now.Add(10*time.Minute))
	require.Empty(t, why)
	require.Equal(t, o.ReadySince, g.Went)
	_, why = g.Observe(o, 0, now.Add(11*time.Minute))
	require.Equal(t, "the node is back", why)
}

const report = `{
 "problems": [],
 "clusters": [{"name": "eu-1", "contact": {"state": "live"}, "nodes": [
  {"name": "a", "addr": "10.0.0.0", "zone": "z", "identity": "10.0.0.0", "services": 1},
  {"name": "b", "addr": "10.0.0.1", "identity": "10.0.0.1", "services": 1}]},
  {"name": "eu-2", "nodes": []}],
 "services": [
  {"cluster": "eu-1", "namespace": "m", "service": "tracks", "port": "http", "nodePort": 30080, "weight": 100, "nodes": ["b"]},
  {"cluster": "eu-1", "namespace": "m", "service": "tracks", "port": "admin", "nodePort": 30081, "weight": 100, "nodes": ["a", "b"]},
  {"cluster": "eu-2", "namespace": "m", "service": "web", "port": "http", "nodePort": 30080, "weight": 100, "nodes": ["z"]}],
 "applied": {"id": "abc", "time": "2026-01-02T09:32:00Z"},
 "budget": {}
}`

func TestParseReport(t *testing.T) {
	a, err := gate.ParseReport("edge", []byte(report), "eu-1")
	require.NoError(t, err)
	require.Equal(t, "abc", a.ID)
	require.Equal(t, now.Add(-time.Hour), a.Time)
	require.Len(t, a.Nodes, 2)
	require.Equal(t, nodeselect.Subsets{"m/tracks": a.Nodes}, a.Subsets)
}

func TestParseReportThatCannotTell(t *testing.T) {
	tests := []struct{ name, cluster, change, err string }{
		{"not JSON", "eu-1", `{"clusters": 1}`, "not a report"},
		{"an old terminator", "eu-1", `{"clusters": [{"name": "eu-1", "nodes": []}], "services": []}`, "applied:"},
		{"another cluster", "eu-3", report, `no cluster "eu-3"`},
		{"an unknown node", "eu-2", report, `services[2]: node "z" of m/web is not in the list`},
		{"never reached", "eu-1", `{"applied": {"id": "a", "time": "2026-01-02T09:32:00Z"}, "clusters": [{"name": "eu-1", "contact": {"state": "never"}}]}`, "has never reached"},
		{"twice", "eu-1", `{"applied": {"id": "a", "time": "2026-01-02T09:32:00Z"}, "clusters": [{"name": "eu-1"}, {"name": "eu-1"}]}`, "listed twice"},
		{"no address", "eu-1", `{"applied": {"id": "a", "time": "2026-01-02T09:32:00Z"}, "clusters": [{"name": "eu-1", "nodes": [{"name": "a"}]}]}`, "no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := gate.ParseReport("edge", []byte(tt.change), tt.cluster)
			require.ErrorContains(t, err, tt.err)
			require.ErrorContains(t, err, "edge: ")
		})
	}
}

// FuzzParseReport: an accepted report is complete, and a Gate can use it.
func FuzzParseReport(f *testing.F) {
	f.Add([]byte(report))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := gate.ParseReport("edge", data, "eu-1")
		if err != nil {
			return
		}
		if a.ID == "" || a.Time.IsZero() {
			t.Fatal("the configuration has no ID or no time")
		}
		nodes := map[string]bool{}
		var all []gate.Node
		for _, n := range a.Nodes {
			nodes[n.Name] = true
			all = append(all, gate.Node{Node: n})
		}
		for service, members := range a.Subsets {
			for _, n := range members {
				if !nodes[n.Name] {
					t.Fatalf("%s has the unknown node %q", service, n.Name)
				}
			}
		}
		g, err := gate.New(gate.Input{Applied: []gate.Applied{a}, Nodes: all, Now: now})
		if err != nil {
			return
		}
		wave := g.Wave(nil, 0)
		if !g.May(wave...).OK {
			t.Fatal("the wave may not go")
		}
	})
}

func ExampleGate_May() {
	in := input()
	in.Nodes[1].Away, in.Nodes[1].Since = "cordoned", now
	g, err := gate.New(in)
	if err != nil {
		panic(err)
	}
	fmt.Println(g.May("f"))
	fmt.Println(g.May("a").OK)
	// Output:
	// yes: f
	// f is not in any applied configuration since 2026-01-02T09:32:00Z: may go
	// false
}

func TestAnswerAsJSON(t *testing.T) {
	in := input()
	in.Nodes[1].Away, in.Nodes[1].Since = "cordoned", now
	data, err := json.Marshal(newGate(t, in).May("a"))
	require.NoError(t, err)
	require.Contains(t, string(data), `"service":"m/tracks"`)
	require.Contains(t, string(data), `"nodes":[{"name":"b","why":"cordoned","since":"2026-01-02T10:32:00Z"}]`)
}
