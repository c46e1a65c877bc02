package unevenness_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/unevenness"
)

// The formula must agree with a simulation in which each connection goes to a random pod. The loads
// may differ by one connection or by 2%, whichever is more.
func TestWorstAgreesWithTrials(t *testing.T) {
	t.Parallel()
	for _, pods := range []int{2, 10, 50, 200} {
		for _, connections := range []int{40, 160, 640, 2560} {
			t.Run(fmt.Sprintf("pods=%d/connections=%d", pods, connections), func(t *testing.T) {
				t.Parallel()
				const trials = 1000
				loads := unevenness.Simulate(pods, connections, trials, 1)
				one := float64(pods) / float64(connections)
				for probability, simulated := range map[float64]float64{0.5: loads[trials/2], 0.99: loads[trials*99/100]} {
					require.InDelta(t, simulated, unevenness.Worst(pods, float64(connections), probability), max(one, 0.02*simulated)*1.001, "%v", probability)
				}
			})
		}
	}
}

func TestSimulateIsDeterministic(t *testing.T) {
	t.Parallel()
	require.Equal(t, unevenness.Simulate(10, 100, 50, 7), unevenness.Simulate(10, 100, 50, 7))
	require.NotEqual(t, unevenness.Simulate(10, 100, 50, 7), unevenness.Simulate(10, 100, 50, 8))
}

func TestWorstAtTheLimits(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 1, unevenness.Worst(1, 100, 0.99), 0)
	require.InDelta(t, 1, unevenness.Worst(0, 100, 0.99), 0)
	require.InDelta(t, 10, unevenness.Worst(10, 0, 0.99), 1e-12, "one connection goes to one pod")
	require.InDelta(t, 1, unevenness.Worst(4, 1e7, 0.99), 0.01)
	for _, pods := range []int{2, 3, 1000, 100_000} {
		for _, connections := range []float64{1, 2, 1000, 1e6} {
			median, high := unevenness.Worst(pods, connections, 0.5), unevenness.Worst(pods, connections, 0.99)
			require.LessOrEqual(t, 1.0, median+float64(pods)/connections)
			require.LessOrEqual(t, median, high)
			require.LessOrEqual(t, high, float64(pods)*1.000001, "all connections go to one pod at the worst")
		}
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 22.3, unevenness.Idle(50, 40), 0.1)
	require.InDelta(t, 0, unevenness.Idle(50, 10_000), 1e-6)
	require.InDelta(t, 0, unevenness.Idle(1, 1), 0)
	require.InDelta(t, 9, unevenness.Idle(10, 1), 1e-9)
}

// The test computes each expected value term by term, with the sum that the comment of Effective
// describes.
func TestEffective(t *testing.T) {
	t.Parallel()
	for inFlight, want := range map[float64]float64{0: 40, 0.2: 48, 1: 84, 5: 266, 20: 915} {
		require.InDelta(t, want, unevenness.Effective(20, 2, inFlight), 0.01*want, "%v", inFlight)
	}
	require.InDelta(t, 1000*20, unevenness.Effective(20, 1, 1000), 1000, "nearly all connections are in use")
	require.False(t, math.IsNaN(unevenness.Effective(20, 2, 1e5)))
	require.Zero(t, unevenness.Effective(0, 2, 5))
}

func TestPodsFor(t *testing.T) {
	t.Parallel()
	// With 2.4 times as many pods, the busiest one has the load that 10 pods have on average.
	n, ok := unevenness.PodsFor(1, 10, 160, 0.99)
	require.True(t, ok)
	require.InDelta(t, 24, n, 1)
	n, ok = unevenness.PodsFor(2, 10, 160, 0.99)
	require.True(t, ok)
	require.Equal(t, 10, n, "the target is met already")
	_, ok = unevenness.PodsFor(1, 200, 160, 0.99)
	require.False(t, ok, "there are fewer connections than pods")
	n, ok = unevenness.PodsFor(1, 1, 100, 0.99)
	require.True(t, ok)
	require.Equal(t, 1, n)
	for target := 1.0; target < 4; target += 0.25 {
		n, ok := unevenness.PodsFor(target, 50, 640, 0.99)
		require.True(t, ok)
		relative := func(n int) float64 { return unevenness.Worst(n, 640, 0.99) * 50 / float64(n) }
		require.LessOrEqual(t, relative(n), target)
		if n > 50 {
			require.Greater(t, relative(n-1), target, "one pod less is not enough")
		}
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	cluster := unevenness.Service{Pods: 50, Nodes: 20, Balancers: 2, InFlight: 5}.Estimate(1.5)
	require.InDelta(t, 266, cluster.Connections, 2)
	require.Less(t, cluster.P50, cluster.P99)
	require.Positive(t, cluster.MorePods)

	affinity := unevenness.Service{Policy: unevenness.ClientIP, Pods: 50, Nodes: 20, Balancers: 2, InFlight: 5}.Estimate(1.5)
	require.InDelta(t, 40, affinity.Connections, 0)
	require.InDelta(t, 3.75, affinity.P50, 1.3)
	require.InDelta(t, 22, affinity.Idle, 1, "45% of the pods")
	require.Equal(t, -1, affinity.MorePods, "40 connections cannot be spread over more pods")

	// 100 pods on 100 nodes, of which 20 get the traffic.
	one := make([]int, 20)
	for i := range one {
		one[i] = 1
	}
	local := unevenness.Service{Policy: unevenness.Local, Pods: 100, Nodes: 20, LocalPods: one}.Estimate(1.5)
	require.InDelta(t, 5, local.P99, 1e-9)
	require.InDelta(t, 80, local.Idle, 1e-9)
	require.Equal(t, 60, local.MorePods, "four pods on each node")

	uneven := unevenness.Service{Policy: unevenness.Local, Pods: 6, Nodes: 3, LocalPods: []int{1, 5, 0}}.Estimate(1)
	require.InDelta(t, 3, uneven.P50, 1e-9, "half of the load goes to one pod")
	require.Equal(t, 2, uneven.MorePods)

	uneven = unevenness.Service{Policy: unevenness.Local, Pods: 8, Nodes: 3, LocalPods: []int{1, 5, 0}, Weights: []int{1, 5, 2}}.Estimate(1)
	require.InDelta(t, 8./6, uneven.P50, 1e-9, "two pods are on other nodes")
	require.InDelta(t, 2, uneven.Idle, 1e-9)
	require.Equal(t, 3, uneven.MorePods)

	require.Equal(t, unevenness.Estimate{}, unevenness.Service{}.Estimate(1))
	none := unevenness.Service{Policy: unevenness.Local, Pods: 3, Nodes: 1, LocalPods: []int{0}}.Estimate(1)
	require.InDelta(t, 3, none.Idle, 0)
	given := unevenness.Service{Pods: 10, Nodes: 1, Connections: 160}.Estimate(2)
	require.InDelta(t, 1.81, given.P99, 0.1)
}

func BenchmarkEstimate(b *testing.B) {
	s := unevenness.Service{Pods: 200, Nodes: 20, Balancers: 8, InFlight: 20}
	b.ReportAllocs()
	for b.Loop() {
		s.Estimate(1.5)
	}
}
