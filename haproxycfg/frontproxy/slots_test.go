package frontproxy_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

func TestSlotsBelow30(t *testing.T) {
	t.Parallel()
	local, other, panicking := frontproxy.Backends("shop.web")
	all := append(pods(5, "a"), pods(1, "b")...)
	c, slots, err := newProxy(haproxycfg.Version{}).Config(all, 0, nil)
	require.NoError(t, err)
	require.Len(t, slots, 16+8+16)
	for name, n := range map[string]int{local: 16, other: 8, panicking: 16} {
		b := backend(t, c, name)
		require.Len(t, b.Servers, n)
		for _, s := range b.Servers {
			addr := slots[name+"/"+s.Slot]
			require.Equal(t, !addr.IsValid(), s.Disabled)
			if addr.IsValid() {
				require.Equal(t, addr, s.Addr)
			}
		}
	}
	// One pod ends. The other pods keep their slots. The next pod gets the free slot. The file must
	// contain its address, because HAProxy's state file restores addresses by the name of the
	// server.
	gone := slots[local+"/s2"]
	left := append(all[:0:0], all...)
	for i := range left {
		if left[i].Addr == gone {
			left[i].Addr = netip.MustParseAddrPort("10.97.9.9:8080")
		}
	}
	c, after, err := newProxy(haproxycfg.Version{}).Config(left, 0, slots)
	require.NoError(t, err)
	require.Equal(t, gone, slots[local+"/s2"], "before is unchanged")
	slots[local+"/s2"], slots[panicking+"/s2"] = netip.MustParseAddrPort("10.97.9.9:8080"), netip.MustParseAddrPort("10.97.9.9:8080")
	require.Equal(t, slots, after)
	require.Equal(t, "10.97.9.9:8080", backend(t, c, local).Servers[1].Addr.String())
}

// TestSlotsModel applies random changes. Each pod has exactly one slot, and keeps it while the
// number of slots stays the same. The number of slots changes only if one of the two rules of
// [Slots] applies.
func TestSlotsModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	p := newProxy(haproxycfg.Version{})
	local, _, _ := frontproxy.Backends("shop.web")
	universe := pods(60, "a")
	var slots frontproxy.Slots
	at := map[netip.AddrPort]string{} // the slot that each pod had
	size := 0
	for range 300 {
		now := append(universe[:0:0], universe...)
		rng.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
		now = now[:rng.IntN(len(now)+1)]
		c, next, err := p.Config(now, 0, slots)
		require.NoError(t, err)
		servers := backend(t, c, local).Servers
		seen := map[netip.AddrPort]string{}
		for _, s := range servers {
			if !s.Disabled {
				require.Empty(t, seen[s.Addr])
				seen[s.Addr] = s.Slot
			}
		}
		require.Len(t, seen, len(now))
		needed := max(8, 2*len(now))
		if size >= needed && size <= 4*8 {
			require.Len(t, servers, size, "%d pods", len(now))
		}
		require.GreaterOrEqual(t, len(servers), len(now))
		require.Zero(t, len(servers)&(len(servers)-1))
		if len(servers) == size {
			for addr, slot := range seen {
				if at[addr] != "" {
					require.Equal(t, at[addr], slot)
				}
			}
		}
		at, slots, size = seen, next, len(servers)
	}
}

func TestSlotsOfAnotherProgram(t *testing.T) {
	t.Parallel()
	local, _, _ := frontproxy.Backends("shop.web")
	bad := frontproxy.Slots{local + "/x": netip.MustParseAddrPort("10.0.0.1:80"), "s1": {}, local + "/s99999999": {}}
	want, _, err := newProxy(haproxycfg.Version{}).Config(pods(3, "a"), 0, nil)
	require.NoError(t, err)
	got, _, err := newProxy(haproxycfg.Version{}).Config(pods(3, "a"), 0, bad)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
