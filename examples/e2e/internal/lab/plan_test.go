package lab

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlanKeepsAddressesApart(t *testing.T) {
	seen := map[netip.Addr]string{Gateway: "gateway"}
	take := func(what string, a netip.Addr) {
		t.Helper()
		require.Empty(t, seen[a], "%s is taken, wanted for %s", a, what)
		require.True(t, Network.Contains(a), "%s of %s is outside the lab", a, what)
		seen[a] = what
	}
	for i := range maxMachines {
		a, err := MachineAddr(i)
		require.NoError(t, err)
		take("machine", a)
	}
	networks := []netip.Prefix{Network}
	for i := range maxClusters {
		c, err := PlanCluster(i)
		require.NoError(t, err)
		take("control", c.Control)
		for _, p := range []netip.Prefix{c.Pods, c.Services} {
			require.Equal(t, p.Masked(), p)
			for _, other := range networks {
				require.False(t, p.Overlaps(other), "%s and %s", p, other)
			}
			networks = append(networks, p)
		}
		pods := map[netip.Prefix]bool{}
		for j := range maxNodes {
			n, err := c.Node(j)
			require.NoError(t, err)
			take("node", n.Addr)
			require.False(t, pods[n.Pods], "%s is taken", n.Pods)
			pods[n.Pods] = true
			require.True(t, c.Pods.Overlaps(n.Pods))
			require.True(t, n.Pods.Contains(n.PodGateway))
		}
	}
}

func TestPlanOfPods(t *testing.T) {
	c, err := PlanCluster(1)
	require.NoError(t, err)
	n, err := c.Node(2)
	require.NoError(t, err)
	require.Equal(t, "10.64.2.13", n.Addr.String())
	require.Equal(t, "10.81.3.0/24", n.Pods.String())
	seen := map[netip.Addr]bool{n.PodGateway: true}
	for i := range maxPods {
		p, err := n.Pod(i)
		require.NoError(t, err)
		require.True(t, n.Pods.Contains(p))
		require.False(t, seen[p], "%s is taken", p)
		seen[p] = true
	}
}

func TestPlanRefusesTooMany(t *testing.T) {
	c, err := PlanCluster(0)
	require.NoError(t, err)
	n, err := c.Node(0)
	require.NoError(t, err)
	for _, i := range []int{-1, 256, 1 << 20} {
		_, err := MachineAddr(i)
		require.Error(t, err)
		_, err = PlanCluster(i)
		require.Error(t, err)
		_, err = c.Node(i)
		require.Error(t, err)
		_, err = n.Pod(i)
		require.Error(t, err)
	}
}
