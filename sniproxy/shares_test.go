package sniproxy_test

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
)

const (
	flooder = "127.0.0.1"
	honest  = "127.0.0.2"
)

// dialFrom connects a client with a source address. The end of the test closes it.
func dialFrom(t *testing.T, source, front string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.Dial("tcp", front)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// openFrom does the same as openTo, but connects from a source address.
func openFrom(t *testing.T, source, front, name string) *net.TCPConn {
	t.Helper()
	c := dialFrom(t, source, front)
	echo(t, c, hellotest.Hello{Name: name}.Wire())
	return c
}

// fill opens n connections from one source. On each connection, it sends the bytes in the argument
// "first", and nothing else. nil means that the connection sends nothing.
func (r *router) fill(n int, source, front string, first []byte) (list []*net.TCPConn) {
	r.t.Helper()
	for range n {
		before := r.Load().Conns
		c := dialFrom(r.t, source, front)
		require.Eventually(r.t, func() bool { return r.Load().Conns > before }, patience, poll)
		_, err := c.Write(first)
		require.NoError(r.t, err)
		list = append(list, c)
	}
	return list
}

// One source uses up MaxConns with connections that send nothing, or half of a hello. The Server
// still accepts a client of another source: it closes the oldest connection of the first source.
func TestSilentPeersMakeRoom(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	for name, first := range map[string][]byte{"silent": nil, "half a hello": hello[:20]} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				const limit = 20
				r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxConns = limit })
				front := r.serve(0)
				slow := r.fill(1, honest, front, nil)[0]
				silent := r.fill(limit-1, flooder, front, first)
				for i := range limit / 2 {
					openFrom(t, honest, front, "a.example")
					requireClosed(t, silent[i])
					st := r.next()
					require.ErrorIs(t, st.Err, sniproxy.ErrEvicted)
					require.Equal(t, sniproxy.Limited, st.Outcome)
				}
				// The flooder connects again, and the Server closes another connection of the
				// flooder.
				dialFrom(t, flooder, front)
				requireClosed(t, silent[limit/2])
				echo(t, slow, hello)
			})
		})
	}
}

// scarceListener returns EMFILE once for each connection before it returns the connection, while
// scarce is true.
type scarceListener struct {
	net.Listener
	scarce  atomic.Bool
	pending net.Conn
}

func (l *scarceListener) Accept() (net.Conn, error) {
	if c := l.pending; c != nil {
		l.pending = nil
		return c, nil
	}
	c, err := l.Listener.Accept()
	if err == nil && l.scarce.Load() {
		l.pending = c
		return nil, syscall.EMFILE
	}
	return c, err
}

// The process has no free descriptor when a client connects. Another source has more connections
// than the source of this client. So the Server closes a connection of the other source, and serves
// the client. If the source of a new client itself has the most connections, the Server closes the
// new connection.
func TestLastDescriptorGoesToTheSmallSource(t *testing.T) {
	r := newRouter(t, portable, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxConnsPerSource = 3 })
	l := &scarceListener{Listener: listenLocal(t)}
	front := r.serveOn(l, 0)
	for range 3 {
		openFrom(t, flooder, front, "a.example")
	}
	l.scarce.Store(true)
	openFrom(t, honest, front, "a.example")
	require.ErrorIs(t, r.next().Err, sniproxy.ErrEvictedIdle)
	require.Zero(t, r.Load().Shed)

	// Now each source has one connection, so no source has more than its share.
	require.Eventually(t, func() bool { return r.Load().Conns == 2 }, patience, poll)
	requireClosed(t, dialFrom(t, honest, front))
	require.EqualValues(t, 1, r.Load().Shed)
}

// One source uses up MaxConns with relayed connections that are idle. The Server still accepts a
// client of another source: it closes the connection of the first source that has been idle for
// longest. The first source itself cannot open another connection.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		const limit = 6
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxConns = limit })
		front := r.serve(peek.TLS)
		var idle []*net.TCPConn
		for range limit {
			idle = append(idle, openFrom(t, flooder, front, "a.example"))
		}
		// A relay notes the time of bytes after it has written them. So only the second echo shows
		// that the relay has noted the time of the first one.
		echo(t, idle[0], []byte("still in use"))
		echo(t, idle[0], []byte("still in use"))

		requireClosed(t, dialFrom(t, flooder, front))
		require.ErrorIs(t, r.next().Err, sniproxy.ErrTooManyConns)

		openFrom(t, honest, front, "a.example")
		st := r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrEvictedIdle)
		evicted := slices.IndexFunc(idle, func(c *net.TCPConn) bool { return c.LocalAddr().String() == st.Client.String() })
		require.Positive(t, evicted, "not idle[0]")
		requireClosed(t, idle[evicted])
		require.Equal(t, sniproxy.Relayed, st.Outcome)
		require.Positive(t, st.ToClient)
		echo(t, idle[0], []byte("still in use"))
	})
}

