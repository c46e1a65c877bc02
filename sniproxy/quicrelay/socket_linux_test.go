package quicrelay

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// A connected socket joins datagrams that have arrived singly, and keeps their order and lengths.
func TestJoin(t *testing.T) {
	const large = maxBundle / 3
	for name, c := range map[string]struct {
		sends   [][]int // the lengths of the datagrams that one system call sends
		bundles []int   // the number of datagrams in each bundle
	}{
		"equal":               {[][]int{{1200}, {1200}, {1200}}, []int{3}},
		"last is shorter":     {[][]int{{1200}, {1200}, {50}, {1200}}, []int{3, 1}},
		"longer":              {[][]int{{1200}, {1300}, {1300}}, []int{1, 1, 1}},
		"bundle of the same":  {[][]int{{1200}, {1200, 1200, 30}, {1200}}, []int{1, 3, 1}},
		"bundle of short":     {[][]int{{1200}, {300, 300, 300}, {1200}}, []int{1, 3, 1}},
		"bundle first":        {[][]int{{1200, 1200}, {1200}, {1200}}, []int{2, 2}},
		"large":               {[][]int{{large}, {large}, {large}, {large}}, []int{3, 1}},
		"largest":             {[][]int{{1200}, {65507}, {1200}}, []int{1, 1, 1}},
		"longer than a large": {[][]int{{large}, {65507}}, []int{1, 1}},
		"empty":               {[][]int{{0}, {0}, {10}}, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			sender, to := listenUDP(t, "127.0.0.1:0")
			dialed, err := dialUDP(to)
			require.NoError(t, err)
			s := dialed.(*udpSocket)
			defer s.close()
			out, err := newSocket(sender, false)
			require.NoError(t, err)
			var want [][]byte
			for _, lengths := range c.sends {
				var data []byte
				for _, n := range lengths {
					d := bytes.Repeat([]byte{byte('a' + len(want))}, n)
					data = append(data, d...)
					if n > 0 {
						want = append(want, d)
					}
				}
				addr := s.conn.LocalAddr().String()
				if lengths[0] == 0 {
					_, err = sender.WriteToUDPAddrPort(nil, netip.MustParseAddrPort(addr))
				} else {
					err = out.send(data, lengths[0], netip.Addr{}, netip.MustParseAddrPort(addr))
				}
				require.NoError(t, err)
			}
			var got [][]byte
			var bundles []int
			for len(got) < len(want) {
				b, err := s.receive()
				require.NoError(t, err)
				n := 0
				for rest := b.buf[:b.n]; len(rest) > 0; n++ {
					var d []byte
					d, rest = cut(rest, b.size)
					got = append(got, bytes.Clone(d))
				}
				bundles = append(bundles, n)
				b.release()
			}
			require.Equal(t, len(want), len(got))
			for i := range want {
				require.True(t, bytes.Equal(want[i], got[i]), "datagram %d: %d bytes", i, len(got[i]))
			}
			require.Equal(t, c.bundles, bundles)
			require.Nil(t, s.next)
		})
	}
}

func TestJoinIsBounded(t *testing.T) {
	sender, to := listenUDP(t, "127.0.0.1:0")
	s, err := dialUDP(to)
	require.NoError(t, err)
	defer s.close()
	addr := netip.MustParseAddrPort(s.(*udpSocket).conn.LocalAddr().String())
	for range maxJoined + 1 {
		_, err := sender.WriteToUDPAddrPort([]byte("datagram"), addr)
		require.NoError(t, err)
	}
	for _, want := range []int{maxJoined, 1} {
		b, err := s.receive()
		require.NoError(t, err)
		require.Equal(t, want*len("datagram"), b.n)
		b.release()
	}
}
