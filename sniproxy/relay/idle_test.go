package relay

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The result of Conn.Idle grows while no byte moves. Each byte that moves sets it back to 0.
func TestIdleOfAConn(t *testing.T) {
	for name, step := range map[string]func(net.Addr) Step{
		"by address": func(a net.Addr) Step { return Step{Action: Connect, Addr: addrPort(a)} },
		"by a function": func(a net.Addr) Step {
			return Step{Action: Connect, Dial: func(context.Context) (net.Conn, error) { return net.Dial("tcp", a.String()) }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, e *Engine) {
				addr := backend(t, echo)
				conns := make(chan Conn, 1)
				front, _ := serve(t, e, script{hello: func(s *script, _ []byte, _ error) Step {
					conns <- s.conn
					return step(net.TCPAddrFromAddrPort(addr))
				}})
				client := dial(t, front)
				write(t, client, "hello")
				expect(t, client, "hello")
				c := receive(t, conns)
				const long = 20 * time.Millisecond
				poll(t, "Idle does not grow", func() bool { return c.Idle() > long })
				before := c.Idle()
				poll(t, "Idle does not begin again", func() bool {
					write(t, client, "x")
					expect(t, client, "x")
					return c.Idle() < before
				})
				require.NoError(t, client.Close())
			})
		})
	}
}
