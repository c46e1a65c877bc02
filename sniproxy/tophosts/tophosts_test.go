package tophosts_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/tophosts"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestExact(t *testing.T) {
	var c tophosts.Counter
	require.Empty(t, c.Top(tophosts.Bytes, 10))
	require.Zero(t, c.Value(tophosts.Bytes, "a").Most)
	require.True(t, c.Since().IsZero())
	c.Add(tophosts.Sample{Host: "a", At: start, Bytes: 100, Wait: time.Second})
	c.Add(tophosts.Sample{Host: "b", At: start.Add(time.Second), Bytes: 5, Failed: true})
	c.Add(tophosts.Sample{Host: "b", At: start.Add(2 * time.Second), Bytes: -1, Wait: -1})
	require.Equal(t, []tophosts.Host{{"b", 2, 2}, {"a", 1, 1}}, c.Top(tophosts.Connections, 10))
	require.Equal(t, []tophosts.Host{{"b", 2, 2}}, c.Top(tophosts.Connections, 1))
	require.Equal(t, []tophosts.Host{{"b", 1, 1}}, c.Top(tophosts.Failures, 10))
	require.Equal(t, []tophosts.Host{{"a", 100, 100}, {"b", 5, 5}}, c.Top(tophosts.Bytes, 10))
	require.Equal(t, []tophosts.Host{{"a", 1e9, 1e9}}, c.Top(tophosts.Wait, 10))
	require.True(t, c.Value(tophosts.Wait, "a").Exact())
	require.Equal(t, start, c.Since())
}

func TestWindow(t *testing.T) {
	c := tophosts.Counter{Window: time.Minute}
	add := func(host string, after time.Duration) {
		c.Add(tophosts.Sample{Host: host, At: start.Add(after)})
	}
	add("a", 0)
	add("b", 61*time.Second)
	add("a", 62*time.Second)
	require.Equal(t, []tophosts.Host{{"a", 2, 2}, {"b", 1, 1}}, c.Top(tophosts.Connections, 10))
	require.Equal(t, start, c.Since())
	add("c", 122*time.Second) // forgets the first minute
	require.Equal(t, []tophosts.Host{{"a", 1, 1}, {"b", 1, 1}, {"c", 1, 1}}, c.Top(tophosts.Connections, 10))
	require.Equal(t, start.Add(61*time.Second), c.Since())
	add("d", time.Hour) // forgets both generations
	require.Equal(t, []tophosts.Host{{"d", 1, 1}}, c.Top(tophosts.Connections, 10))
	require.Equal(t, start.Add(time.Hour), c.Since())
	add("e", 0) // a clock that goes back begins no generation
	require.Len(t, c.Top(tophosts.Connections, 10), 2)
}

// The bounds hold for every host, also while clients invent names, and each frequent host has a
// counter.
func TestBounds(t *testing.T) {
	const size = 10
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := tophosts.Counter{Size: size, Window: time.Minute}
		truth, total := map[string]uint64{}, uint64(0)
		add := func(host string, i int) {
			n := random.Uint64N(1000) + 1
			truth[host] += n
			total += n
			c.Add(tophosts.Sample{Host: host, At: start.Add(time.Duration(i) * 10 * time.Millisecond), Bytes: int64(n)})
		}
		for i := range 8000 { // one change of generation
			if random.IntN(3) > 0 {
				add(fmt.Sprintf("invented-%d", random.IntN(3000)), i)
			} else {
				add(fmt.Sprintf("host-%d", random.IntN(4)), i)
			}
		}
		top := map[string]bool{}
		for _, h := range c.Top(tophosts.Bytes, 4) {
			top[h.Name] = true
		}
		for host, want := range truth {
			h := c.Value(tophosts.Bytes, host)
			require.LessOrEqual(t, h.Least, want, host)
			require.GreaterOrEqual(t, h.Most, want, host)
			require.LessOrEqual(t, h.Most-h.Least, total/size, host)
			if want > total/size {
				require.Contains(t, top, host)
			}
		}
		require.Len(t, top, 4)
	}
}

// BenchmarkAdd adds samples of hosts that have a record, and of hosts that are all new.
func BenchmarkAdd(b *testing.B) {
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = fmt.Sprintf("host-%05d.customers.example.com", i)
	}
	for _, hosts := range []int{1, 200, len(names)} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			var c tophosts.Counter
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.Add(tophosts.Sample{Host: names[i%hosts], At: start, Bytes: 2048, Wait: time.Millisecond, Failed: hosts > 1000})
				i++
			}
		})
	}
}

func FuzzCounter(f *testing.F) {
	f.Fuzz(func(t *testing.T, size uint8, text string) {
		c := tophosts.Counter{Size: int(size%8) + 1}
		truth := map[string]uint64{}
		for _, host := range strings.Split(text, "\n") {
			truth[host]++
			c.Add(tophosts.Sample{Host: host, At: start})
		}
		for host, n := range truth {
			h := c.Value(tophosts.Connections, host)
			require.LessOrEqual(t, h.Least, n)
			require.GreaterOrEqual(t, h.Most, n)
		}
		require.LessOrEqual(t, len(c.Top(tophosts.Connections, 100)), 8*(int(size%8)+1))
	})
}