// Behind a balancer, the source of a connection is the client in the PROXY header.
func TestSharesBehindABalancer(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		const limit = 6
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) {
			s.MaxConns, s.ProxyFrom = limit, loopback
		})
		front := r.serve(peek.TLS)
		from := func(client string) *net.TCPConn {
			c := dial(t, front)
			_, err := io.WriteString(c, "PROXY TCP6 "+client+" 2001:db8::1 1234 443\r\n")
			require.NoError(t, err)
			echo(t, c, hellotest.Hello{Name: "a.example"}.Wire())
			return c
		}
		idle := map[string]*net.TCPConn{}
		for _, client := range []string{"2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::1", "2001:db8:0:1::4", "2001:db8:0:1::5"} {
			idle[client] = from(client) // all are in one /64
		}
		few := from("2001:db8:0:2::1")
		from("2001:db8:0:3::1")
		st := r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrEvictedIdle)
		// On a slow machine, the relay may note the bytes of a later connection before those of the first.
		evicted := idle[st.Client.Addr().String()]
		require.NotNil(t, evicted, st.Client)
		requireClosed(t, evicted)
		echo(t, few, []byte("still here"))
	})
}

// If a balancer in TrustedSources sends no PROXY headers, its connections count for no source.
func TestTrustedSources(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		const limit = 8
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) {
			s.MaxConns, s.MaxConnsPerSource = limit, 6
			s.TrustedSources = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		})
		front := r.serve(peek.TLS)
		const balancer = "127.0.0.9"
		var trusted []*net.TCPConn
		for range limit / 4 {
			trusted = append(trusted, openFrom(t, balancer, front, "a.example"))
		}
		var flood []*net.TCPConn
		for range 3 * limit / 4 {
			flood = append(flood, openFrom(t, flooder, front, "a.example"))
		}
		for range limit / 4 {
			trusted = append(trusted, openFrom(t, balancer, front, "a.example"))
			st := r.next()
			require.ErrorIs(t, st.Err, sniproxy.ErrEvictedIdle)
			evicted := slices.IndexFunc(flood, func(c *net.TCPConn) bool { return c.LocalAddr().String() == st.Client.String() })
			require.GreaterOrEqual(t, evicted, 0, st.Client)
			requireClosed(t, flood[evicted])
		}
		requireClosed(t, dialFrom(t, balancer, front)) // the flooder has only its share
		require.ErrorIs(t, r.next().Err, sniproxy.ErrTooManyConns)
		for _, c := range trusted {
			echo(t, c, []byte("still here"))
		}
	})
}

// A source that sends large hellos reaches MaxPeeking with fewer connections. The connections of
// other sources stay open.
func TestLargeHellosCountMore(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxPeeking = 10 })
		front := r.serve(peek.TLS)
		hello := hellotest.Hello{Name: "a.example", Pad: 16 << 10}.Wire()
		slow := r.fill(1, honest, front, nil)[0]
		var large []*net.TCPConn
		for range 3 {
			large = append(large, r.fill(1, flooder, front, hello[:15<<10])...) // each counts 4 times
		}
		requireClosed(t, large[0])
		require.ErrorIs(t, r.next().Err, sniproxy.ErrEvicted)
		echo(t, slow, hellotest.Hello{Name: "a.example"}.Wire())
		_, err := large[1].Write(hello[15<<10:])
		require.NoError(t, err)
		_, err = io.ReadFull(large[1], make([]byte, len(hello)))
		require.NoError(t, err)
	})
}

// Connections first yields the connections whose clients have named a host, in the order in which
// the clients named it.
func TestOrderOfConnections(t *testing.T) {
	r := newRouter(t, native, hosts{"a.example": newEcho(t).addr})
	front := r.serve(peek.TLS)
	conns := r.fill(4, flooder, front, nil)
	for _, i := range []int{2, 0} {
		echo(t, conns[i], hellotest.Hello{Name: "a.example"}.Wire())
	}
	var ids []uint64
	for st := range r.Connections() {
		ids = append(ids, st.ID)
	}
	require.True(t, slices.Equal([]uint64{3, 1, 2, 4}, ids), ids)
}
