package hashring

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoAllocations(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		nodes := numbered(1000)
		for i := range nodes {
			nodes[i].Zone = fmt.Sprint(i % 16)
			if mixed {
				nodes[i].Weight = float64(i % 7)
			}
		}
		r := mustNew(t, nodes...)
		dst := make([]Node, 0, 64)
		keys := benchKeys()
		for _, k := range []int{1, 10, 20, 64} {
			i := 0
			require.Zero(t, testing.AllocsPerRun(500, func() { i++; dst = r.AppendTop(dst[:0], keys[i], k) }), "AppendTop, mixed=%v, k=%d", mixed, k)
			require.Len(t, dst, k)
			i = 0
			require.Zero(t, testing.AllocsPerRun(500, func() { i++; dst = r.AppendSpread(dst[:0], keys[i], k) }), "AppendSpread, mixed=%v, k=%d", mixed, k)
			require.Len(t, dst, k)
			i = 0
			require.Equal(t, 1.0, testing.AllocsPerRun(500, func() { i++; dst = r.Top(keys[i], k) }), "Top, mixed=%v, k=%d", mixed, k)
			dst = make([]Node, 0, 64)
		}
	}
}

// TestAppendKeepsTheSlice appends to a slice that has elements, with enough and with too little
// capacity.
func TestAppendKeepsTheSlice(t *testing.T) {
	r := mustNew(t, zoned(5, 5)...)
	first := Node{Name: "first"}
	for _, room := range []int{1, 3, 20} {
		dst := append(make([]Node, 0, room), first)
		require.Equal(t, append([]Node{first}, r.Top("key", 7)...), r.AppendTop(dst, "key", 7))
		require.Equal(t, append([]Node{first}, r.Spread("key", 7)...), r.AppendSpread(dst, "key", 7))
	}
}

// TestConcurrentUse uses one ring, and the buffers in the pool, from several goroutines. It is
// useful only with the race detector.
func TestConcurrentUse(t *testing.T) {
	nodes := zoned(150, 150)
	for i := range nodes {
		nodes[i].Weight = float64(1 + i%3)
	}
	r := mustNew(t, nodes...)
	want := map[string][]Node{}
	for i := range 20 {
		want[serviceName(0, i)] = r.Top(serviceName(0, i), 300)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for key, want := range want {
				if got := r.Top(key, 200); !slices.Equal(got, want[:200]) {
					t.Errorf("Top(%q) differs", key)
				}
				i := 0
				for n := range r.Ranked(key) {
					// An inner iteration must not disturb the outer one.
					for m := range r.Ranked(key) {
						if m != want[0] {
							t.Errorf("inner Ranked(%q) differs", key)
						}
						break
					}
					if n != want[i] {
						t.Errorf("Ranked(%q) differs at %d", key, i)
					}
					i++
				}
				if len(r.Spread(key, 100)) != 100 {
					t.Errorf("Spread(%q) is not whole", key)
				}
			}
		})
	}
	wg.Wait()
}
