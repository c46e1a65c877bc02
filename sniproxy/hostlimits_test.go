package sniproxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHostConns(t *testing.T) {
	l := hostLimits{maxConns: 2}
	require.NoError(t, l.add("a.example", 0))
	require.NoError(t, l.add("a.example", 0))
	require.Equal(t, ErrTooManyForHost, l.add("a.example", 0))
	require.NoError(t, l.add("b.example", 0))
	l.remove("a.example", 0)
	require.NoError(t, l.add("a.example", 0))
	for _, host := range []string{"a.example", "a.example", "b.example"} {
		l.remove(host, 0)
	}
	require.Empty(t, l.hosts, "a host without connections should take no memory")
}

// With MaxRatePerHost n, a host may get n connections at once, and one further connection after
// each n-th part of a second. A refused connection does not count.
func TestHostRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Lookup: &askedFor{}, MaxRatePerHost: 4}
		require.NoError(t, s.init())
		l := &s.hosts
		burst := func(want int) {
			t.Helper()
			for range want {
				require.NoError(t, l.add("a.example", s.now()))
				l.remove("a.example", s.now())
			}
			for range 10 {
				require.Equal(t, ErrHostRate, l.add("a.example", s.now()))
			}
		}
		burst(4)
		time.Sleep(250 * time.Millisecond)
		burst(1)
		time.Sleep(500 * time.Millisecond)
		burst(2)
		time.Sleep(time.Hour)
		burst(4)
		require.NoError(t, l.add("b.example", s.now()))
	})
}

// The table forgets hosts that had no connection in the last second.
func TestHostLimitsAreBounded(t *testing.T) {
	l := hostLimits{maxConns: 2, maxRate: 10}
	now := int64(0)
	for i := range 100 * minSweep {
		host := fmt.Sprintf("h%d.example", i)
		require.NoError(t, l.add(host, now))
		l.remove(host, now)
		now += int64(time.Millisecond)
	}
	require.LessOrEqual(t, len(l.hosts), minSweep)
}
