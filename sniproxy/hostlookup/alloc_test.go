package hostlookup

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A lookup that finds a usable entry in the table does not allocate. A Set of the same endpoint
// does not allocate either.
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
				_, _ = c.LookupHost(t.Context(), host)
				_, _ = c.LookupHost(t.Context(), host)
				ctx := context.Background()
				answer, _ := c.LookupHost(ctx, host)
				got := answer.Level
				if level == Miss { // Expire has ended the TTL, and the source fails
					level = Stale
				}
				require.Equal(t, level, got, host)
				require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = c.LookupHost(ctx, host) }), host)
			}
			require.NoError(t, c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}))
			answer, _ := c.LookupHost(t.Context(), "a.com")
			level := answer.Level
			require.Equal(t, Hit, level)
			require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = c.LookupHost(context.Background(), "a.com") }))
			require.Zero(t, testing.AllocsPerRun(1000, func() { _ = c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}) }))
		})
	}
}

// A router calls Peek for each connection.
func TestPeekTakesNoLock(t *testing.T) {
	c := &Cache{TTL: Forever, Clock: time.Now}
	defer c.Close()
	require.NoError(t, c.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1"}))
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	peeked := make(chan Level, 1)
	go func() {
		if answer, err := c.Peek("a.com"); err == nil {
			peeked <- answer.Level
		}
	}()
	select {
	case level := <-peeked:
		require.Equal(t, Hit, level)
	case <-time.After(time.Minute):
		t.Fatal("Peek waits for the lock")
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = c.Peek("a.com") }))
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
	all := names(10_000) // each Set evicts a host
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := c.Set(all[i%len(all)], Endpoint{Addr: "10.0.0.1"}); err != nil {
			b.Fatal(err)
		}
	}
}
