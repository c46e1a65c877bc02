// Package hostlookup compares the cache of sniproxy/hostlookup with other caches for Go. The load
// is that of a router: it reads host names, a few of which are popular, while new hosts come and
// old hosts go.
//
// Compare only lines of the same run: they depend on the machine and its other programs. For
// medians:
//
//	go test -run '^$' -bench . -count 7 ./hostlookup > new.txt && benchstat -col /cache new.txt
package hostlookup

import (
	"fmt"
	"math/rand"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// world contains the known hosts and the names that clients request.
type world struct {
	hosts  []string
	wanted []string // zipf(1.01) over hosts; copies in a memory block of their own
	fresh  []string // never requested; inserting them evicts others
}

const (
	wantedLen = 1 << 19 // a power of two
	freshLen  = 1 << 18
)

var worlds = map[int]func() *world{
	1_000:   sync.OnceValue(func() *world { return newWorld(1_000) }),
	100_000: sync.OnceValue(func() *world { return newWorld(100_000) }),
}

func newWorld(n int) *world {
	w := &world{}
	for i := range n {
		w.hosts = append(w.hosts, "tenant-"+strconv.Itoa(i*7919)+".example.com")
	}
	rng := rand.New(rand.NewSource(1))
	rng.Shuffle(n, func(i, j int) { w.hosts[i], w.hosts[j] = w.hosts[j], w.hosts[i] })
	zipf := rand.NewZipf(rng, 1.01, 1, uint64(n-1))
	// A router has just read a name from a connection: the name is in the processor's cache, and it
	// is not the string in the cache under test. The same string would make the comparison trivial.
	var text strings.Builder
	ends := make([]int, wantedLen)
	for i := range ends {
		text.WriteString(w.hosts[zipf.Uint64()])
		ends[i] = text.Len()
	}
	start := 0
	for _, end := range ends {
		w.wanted = append(w.wanted, text.String()[start:end])
		start = end
	}
	for i := range freshLen {
		w.fresh = append(w.fresh, "new-"+strconv.Itoa(i)+".example.net")
	}
	return w
}

func endpoint(host string) hostlookup.Endpoint {
	return hostlookup.Endpoint{App: "app", Host: host, Addr: "10.0.0.24:443"}
}

// filled returns the cache with all hosts of w in it.
func filled(c contender, w *world) cache {
	// The cache has room for twice the hosts. So an insert usually evicts an earlier insert, and
	// lookups are hits.
	it := c.make(2 * len(w.hosts))
	for i := range len(w.hosts) {
		it.set(w.fresh[i%freshLen], endpoint(w.fresh[i%freshLen]))
	}
	for _, host := range w.hosts {
		it.set(host, endpoint(host))
	}
	return it
}

// BenchmarkHit reads from as many goroutines as there are processors, while another goroutine
// inserts hosts at a fixed rate. Each insert evicts a host. After a miss, the reader puts the host
// back. The read-only map gets no inserts.
func BenchmarkHit(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		for _, inserts := range []int{0, 10_000} {
			for _, c := range contenders {
				run(b, fmt.Sprintf("hosts=%d/inserts=%d/cache=%s", n, inserts, c.name), c, n, func(b *testing.B, it cache, w *world) {
					if !c.readOnly {
						defer insert(it, w, inserts)()
					}
					read(b, it, w, 0)
				})
			}
		}
	}
}

// BenchmarkMix makes one insert in 100 operations, in the goroutines that read.
func BenchmarkMix(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		for _, c := range contenders {
			if c.readOnly {
				continue
			}
			run(b, fmt.Sprintf("hosts=%d/cache=%s", n, c.name), c, n, func(b *testing.B, it cache, w *world) {
				read(b, it, w, 100)
			})
		}
	}
}

// run fills one cache and uses it for all calls of f.
func run(b *testing.B, name string, c contender, n int, f func(*testing.B, cache, *world)) {
	var it cache
	b.Run(name, func(b *testing.B) {
		if it == nil {
			it = filled(c, worlds[n]())
			runtime.GC()
		}
		f(b, it, worlds[n]())
	})
	if it != nil {
		it.close()
	}
}

// read is the measured loop. If the argument "every" is above 0, the loop inserts one host after
// each group of that many reads.
func read(b *testing.B, it cache, w *world, every int) {
	var misses atomic.Int64
	procs := runtime.GOMAXPROCS(0)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	// RunParallel does not fit: until it knows how long an iteration takes, it counts each one in
	// memory that all processors write to. That costs several times as much as a hit.
	var all sync.WaitGroup
	share := func(me int) {
		i, next, missed := me*wantedLen/5, me*freshLen/5, int64(0)
		until := every
		for range (b.N + me) / procs {
			host := w.wanted[i&(wantedLen-1)]
			i++
			addr, ok := it.get(host)
			if !ok {
				missed++
				it.set(host, endpoint(host))
			} else if len(addr) == 0 {
				panic("wrong endpoint")
			}
			if until--; until == 0 {
				until = every
				next++
				fresh := w.fresh[next&(freshLen-1)]
				it.set(fresh, endpoint(fresh))
			}
		}
		misses.Add(missed)
	}
	for me := range procs {
		all.Go(func() { share(me) })
	}
	all.Wait()
	b.StopTimer()
	// Other programs disturb the processor time of all threads less than the wall time.
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(misses.Load())/float64(b.N)*100, "miss-%")
}

// insert inserts perSecond hosts a second, until the caller calls the function stop.
func insert(it cache, w *world, perSecond int) (stop func()) {
	if perSecond == 0 {
		return func() {}
	}
	const tick = 5 * time.Millisecond
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.Tick(tick)
		for i := 0; ; {
			select {
			case <-quit:
				return
			case <-ticker:
			}
			for range perSecond / int(time.Second/tick) {
				fresh := w.fresh[i&(freshLen-1)]
				it.set(fresh, endpoint(fresh))
				i++
			}
		}
	}()
	return func() { close(quit); <-done }
}
