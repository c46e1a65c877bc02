package disruption_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/fleettest"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// best is the size of the largest wave that 10^7 steps find in fleettest.New(1000, 2000, 20).
const best = 53

func TestNextWaveIsNearlyTheLargest(t *testing.T) {
	f := fleettest.New(1000, 2000, 20)
	s := newState(t, disruption.Budget{}, f.Nodes, f.Subsets())
	greedy, annealed := s.Wave(s.Nodes(), 0), s.Wave(s.Nodes(), disruption.DefaultSteps)
	require.GreaterOrEqual(t, float64(len(greedy)), 0.9*best)
	require.Greater(t, len(annealed), len(greedy))
	require.True(t, s.May(annealed...).OK)
	require.Equal(t, annealed, s.Wave(s.Nodes(), disruption.DefaultSteps), "another result for the same input")
}

// The largest wave that annealing finds may have room for another node. With this cluster, there is
// room after 62 steps.
func TestNoNodeCanBeAddedToAWave(t *testing.T) {
	f := fleettest.New(40, 20, 4)
	s := newState(t, disruption.Budget{Service: 3}, f.Nodes, f.Subsets())
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
	waves, err := fleettest.New(300, 100, 8).ReplaceAll(disruption.Budget{}, 0)
	require.NoError(t, err)
	require.LessOrEqual(t, waves, 6)
}

// The package documentation and README.md contain the numbers that this test checks. The command
// internal/benchmarks/disruption computes them.
func TestEstimateAndBound(t *testing.T) {
	f := fleettest.New(1000, 200, 16)
	s := newState(t, disruption.Budget{}, f.Nodes, f.Subsets())
	e := s.Estimate(s.Nodes(), 0)
	require.Equal(t, 8, e.Bound)
	require.InDelta(t, 11, e.Waves, 1)
}

func TestMayDoesNotAllocate(t *testing.T) {
	f := fleettest.New(300, 100, 8)
	s := newState(t, disruption.Budget{Zone: 1, Share: 0.5, OneZone: true}, f.Nodes, f.Subsets())
	name := f.Nodes[7].Name
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !s.May(name).OK {
			t.Error("no")
		}
	}))
}

// The goal is 4 MB for the whole State. All allocations of New together, with the temporary ones,
// must be less.
func TestStateIsSmall(t *testing.T) {
	f := fleettest.New(1000, 2000, 20)
	set := f.Subsets()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	newState(t, disruption.Budget{Zone: 1}, f.Nodes, set)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

func BenchmarkNew(b *testing.B) {
	f := fleettest.New(1000, 2000, 20)
	set := f.Subsets()
	b.ReportAllocs()
	for b.Loop() {
		newState(b, disruption.Budget{}, f.Nodes, set)
	}
}

func BenchmarkMay(b *testing.B) {
	f := fleettest.New(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.Nodes, f.Subsets())
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
	f := fleettest.New(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.Nodes, f.Subsets())
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
				waves, err := fleettest.New(1000, 2000, 20).ReplaceAll(disruption.Budget{}, steps)
				if err != nil || waves > 32 {
					b.Fatalf("%d waves, error %v", waves, err)
				}
				b.ReportMetric(float64(waves), "waves")
			}
		})
	}
}

func BenchmarkEstimate(b *testing.B) {
	f := fleettest.New(1000, 2000, 20)
	s := newState(b, disruption.Budget{}, f.Nodes, f.Subsets())
	b.ReportAllocs()
	for b.Loop() {
		e := s.Estimate(s.Nodes(), 0)
		b.ReportMetric(float64(e.Waves), "waves")
		b.ReportMetric(float64(e.Bound), "bound")
	}
}
