package nodeagent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/nodeselect"
)

// fleet has one agent for each node of a cluster. Each agent sees all objects.
type fleet struct {
	agents map[string]*nodeagent.Tracker
	now    time.Time
}

func newFleet(nodes int, rules nodeagent.Rules) *fleet {
	f := &fleet{agents: map[string]*nodeagent.Tracker{}, now: noon}
	for i := range nodes {
		rules.Node = fmt.Sprint("n", i)
		f.agents[rules.Node] = &nodeagent.Tracker{Rules: rules}
	}
	return f
}

// draining calls the agents of the nodes n<first> to n<last> with the nodes of a cluster. It
// returns the names of the agents that answer "drain".
func (f *fleet) draining(t *testing.T, first, last int, cluster ...*corev1.Node) (draining []string) {
	t.Helper()
	f.now = f.now.Add(time.Second)
	for i := first; i <= last; i++ {
		name := fmt.Sprint("n", i)
		s, _ := f.agents[name].State(f.now, nodeselect.NewObjects(cluster, nil))
		if s.Node().Admin == agentcheck.Drain {
			draining = append(draining, name)
		}
	}
	return draining
}

func numbered(first, last int, change func(*corev1.Node)) (nodes []*corev1.Node) {
	for i := first; i <= last; i++ {
		nodes = append(nodes, node(fmt.Sprint("n", i), change))
	}
	return nodes
}

// If a cluster shrinks to its draining nodes, the node with the latest request gets traffic again.
// Otherwise no node would get traffic.
func TestClusterShrinksToThoseThatDrain(t *testing.T) {
	cordoned := func(n *corev1.Node) { cordon(n, noon) }
	drained := numbered(0, 2, cordoned)
	f := newFleet(10, nodeagent.Rules{})
	require.Equal(t, []string{"n0", "n1", "n2"}, f.draining(t, 0, 9, append(drained, numbered(3, 9, nil)...)...))
	require.Equal(t, []string{"n0", "n1", "n2"}, f.draining(t, 0, 3, append(drained, numbered(3, 3, nil)...)...), "n3 is left to take traffic")
	require.Equal(t, []string{"n0", "n1"}, f.draining(t, 0, 2, drained...), "only drained nodes are left")
	s, err := f.agents["n2"].State(f.now, nodeselect.NewObjects(drained, nil))
	require.NoError(t, err)
	require.Equal(t, "up ready # cordoned; waits: 2 of 3 nodes drain, no more than 1 may (30%)", s.Node().String())
	require.Empty(t, f.draining(t, 2, 2, numbered(2, 2, cordoned)...), "the only node")

	// The deletion of a draining node does not change the others.
	two := newFleet(3, nodeagent.Rules{MaxDrain: 0.9})
	require.Equal(t, []string{"n0", "n1"}, two.draining(t, 0, 2, drained...))
	require.Equal(t, []string{"n1"}, two.draining(t, 1, 2, drained[1:]...))

	all := newFleet(3, nodeagent.Rules{MaxDrain: 1})
	require.Equal(t, []string{"n0", "n1", "n2"}, all.draining(t, 0, 2, drained...))
	require.Equal(t, []string{"n1", "n2"}, all.draining(t, 1, 2, drained[1:]...))
}

