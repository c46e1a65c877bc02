package hostlookup

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	c := &Cache{Source: Func(func(ctx context.Context, host string) (Endpoint, error) {
		return Endpoint{App: "a", Host: host, Addr: "10.0.0.1"}, nil
	})}
	defer c.Close()
	for range 3 {
		for i := range 1000 {
			ep, err := c.LookupHost(t.Context(), "h"+strconv.Itoa(i)+".example.com")
			require.NoError(t, err)
			require.Equal(t, "h"+strconv.Itoa(i)+".example.com", ep.Host)
		}
	}
	require.Equal(t, uint64(1000), c.Stats().Misses)
	require.Equal(t, uint64(2000), c.Stats().Hits)
}

func BenchmarkHit(b *testing.B) {
	c := &Cache{Source: Func(func(ctx context.Context, host string) (Endpoint, error) {
		return Endpoint{App: "a", Host: host, Addr: "10.0.0.1"}, nil
	})}
	defer c.Close()
	for i := range 1000 {
		c.LookupHost(b.Context(), "h"+strconv.Itoa(i)+".example.com")
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.LookupHost(nil, "h10.example.com")
		}
	})
}
