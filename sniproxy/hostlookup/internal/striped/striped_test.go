package striped

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCounters(t *testing.T) {
	var c Counters
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for i := range 1000 {
				c.Add(uint8(i % 4))
			}
		})
	}
	all.Wait()
	for kind := range uint8(MaxKinds) {
		want := uint64(0)
		if kind < 4 {
			want = 5000
		}
		require.Equal(t, want, c.Sum(kind))
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Add(0) }))
}