// If many Node objects are missing at the same time, somebody has probably deleted them by mistake,
// or the store of the API server has lost them. So the nodes do not drain.
func TestManyNodesAreGone(t *testing.T) {
	t.Run("all at once", func(t *testing.T) {
		f := newFleet(10, nodeagent.Rules{})
		require.Empty(t, f.draining(t, 0, 9, numbered(0, 9, nil)...))
		require.Empty(t, f.draining(t, 0, 9))
		s, err := f.agents["n4"].State(f.now, nodeselect.Objects{})
		require.ErrorIs(t, err, nodeagent.ErrNoNode)
		require.Equal(t, "up ready # node is gone; waits: 10 of 10 nodes are gone, no more than 3 are believed at once (30%)", s.Node().String())
		require.True(t, s.Drain.Requested)
		require.False(t, s.Drain.Effective)
		require.Equal(t, "node is gone", s.Drain.Reason)
		require.Equal(t, noon.Add(2*time.Second), s.Drain.Since)

		require.Empty(t, f.draining(t, 0, 9, numbered(0, 9, nil)...), "the nodes are back")
		require.Equal(t, []string{"n9"}, f.draining(t, 0, 9, numbered(0, 8, nil)...), "n9 was really deleted")
	})
	t.Run("one by one", func(t *testing.T) {
		f := newFleet(10, nodeagent.Rules{})
		require.Empty(t, f.draining(t, 0, 9, numbered(0, 9, nil)...))
		for last := range 10 {
			// An agent computes nothing while its own node is unchanged.
			drains := last < 3
			require.Equal(t, drains, len(f.draining(t, last, last, numbered(last+1, 9, nil)...)) == 1, "n%d", last)
		}
	})
	t.Run("while new nodes come", func(t *testing.T) {
		f := newFleet(10, nodeagent.Rules{})
		require.Empty(t, f.draining(t, 0, 9, numbered(0, 9, nil)...))
		require.Len(t, f.draining(t, 0, 9, numbered(10, 17, nil)...), 10, "8 for 10")
	})
	t.Run("a draining node continues", func(t *testing.T) {
		f := newFleet(10, nodeagent.Rules{})
		cordoned := numbered(0, 0, func(n *corev1.Node) { cordon(n, noon) })
		require.Equal(t, []string{"n0"}, f.draining(t, 0, 9, append(cordoned, numbered(1, 9, nil)...)...))
		for range 20 { // well beyond the hold-down
			require.Equal(t, []string{"n0"}, f.draining(t, 0, 9))
		}
	})
	t.Run("the only node", func(t *testing.T) {
		f := newFleet(1, nodeagent.Rules{})
		require.Empty(t, f.draining(t, 0, 0, numbered(0, 0, nil)...))
		require.Empty(t, f.draining(t, 0, 0))
	})
	t.Run("control planes", func(t *testing.T) {
		f := newFleet(2, nodeagent.Rules{})
		planes := numbered(2, 4, func(n *corev1.Node) { n.Labels[nodeselect.ExcludeLabel] = "" })
		require.Empty(t, f.draining(t, 0, 1, append(planes, numbered(0, 1, nil)...)...))
		require.Empty(t, f.draining(t, 0, 1, planes...), "control planes do not count")
	})
}

// If all nodes are excluded from load balancers, package nodeselect uses all of them, because
// otherwise no node would get traffic. So the limit applies to these nodes too.
func TestEveryNodeIsExcluded(t *testing.T) {
	excluded := func(n *corev1.Node) {
		n.Labels[nodeselect.ExcludeLabel] = ""
		managed(n, "kubectl-label", `{"f:metadata":{"f:labels":{"f:`+nodeselect.ExcludeLabel+`":{}}}}`, noon)
	}
	f := newFleet(10, nodeagent.Rules{HoldDown: -1})
	require.Len(t, f.draining(t, 0, 9, append(numbered(0, 8, excluded), numbered(9, 9, nil)...)...), 9)
	require.Equal(t, []string{"n0", "n1", "n2"}, f.draining(t, 0, 9, numbered(0, 9, excluded)...))
	s, err := f.agents["n5"].State(f.now, nodeselect.NewObjects(numbered(0, 9, excluded), nil))
	require.NoError(t, err)
	require.Equal(t, `up ready # label `+nodeselect.ExcludeLabel+`=""; waits: 3 of 10 nodes drain, no more than 3 may (30%)`, s.Node().String())
	require.Len(t, f.draining(t, 0, 9, append(numbered(0, 8, excluded), numbered(9, 9, nil)...)...), 9)

	gone := newFleet(2, nodeagent.Rules{HoldDown: -1})
	planes := numbered(2, 4, excluded)
	require.Empty(t, gone.draining(t, 0, 1, append(numbered(0, 1, nil), planes...)...))
	require.Equal(t, []string{"n0"}, gone.draining(t, 0, 1, append(numbered(1, 1, nil), planes...)...))
	require.Equal(t, []string{"n0"}, gone.draining(t, 0, 0, planes...), "a deleted node stays deleted")
}
