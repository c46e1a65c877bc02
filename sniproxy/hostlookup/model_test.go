package hostlookup

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// modelSource is a source that has a version number for each host. A change of the host increases
// its version. An answer contains the version. Some calls fail, the source never finds some hosts,
// and some answers are late.
type modelSource struct {
	versions []atomic.Int64
	down     atomic.Bool
	// clock stops the synthetic time during a call: on a busy machine, a call takes very long.
	clock sync.RWMutex
}

func (s *modelSource) LookupHost(_ context.Context, host string) (Answer, error) {
	s.clock.RLock()
	defer s.clock.RUnlock()
	i := modelIndex(host)
	if s.down.Load() || rand.IntN(50) == 0 {
		return Answer{}, errDown
	}
	v := s.versions[i].Load()
	if rand.IntN(4) == 0 {
		for range rand.IntN(300) {
			runtime.Gosched() // let other lookups begin during this call
		}
	}
	if i%7 == 0 {
		return Answer{}, ErrNotFound
	}
	return Answer{Endpoint: modelEndpoint(i, v)}, nil
}

func modelHost(i int) string { return "m" + strconv.Itoa(i) + ".example.com" }

func modelIndex(host string) int {
	i, _ := strconv.Atoi(strings.TrimSuffix(host[1:], ".example.com"))
	return i
}

func modelEndpoint(i int, v int64) Endpoint {
	return Endpoint{App: strconv.FormatInt(v, 10), Host: modelHost(i), Addr: "10.0.0." + strconv.Itoa(i%250+1)}
}

// Several goroutines use all methods at once while the time advances. The test compares each answer
// with a model:
//   - an answer belongs to the host of the lookup;
//   - it is not older than the last announced change that was complete before the lookup began;
//   - it is not older than TTL + StaleFor;
//   - a host that does not exist is never found, and a host that exists is never ErrNotFound;
//   - the cache holds no more hosts than its limits.
func TestConcurrentAgainstModel(t *testing.T) {
	const (
		hosts       = 40
		maxHosts    = 20
		maxNegative = 8
		ttl         = 10 * time.Second
		staleFor    = 40 * time.Second
	)
	var offset atomic.Int64 // of the synthetic clock
	start := time.Now()
	clock := func() time.Time { return start.Add(time.Duration(offset.Load())) }
	src := &modelSource{versions: make([]atomic.Int64, hosts)}
	c := &Cache{
		Source: src, MaxHosts: maxHosts, MaxNegative: maxNegative, TTL: ttl, StaleFor: staleFor, Jitter: -1,
		StaleAfter: time.Millisecond, StaleWhileRevalidate: time.Second, MaxCalls: 3, Clock: clock,
	}
	// settled[i] is the oldest version that a lookup of host i may return.
	var settled [hosts]atomic.Int64
	// births[i] has the time at which each version of host i began. The source gave an answer with
	// this version before the next version began, or in a call that was running at that time. So
	// the answer is at least as old as the next version.
	type birth struct {
		sync.Mutex
		at []int64
	}
	var births [hosts]birth
	for i := range births {
		births[i].at = []int64{0}
	}

	var wg sync.WaitGroup
	var levels [Failed + 1]atomic.Int64
	stop := make(chan struct{})
	var ops atomic.Int64
	for worker := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 7))
			for {
				select {
				case <-stop:
					return
				default:
				}
				ops.Add(1)
				i := min(rng.IntN(hosts), rng.IntN(hosts))
				host := modelHost(i)
				switch n := rng.IntN(3000); {
				case n < 20: // the source changes, and the cache learns of it
					births[i].Lock()
					v := src.versions[i].Add(1)
					births[i].at = append(births[i].at, offset.Load())
					switch n % 4 {
					case 0:
						c.Forget(host)
					case 1:
						c.Forget("*.example.com")
					case 2:
						if i%7 == 0 {
							c.Forget(host)
						} else if err := c.Set(host, modelEndpoint(i, v)); err != nil {
							t.Error(err)
						}
					case 3:
						c.Purge()
					}
					settled[i].Store(v)
					births[i].Unlock()
				case n < 22:
					c.Expire()
				case n < 30: // the source changes, and the cache does not learn of it
					births[i].Lock()
					src.versions[i].Add(1)
					births[i].at = append(births[i].at, offset.Load())
					births[i].Unlock()
				case n < 40:
					stats := c.Stats()
					if stats.Hosts > maxHosts || stats.Negative > maxNegative {
						t.Errorf("holds %d hosts and %d negative", stats.Hosts, stats.Negative)
					}
				default:
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if n < 60 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Microsecond)
					}
					oldest, began := settled[i].Load(), offset.Load()
					ep, err := c.LookupHost(ctx, host)
					cancel()
					levels[ep.Level].Add(1)
					if err != nil {
						if errors.Is(err, ErrNotFound) != (i%7 == 0) && !errors.Is(err, errDown) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrBusy) {
							t.Errorf("%s: %v", host, err)
						}
						continue
					}
					v, err := strconv.ParseInt(ep.App, 10, 64)
					if err != nil || ep.Endpoint != modelEndpoint(i, v) || i%7 == 0 {
						t.Errorf("%s: got %+v", host, ep)
						continue
					}
					if v < oldest {
						t.Errorf("%s: got version %d after %d had been announced", host, v, oldest)
					}
					births[i].Lock()
					if int(v)+1 < len(births[i].at) {
						// The clock advances between the call of the source and the cache's look at the clock: by
						// a minute if a goroutine waits 240 ms.
						if age := time.Duration(began - births[i].at[v+1]); age > ttl+staleFor+time.Minute {
							t.Errorf("%s: version %d ended %v ago", host, v, age)
						}
					}
					births[i].Unlock()
				}
			}
		})
	}
	// The synthetic time runs faster than real time. From time to time, the source is down.
	ticker := time.Tick(200 * time.Microsecond)
	enough := func() bool {
		for level := range levels {
			if levels[level].Load() == 0 {
				return false
			}
		}
		return ops.Load() >= 5_000
	}
	short, deadline := time.Now().Add(8*time.Second), time.Now().Add(time.Minute)
	for step := 0; ops.Load() < 60_000 && time.Now().Before(deadline) && !(time.Now().After(short) && enough()); step++ {
		<-ticker
		src.clock.Lock()
		offset.Add(int64(50 * time.Millisecond))
		src.clock.Unlock()
		src.down.Store(step%1500 > 1000)
	}
	close(stop)
	wg.Wait()
	require.NoError(t, c.Close())
	for level := range levels {
		require.Positive(t, levels[level].Load(), "no answer was %v", Level(level))
	}
	t.Logf("levels %v, stats %+v", &levels, c.Stats())
}
