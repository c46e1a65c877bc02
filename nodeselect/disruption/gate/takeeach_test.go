package gate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

func TestTakeEach(t *testing.T) {
	in := input()
	in.Applied[0].Subsets["m/other"] = applied(map[string]string{"m/other": "de"}).Subsets["m/other"]
	g := newGate(t, in)
	may, taken := g.TakeEach("karpenter", time.Hour, 0, "b", "f", "a", "x", "e", "d")
	require.Equal(t, []string{"b", "f", "x", "e"}, may, "f and x are in no configuration, a is blocked by b, and d by e")
	require.Equal(t, []gate.Grant{
		{Node: "b", Holder: "karpenter", Taken: now, TTL: time.Hour, Manual: true},
		{Node: "e", Holder: "karpenter", Taken: now, TTL: time.Hour, Manual: true},
	}, taken)
	require.Equal(t, taken, g.Grants("karpenter"))
	require.False(t, g.May("a").OK)

	in.Grants = taken
	may, taken = newGate(t, in).TakeEach("karpenter", time.Hour, 0, "a", "b", "d")
	require.Equal(t, []string{"b"}, may, "the grant is there already")
	require.Empty(t, taken)
	may, _ = newGate(t, in).TakeEach("other", time.Hour, 0, "b")
	require.Empty(t, may, "another holder has the grant")
	in.Now = now.Add(time.Hour)
	may, _ = newGate(t, in).TakeEach("karpenter", time.Hour, 0, "b")
	require.Empty(t, may, "the TTL is over")
	require.Len(t, newGate(t, in).Grants("karpenter"), 2)
	require.Empty(t, newGate(t, in).Grants("other"))
}

func TestTakeEachUpToANumber(t *testing.T) {
	in := input()
	in.Applied[0].Subsets["m/other"] = applied(map[string]string{"m/other": "de"}).Subsets["m/other"]
	may, _ := newGate(t, in).TakeEach("karpenter", time.Hour, 1, "b", "e", "f")
	require.Equal(t, []string{"b", "f"}, may)
	in.Grants = []gate.Grant{{Node: "b", Holder: "karpenter", Taken: now, TTL: time.Hour, Went: now}}
	may, _ = newGate(t, in).TakeEach("karpenter", time.Hour, 1, "b", "e")
	require.Equal(t, []string{"b", "e"}, may, "b has gone")
}

func TestOnlyTheHolderEndsAManualGrant(t *testing.T) {
	g := gate.Grant{Node: "a", Holder: "h", Taken: now, TTL: time.Minute, Manual: true}
	late := now.Add(24 * time.Hour)
	g, ended := g.Observe(gate.Observation{Applied: true, Up: true}, time.Minute, late)
	require.Empty(t, ended, "the TTL is over")
	g, ended = g.Observe(gate.Observation{Away: true}, time.Minute, late)
	require.Empty(t, ended, "no configuration has the node")
	require.Equal(t, late, g.Went)
	g, _ = g.Observe(gate.Observation{Applied: true, Up: true}, time.Minute, late)
	require.Equal(t, late, g.Back)
	_, ended = g.Observe(gate.Observation{Applied: true, Up: true}, time.Minute, late.Add(time.Hour))
	require.Empty(t, ended, "the node is back")
}

func TestAwayAndUnusedNodes(t *testing.T) {
	in := input()
	in.Nodes = in.Nodes[1:] // the cluster no longer has a
	in.Nodes[0].Away, in.Nodes[4].Away = "cordoned", "not Ready"
	in.Grants = []gate.Grant{{Node: "c", Holder: "kured", Taken: now}}
	g := newGate(t, in)
	require.Equal(t, []gate.AwayNode{
		{Name: "a", Why: "not in the cluster"},
		{Name: "b", Why: "cordoned"},
		{Name: "c", Why: "granted to kured", Since: now},
		{Name: "f", Why: "not Ready"},
	}, g.AwayNodes())
	unused, since := g.Unused()
	require.Equal(t, []string{"d", "e"}, unused)
	require.Equal(t, now.Add(-time.Hour), since)
}
