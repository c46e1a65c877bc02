package hostlookup

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nothing that is answered from the table allocates, and neither does a refresh that
// brings the same answer to Set.
func TestAllocations(t *testing.T) {
	src := &fake{do: at("10.0.0.1")}
	clock := time.Now()
	for name, c := range map[string]*Cache{
		"coarse clock": {Source: src, TTL: Forever, NegativeTTL: Forever, ErrorTTL: Forever},
		"own clock":    {Source: src, TTL: Forever, NegativeTTL: Forever, ErrorTTL: Forever, Clock: func() time.Time { return clock }},
	} {
		t.Run(name, func(t *testing.T) {
			defer c.Close()
			long := "a-name-that-does-not-fit-into-an-entry.example.com"
			stale := "stale.example.com"
			src.answer(at("10.0.0.1"))
			for _, host := range []string{"a.com", long} {
				wantEndpoint(t, c, host, "10.0.0.1", Miss)
			}
			require.NoError(t, c.Set(stale, Endpoint{Host: stale, Addr: "10.0.0.1", TTL: 1}))
			c.Expire()
			src.answer(failing(ErrNotFound))
			wantError(t, c, "none.com", ErrNotFound, Miss)
			src.answer(failing(errDown))
			wantError(t, c, "failed.com", errDown, Miss)
			for host, level := range map[string]Level{"a.com": Miss, long: Miss, "none.com": Negative, "failed.com": Failed, stale: Stale} {
				_, _, _ = c.Get(t.Context(), host)
				_, _, _ = c.Get(t.Context(), host)
				ctx := context.Background()
				_, got, _ := c.Get(ctx, host)
				if level == Miss { // Expire has ended it, and the source fails
					level = Stale
				}
				require.Equal(t, level, got, host)
				require.Zero(t, testing.AllocsPerRun(1000, func() { _, _, _ = c.Get(ctx, host) }), host)
			}
			require.NoError(t, c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}))
			_, level, _ := c.Get(t.Context(), "a.com")
			require.Equal(t, Hit, level)
			require.Zero(t, testing.AllocsPerRun(1000, func() { _, _, _ = c.Get(context.Background(), "a.com") }))
			require.Zero(t, testing.AllocsPerRun(1000, func() { _ = c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}) }))
		})
	}
}

// A router asks Held for each connection: like any hit, that waits for nobody.
func TestHeldTakesNoLock(t *testing.T) {
	c := &Cache{TTL: Forever, Clock: time.Now}
	defer c.Close()
	require.NoError(t, c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}))
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	held := make(chan Level, 1)
	go func() {
		if _, level, err, ok := c.Held("a.com"); ok && err == nil {
			held <- level
		}
	}()
	select {
	case level := <-held:
		require.Equal(t, Hit, level)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a lock")
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _, _, _ = c.Held("a.com") }))
}

func BenchmarkHit(b *testing.B) {
	c := &Cache{TTL: Forever}
	defer c.Close()
	all := names(1000)
	for _, host := range all {
		if err := c.Set(host, Endpoint{Host: host, Addr: "10.0.0.1"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := c.LookupHost(b.Context(), all[i%len(all)]); err != nil {
				panic(err)
			}
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	c := &Cache{Source: Func(at("10.0.0.1")), TTL: -1}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.LookupHost(b.Context(), "a.com"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) {
	c := &Cache{MaxHosts: 5_000}
	defer c.Close()
	all := names(10_000) // every one evicts another
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := c.Set(all[i%len(all)], Endpoint{Addr: "10.0.0.1"}); err != nil {
			b.Fatal(err)
		}
	}
}
