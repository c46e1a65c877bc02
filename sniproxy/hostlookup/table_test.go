package hostlookup

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hostname"
)

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "host-" + strconv.Itoa(i) + ".example.com"
	}
	return all
}

// The table beside a Go map, with hashes that collide a lot and runs that wrap around.
func TestTableAgainstMap(t *testing.T) {
	for _, bits := range []uint64{0, 3, 63, ^uint64(0)} {
		t.Run(strconv.FormatUint(bits, 16), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, bits))
			all := names(300)
			hash := func(host string) uint64 {
				h := rand.New(rand.NewPCG(uint64(len(host)), uint64(host[5])<<16|uint64(host[6])<<8|uint64(host[7]))).Uint64()
				return (h&bits - 2) | 1<<63 // -2: close to the end of the slots
			}
			tab := newTable(minSlots)
			model := map[string]*entry{}
			for range 20_000 {
				host := all[rng.IntN(len(all))]
				if e := model[host]; e != nil {
					tab.remove(hash(host), e)
					delete(model, host)
				} else if len(model) < 200 {
					e := newEntry(host, Endpoint{}, nil)
					tab = tab.insert(hash(host), e)
					model[host] = e
				}
				require.Equal(t, len(model), tab.used)
				host = all[rng.IntN(len(all))]
				require.Same(t, model[host], tab.find(hash(host), host))
			}
			tab.remove(hash("absent.example.com"), newEntry("absent.example.com", Endpoint{}, nil))
			for _, host := range all {
				require.Same(t, model[host], tab.find(hash(host), host))
			}
			require.LessOrEqual(t, 4*tab.used, 3*len(tab.slots))
		})
	}
}

// Readers beside a writer that inserts and removes: what stays is nearly always
// found, and what is found has the right name.
func TestTableReaders(t *testing.T) {
	all := names(1000)
	hash := func(i int) uint64 { return uint64(i/4)*0x9e3779b97f4a7c15 | 1<<63 }
	var current atomic.Pointer[table]
	tab := newTable(4 * 1024)
	for i := range 500 {
		tab = tab.insert(hash(i), newEntry(all[i], Endpoint{}, nil))
	}
	current.Store(tab)
	var stop atomic.Bool
	var found, missed atomic.Int64
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, seed))
			for !stop.Load() {
				i := rng.IntN(1000)
				e := current.Load().find(hash(i), all[i])
				switch {
				case e != nil && e.hostName() != all[i]:
					t.Errorf("asked for %s, found %s", all[i], e.hostName())
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
	held := map[int]*entry{}
	for range 100_000 {
		i := 500 + rng.IntN(500)
		if e := held[i]; e != nil {
			tab.remove(hash(i), e)
			delete(held, i)
		} else {
			held[i] = newEntry(all[i], Endpoint{}, nil)
			tab = tab.insert(hash(i), held[i])
			current.Store(tab)
		}
	}
	stop.Store(true)
	wg.Wait()
	require.Positive(t, found.Load())
	require.Less(t, missed.Load(), found.Load()/10+10)
}

func TestEntryNames(t *testing.T) {
	for n := range hostname.MaxName + 1 {
		host := string(make([]byte, n))
		e := newEntry(host, Endpoint{}, nil)
		require.True(t, e.is(host))
		require.Equal(t, host, e.hostName())
		require.False(t, e.is(host+"x"))
		if n > 0 {
			require.False(t, e.is(host[1:]))
			require.False(t, e.is(host[1:]+"x"))
		}
	}
}
