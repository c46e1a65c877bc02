package disruption_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/hashring"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// fleet is a cluster with the subsets that nodeselect would choose.
type fleet struct {
	nodes          []nodeselect.Node
	services, size int
}

func newFleet(nodes, services, size int) *fleet {
	f := &fleet{services: services, size: size}
	for i := range nodes {
		f.nodes = append(f.nodes, nodeselect.Node{Name: manifesttest.NodeName(i), Identity: manifesttest.NodeAddr(i)})
	}
	return f
}

func (f *fleet) subsets() nodeselect.Subsets {
	ring := make([]hashring.Node, len(f.nodes))
	index := make(map[string]int, len(f.nodes))
	for i, n := range f.nodes {
		ring[i].Name = n.Identity
		index[n.Identity] = i
	}
	r, err := hashring.New(ring...)
	if err != nil {
		panic(err)
	}
	set := make(nodeselect.Subsets, f.services)
	var top []hashring.Node
	for i := range f.services {
		service := fmt.Sprintf("team-%d/service-%d", i%50, i)
		top = r.AppendTop(top[:0], service, f.size)
		for _, n := range top {
			set[service] = append(set[service], f.nodes[index[n.Name]])
		}
	}
	return set
}

// replaceAll replaces all nodes with the next wave only, and returns the number of waves. Each node
// comes back with a new address, and then all subsets are made again.
func (f *fleet) replaceAll(tb testing.TB, b disruption.Budget, steps int) int {
	old := map[string]bool{}
	for _, n := range f.nodes {
		old[n.Name] = true
	}
	for waves := 1; ; waves++ {
		s := newState(tb, b, f.nodes, f.subsets())
		var candidates []string
		for name := range old {
			candidates = append(candidates, name)
		}
		wave := s.Wave(candidates, steps)
		require.NotEmpty(tb, wave)
		require.True(tb, s.Take(wave...).OK)
		gone := map[string]bool{}
		for _, name := range wave {
			gone[name] = true
			delete(old, name)
		}
		for i := range f.nodes {
			if n := &f.nodes[i]; gone[n.Name] {
				n.Identity += "-new"
			}
		}
		if len(old) == 0 {
			return waves
		}
	}
}

// best is the size of the largest wave that 10^7 steps find in newFleet(1000, 2000, 20).
const best = 53

func TestNextWaveIsNearlyTheLargest(t *testing.T) {
	f := newFleet(1000, 2000, 20)
	s := newState(t, disruption.Budget{}, f.nodes, f.subsets())
	greedy, annealed := s.Wave(s.Nodes(), 0), s.Wave(s.Nodes(), disruption.DefaultSteps)
	require.GreaterOrEqual(t, float64(len(greedy)), 0.9*best)
	require.Greater(t, len(annealed), len(greedy))
	require.True(t, s.May(annealed...).OK)
	require.Equal(t, annealed, s.Wave(s.Nodes(), disruption.DefaultSteps), "another result for the same input")
}

// The largest wave that annealing has found may have a free place. With this cluster, it has one
// after 62 steps.
func TestNoNodeCanBeAddedToAWave(t *testing.T) {
	f := newFleet(40, 20, 4)
	s := newState(t, disruption.Budget{Service: 3}, f.nodes, f.subsets())
	for steps := range 100 {
		wave := s.Wave(s.Nodes(), steps)
		require.True(t, s.May(wave...).OK)
		for _, name := range s.Nodes() {
			if _, in := slices.BinarySearch(wave, name); !in {
				require.False(t, s.May(append(slices.Clip(wave), name)...).OK, "%s may be added after %d steps", name, steps)
			}
		}
	}
}

func TestFewWavesReplaceAllNodes(t *testing.T) {
	f := newFleet(300, 100, 8)
	require.LessOrEqual(t, f.replaceAll(t, disruption.Budget{}, 0), 6)
}

// The numbers of package documentation and README.md: see internal/benchmarks/disruption.
func TestEstimateAndBound(t *testing.T) {
	f := newFleet(1000, 200, 16)
	s := newState(t, disruption.Budget{}, f.nodes, f.subsets())
	e := s.Estimate(s.Nodes(), 0)
	require.Equal(t, 8, e.Bound)
	require.InDelta(t, 11, e.Waves, 1)
}

func TestMayDoesNotAllocate(t *testing.T) {
	f := newFleet(300, 100, 8)
	s := newState(t, disruption.Budget{Zone: 1, Share: 0.5, OneZone: true}, f.nodes, f.subsets())
	name := f.nodes[7].Name
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !s.May(name).OK {
			t.Error("no")
		}
	}))
}

// The goal is 4 MB for the whole State. All allocations of New, also temporary ones, are less.
func TestStateIsSmall(t *testing.T) {
	f := newFleet(1000, 2000, 20)
	set := f.subsets()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	newState(t, disruption.Budget{Zone: 1}, f.nodes, set)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

func BenchmarkNew(b *testing.B) {
	f := newFleet(1000, 2000, 20)
	set := f.subsets()
	b.ReportAllocs()
	for b.Loop() {
		newState(b, disruption.Budget{}, f.nodes, set)
	}
}

func BenchmarkMay(b *testing.B) {
	f := newFleet(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.nodes, f.subsets())
	for _, named := range []int{1, 50} {
		wave := s.Wave(s.Nodes(), disruption.DefaultSteps)[:min(named, 45)]
		b.Run(fmt.Sprintf("named=%d", len(wave)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !s.May(wave...).OK {
					b.Fatal("no")
				}
			}
		})
	}
}

func BenchmarkWave(b *testing.B) {
	f := newFleet(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.nodes, f.subsets())
	for _, steps := range []int{0, disruption.DefaultSteps, 1_000_000} {
		b.Run(fmt.Sprintf("steps=%d", steps), func(b *testing.B) {
			b.ReportAllocs()
			size := math.NaN()
			for b.Loop() {
				size = float64(len(s.Wave(s.Nodes(), steps)))
			}
			b.ReportMetric(size, "nodes")
		})
	}
}

// BenchmarkReplaceAll fails if it takes more than 32 waves to replace 1,000 nodes.
func BenchmarkReplaceAll(b *testing.B) {
	for _, steps := range []int{0, disruption.DefaultSteps} {
		b.Run(fmt.Sprintf("steps=%d", steps), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				waves := newFleet(1000, 2000, 20).replaceAll(b, disruption.Budget{}, steps)
				if waves > 32 {
					b.Fatalf("%d waves", waves)
				}
				b.ReportMetric(float64(waves), "waves")
			}
		})
	}
}

func BenchmarkEstimate(b *testing.B) {
	f := newFleet(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.nodes, f.subsets())
	b.ReportAllocs()
	for b.Loop() {
		e := s.Estimate(s.Nodes(), 0)
		b.ReportMetric(float64(e.Waves), "waves")
		b.ReportMetric(float64(e.Bound), "bound")
	}
}
