package sniproxy_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// newEcho returns a backend that sends all bytes back.
func newEcho(t *testing.T) *backend {
	t.Helper()
	return newBackend(t, func(c net.Conn) { io.Copy(c, c) })
}

// openTo connects a client through the router and waits until bytes flow both ways.
func openTo(t *testing.T, front, name string) *net.TCPConn {
	t.Helper()
	c := dial(t, front)
	echo(t, c, hellotest.Hello{Name: name}.Wire())
	return c
}

// echo checks that an echo server is at the other end.
func echo(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	_, err := c.Write(b)
	require.NoError(t, err)
	got := make([]byte, len(b))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, b, got)
}

// requireClosed checks that the router closes a connection.
func requireClosed(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	require.NotErrorIs(t, err, net.ErrClosed)
	netErr, ok := err.(net.Error)
	require.False(t, ok && netErr.Timeout(), "it is still open")
}

func TestMaxConns(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxConns = 2 })
		front := r.serve(peek.TLS)
		first := openTo(t, front, "a.example")
		openTo(t, front, "a.example")
		third := dial(t, front)
		requireClosed(t, third)
		st := r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrTooManyConns)
		require.Equal(t, sniproxy.Limited, st.Outcome)
		require.Equal(t, sniproxy.PhaseAccept, st.Phase)
		require.Equal(t, 2, r.Load().Conns)

		require.NoError(t, first.Close())
		require.Equal(t, sniproxy.Relayed, r.next().Outcome)
		openTo(t, front, "a.example")
	})
}

func TestMaxConnsPerSource(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) {
			s.MaxConnsPerSource = 2
		})
		front := r.serve(peek.TLS)
		openTo(t, front, "a.example")
		openTo(t, front, "a.example")
		requireClosed(t, dial(t, front))
		require.ErrorIs(t, r.next().Err, sniproxy.ErrTooManyFromSource)

		other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := other.Dial("tcp", front)
		require.NoError(t, err)
		defer c.Close()
		echo(t, c, hellotest.Hello{Name: "a.example"}.Wire())
	})
}

// All connections come from the address of a balancer. The PROXY header names the source that
// counts.
func TestMaxConnsPerSourceBehindABalancer(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) {
			s.MaxConnsPerSource = 1
			s.ProxyFrom = loopback
		})
		front := r.serve(peek.TLS)
		from := func(client string) *net.TCPConn {
			c := dial(t, front)
			_, err := io.WriteString(c, "PROXY TCP6 "+client+" 2001:db8::1 1234 443\r\n")
			require.NoError(t, err)
			return c
		}
		hello := hellotest.Hello{Name: "a.example"}.Wire()
		echo(t, from("2001:db8:0:1::1"), hello)
		echo(t, from("2001:db8:0:2::1"), hello)
		c := from("2001:db8:0:1:ffff::9") // in the same /64 as the first
		requireClosed(t, c)
		st := r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrTooManyFromSource)
		require.Equal(t, netip.MustParseAddrPort("[2001:db8:0:1:ffff::9]:1234"), st.Client)
	})
}

// Slow clients cannot keep others out: a new connection evicts the oldest one that has not named a
// host.
func TestSlowClientsAreEvicted(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		const limit = 10
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.MaxPeeking = limit })
		front := r.serve(0)
		hello := hellotest.Hello{Name: "a.example"}.Wire()
		var slow []*net.TCPConn
		for range limit {
			c := dial(t, front)
			_, err := c.Write(hello[:20])
			require.NoError(t, err)
			slow = append(slow, c)
		}
		require.Eventually(t, func() bool { return r.Load().Peeking == limit }, patience, poll)
		for i := range limit / 2 {
			c := openTo(t, front, "a.example") // the slow clients do not prevent this
			requireClosed(t, slow[i])
			st := r.next()
			require.ErrorIs(t, st.Err, sniproxy.ErrEvicted)
			require.Equal(t, sniproxy.Limited, st.Outcome)
			require.LessOrEqual(t, r.Load().Peeking, limit)
			c.Close()
			require.Equal(t, sniproxy.Relayed, r.next().Outcome)
			_, err := dial(t, front).Write(hello[:20]) // the slow clients connect again
			require.NoError(t, err)
			require.Eventually(t, func() bool { return r.Load().Peeking == limit }, patience, poll)
		}
		// The remaining connections still work.
		_, err := slow[limit-1].Write(hello[20:])
		require.NoError(t, err)
		got := make([]byte, len(hello))
		_, err = io.ReadFull(slow[limit-1], got)
		require.NoError(t, err)
		require.Equal(t, hello, got)
	})
}

// answerOf sends b from a new client and returns the answer of the router.
func answerOf(t *testing.T, front string, b []byte) string {
	t.Helper()
	c := dial(t, front)
	_, err := c.Write(b)
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(got)
}

// wildcard is a Lookup that answers every name with one wildcard.
type wildcard string

func (w wildcard) LookupHost(context.Context, string) (hostlookup.Answer, error) {
	return hostlookup.Answer{Endpoint: hostlookup.Endpoint{Host: "*.example", Addr: string(w)}}, nil
}

// All names below a wildcard count as one host. Clients above the limit get an answer. After the
// end of a connection, the host may get another one.
func TestMaxConnsPerHost(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, wildcard(newEcho(t).addr), func(s *sniproxy.Server) { s.MaxConnsPerHost = 2 })
		front := r.serve(0)
		first := openTo(t, front, "a.example")
		openTo(t, front, "b.example")
		alert := answerOf(t, front, hellotest.Hello{Name: "c.example"}.Wire())
		require.EqualValues(t, 80, alert[len(alert)-1])
		st := r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrTooManyForHost)
		require.Equal(t, sniproxy.Limited, st.Outcome)
		page := answerOf(t, front, []byte("GET / HTTP/1.1\r\nHost: d.example\r\n\r\n"))
		require.Contains(t, page, "HTTP/1.1 503 ")
		require.Equal(t, 503, r.next().Answer)
		require.NoError(t, first.Close())
		require.Equal(t, sniproxy.Relayed, r.next().Outcome)
		openTo(t, front, "e.example")
	})
}

func TestMaxRatePerHost(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		a := newEcho(t).addr
		r := newRouter(t, e, hosts{"a.example": a, "b.example": a}, func(s *sniproxy.Server) { s.MaxRatePerHost = 1 })
		front := r.serve(0)
		openTo(t, front, "a.example")
		limited := false
		for !limited { // on a slow machine, each try may be in another second
			c := dial(t, front)
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
			require.NoError(t, err)
			got := make([]byte, 12)
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			limited = string(got) == "HTTP/1.1 429"
			require.NoError(t, c.Close())
		}
		openTo(t, front, "b.example")
	})
}

// Connections to NoName count as one host. This host differs from all hosts of the lookup.
func TestMaxConnsPerHostOfNoName(t *testing.T) {
	a := newEcho(t).addr
	r := newRouter(t, native, hosts{"a.example": a}, func(s *sniproxy.Server) {
		s.MaxConnsPerHost, s.NoName = 1, hostlookup.Endpoint{Addr: a}
	})
	front := r.serve(peek.TLS)
	openTo(t, front, "")
	openTo(t, front, "a.example")
	alert := answerOf(t, front, hellotest.Hello{}.Wire())
	require.EqualValues(t, 80, alert[len(alert)-1])
}
