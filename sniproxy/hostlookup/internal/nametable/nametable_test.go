package nametable

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testscale"
)

func newTable() *Table[int] {
	tab := &Table[int]{}
	tab.Init()
	return tab
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "host-" + strconv.Itoa(i) + ".example.com"
	}
	return all
}

// The table and a Go map always agree, with many colliding hashes and runs that wrap around the
// end.
func TestTableAgainstMap(t *testing.T) {
	for _, bits := range []uint64{0, 3, 63, ^uint64(0)} {
		t.Run(strconv.FormatUint(bits, 16), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, bits))
			all := names(300)
			hash := func(host string) uint64 {
				h := rand.New(rand.NewPCG(uint64(len(host)), uint64(host[5])<<16|uint64(host[6])<<8|uint64(host[7]))).Uint64()
				return (h&bits - 2) | 1<<63 // -2 puts the hashes close to the end of the slots
			}
			tab := newTable()
			model := map[string]*Item[int]{}
			for range testscale.Of(8_000) {
				host := all[rng.IntN(len(all))]
				if e := model[host]; e != nil {
					tab.remove(hash(host), e)
					delete(model, host)
				} else if len(model) < 200 {
					e := NewItem[int](host)
					tab.insert(hash(host), e)
					model[host] = e
				}
				host = all[rng.IntN(len(all))]
				if got := tab.Find(hash(host), host); got != model[host] || tab.used != len(model) {
					t.Fatalf("%s: found %p, want %p; %d items, want %d", host, got, model[host], tab.used, len(model))
				}
			}
			tab.remove(hash("absent.example.com"), NewItem[int]("absent.example.com"))
			for _, host := range all {
				require.Same(t, model[host], tab.Find(hash(host), host))
			}
			require.LessOrEqual(t, 4*tab.used, 3*len(*tab.slots.Load()))
		})
	}
}

// Several goroutines read while one goroutine inserts and removes other items. The readers nearly
// always find an item that stays in the table, and each found item has the right name.
func TestTableReaders(t *testing.T) {
	all := names(1000)
	hash := func(i int) uint64 { return uint64(i/4)*0x9e3779b97f4a7c15 | 1<<63 }
	tab := newTable()
	for i := range 500 {
		tab.insert(hash(i), NewItem[int](all[i]))
	}
	var stop atomic.Bool
	var found, missed atomic.Int64
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, seed))
			for !stop.Load() {
				i := rng.IntN(1000)
				e := tab.Find(hash(i), all[i])
				switch {
				case e != nil && e.Name() != all[i]:
					t.Errorf("looked for %s, found %s", all[i], e.Name())
					return
				case i < 500 && e == nil:
					missed.Add(1)
				case i < 500:
					found.Add(1)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(2, 2))
	held := map[int]*Item[int]{}
	for range 100_000 {
		i := 500 + rng.IntN(500)
		if e := held[i]; e != nil {
			tab.remove(hash(i), e)
			delete(held, i)
		} else {
			held[i] = NewItem[int](all[i])
			tab.insert(hash(i), held[i])
		}
	}
	stop.Store(true)
	wg.Wait()
	require.Positive(t, found.Load())
	require.Less(t, missed.Load(), found.Load()/10+10)
}

func TestItemNames(t *testing.T) {
	tab := newTable()
	for n := range 256 {
		name := string(make([]byte, n))
		item := NewItem[int](name)
		require.Equal(t, name, item.Name())
		require.True(t, item.hasName(name))
		require.False(t, item.hasName(name+"x"))
		if n > 0 {
			require.False(t, item.hasName(name[1:]))
			require.False(t, item.hasName(name[1:]+"x"))
		}
		tab.Insert(item)
	}
	for n := range 256 {
		item := tab.Get(string(make([]byte, n)))
		require.NotNil(t, item)
		tab.Remove(item)
		require.Nil(t, tab.Get(string(make([]byte, n))))
	}
	require.Zero(t, tab.used)
	tab.Insert(NewItem[int]("a"))
	tab.Clear()
	require.Nil(t, tab.Get("a"))
}
