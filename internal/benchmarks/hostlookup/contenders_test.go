package hostlookup

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/elastic/go-freelru"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/maypok86/otter/v2"
	phuslu "github.com/phuslu/lru"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

type cache interface {
	// get returns the address of the endpoint, which a router needs.
	get(host string) (addr string, ok bool)
	set(host string, ep hostlookup.Endpoint)
	close()
}

type contender struct {
	name     string
	make     func(size int) cache
	readOnly bool
}

// ttl is the lifetime for all caches that support one. It does not end during a run.
const ttl = time.Hour

var contenders = []contender{
	{name: "hostlookup", make: newOurs},
	{name: "read-only-map", make: newReadOnly, readOnly: true},
	{name: "phuslu-ttl", make: newPhuslu},
	{name: "otter-expiry", make: func(size int) cache { return newOtter(size, true) }},
	{name: "otter-no-expiry", make: func(size int) cache { return newOtter(size, false) }},
	{name: "phuslu-no-ttl", make: newPhusluPlain},
	{name: "freelru-sharded", make: newFreeLRU},
	{name: "golang-lru-expirable", make: newExpirable},
}

type ours struct{ c *hostlookup.Cache }

func newOurs(size int) cache {
	return ours{&hostlookup.Cache{
		Source: hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
			return hostlookup.Endpoint{}, hostlookup.ErrNotFound
		}),
		MaxHosts: size, TTL: ttl,
	}}
}

func (o ours) get(host string) (string, bool) {
	ep, err := o.c.LookupHost(context.Background(), host)
	return ep.Addr, err == nil
}

func (o ours) set(host string, ep hostlookup.Endpoint) {
	if err := o.c.Set(host, ep); err != nil {
		panic(err)
	}
}

func (o ours) close() { o.c.Close() }

// readOnly shows the upper bound for a cache: nothing expires, it evicts nothing, and it keeps no
// order. It gets all hosts before the first read.
type readOnly struct {
	m      *atomic.Pointer[map[string]hostlookup.Endpoint]
	filled map[string]hostlookup.Endpoint
}

func newReadOnly(size int) cache {
	r := readOnly{new(atomic.Pointer[map[string]hostlookup.Endpoint]), make(map[string]hostlookup.Endpoint, size)}
	r.m.Store(&r.filled)
	return r
}

func (r readOnly) get(host string) (string, bool) {
	ep, ok := (*r.m.Load())[host]
	return ep.Addr, ok
}

func (r readOnly) set(host string, ep hostlookup.Endpoint) {
	if _, ok := r.filled[host]; !ok && len(r.filled) < 200_000 {
		r.filled[host] = ep
	}
}

func (readOnly) close() {}

type phusluTTL struct {
	c *phuslu.TTLCache[string, hostlookup.Endpoint]
}

func newPhuslu(size int) cache {
	return phusluTTL{phuslu.NewTTLCache[string, hostlookup.Endpoint](size)}
}

func (p phusluTTL) get(host string) (string, bool) {
	ep, ok := p.c.Get(host)
	return ep.Addr, ok
}

func (p phusluTTL) set(host string, ep hostlookup.Endpoint) { p.c.Set(host, ep, ttl) }
func (phusluTTL) close()                                    {}

type phusluPlain struct {
	c *phuslu.LRUCache[string, hostlookup.Endpoint]
}

func newPhusluPlain(size int) cache {
	return phusluPlain{phuslu.NewLRUCache[string, hostlookup.Endpoint](size)}
}

func (p phusluPlain) get(host string) (string, bool) {
	ep, ok := p.c.Get(host)
	return ep.Addr, ok
}

func (p phusluPlain) set(host string, ep hostlookup.Endpoint) { p.c.Set(host, ep) }
func (phusluPlain) close()                                    {}

type otterCache struct {
	c *otter.Cache[string, hostlookup.Endpoint]
}

func newOtter(size int, expires bool) cache {
	options := &otter.Options[string, hostlookup.Endpoint]{MaximumSize: size}
	if expires {
		options.ExpiryCalculator = otter.ExpiryWriting[string, hostlookup.Endpoint](ttl)
	}
	return otterCache{otter.Must(options)}
}

func (o otterCache) get(host string) (string, bool) {
	ep, ok := o.c.GetIfPresent(host)
	return ep.Addr, ok
}

func (o otterCache) set(host string, ep hostlookup.Endpoint) { o.c.Set(host, ep) }
func (o otterCache) close()                                  { o.c.StopAllGoroutines() }

type freeLRU struct {
	c *freelru.ShardedLRU[string, hostlookup.Endpoint]
}

func newFreeLRU(size int) cache {
	c, err := freelru.NewSharded[string, hostlookup.Endpoint](uint32(size), func(s string) uint32 { return uint32(xxhash.Sum64String(s)) })
	if err != nil {
		panic(err)
	}
	c.SetLifetime(ttl)
	return freeLRU{c}
}

func (f freeLRU) get(host string) (string, bool) {
	ep, ok := f.c.Get(host)
	return ep.Addr, ok
}

func (f freeLRU) set(host string, ep hostlookup.Endpoint) { f.c.Add(host, ep) }
func (freeLRU) close()                                    {}

type expirableLRU struct {
	c *expirable.LRU[string, hostlookup.Endpoint]
}

func newExpirable(size int) cache {
	return expirableLRU{expirable.NewLRU[string, hostlookup.Endpoint](size, nil, ttl)}
}

func (e expirableLRU) get(host string) (string, bool) {
	ep, ok := e.c.Get(host)
	return ep.Addr, ok
}

func (e expirableLRU) set(host string, ep hostlookup.Endpoint) { e.c.Add(host, ep) }
func (expirableLRU) close()                                    {}

// TestContenders checks that the benchmarks measure hits.
func TestContenders(t *testing.T) {
	w := newWorld(1_000)
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			it := filled(c, w)
			defer it.close()
			missed := 0
			for _, host := range w.wanted[:10_000] {
				addr, ok := it.get(host)
				if !ok {
					missed++
				} else if addr != endpoint(host).Addr {
					t.Fatalf("%s: got %v", host, addr)
				}
			}
			if missed > 200 {
				t.Fatalf("%d of 10,000 were missed", missed)
			}
		})
	}
}
