//go:build unix

package relay

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAllocationsPerConnection limits the allocations of a relay for one connection. The relay runs
// in a process of its own, so the allocations of client and backend do not count. The portable
// relay uses the connections of package net.
func TestAllocationsPerConnection(t *testing.T) {
	const connections = 200
	for mode, limit := range map[string]float64{"epoll": 4, "goroutines": 60} {
		t.Run(mode, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						io.Copy(c, c)
					}()
				}
			}()
			p := startProcess(t, mode, l.Addr())
			open := func(connections int) {
				for range connections {
					c, err := net.Dial("tcp", p.addr)
					require.NoError(t, err)
					_, err = c.Write([]byte("hello"))
					require.NoError(t, err)
					require.NoError(t, c.(*net.TCPConn).CloseWrite())
					answer, err := io.ReadAll(c)
					require.NoError(t, err)
					require.Equal(t, "hello", string(answer))
					require.NoError(t, c.Close())
				}
			}
			open(20) // fills the pools of the relay
			_, before := p.used(t)
			open(connections)
			_, after := p.used(t)
			t.Logf("%.1f allocations", (after-before)/connections)
			require.LessOrEqual(t, (after-before)/connections, limit)
		})
	}
}
