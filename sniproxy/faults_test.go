package sniproxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// If a hello has a wrong length field, the router connects to the backend of the name in the hello,
// or to no backend.
func TestWrongLengthsNeverReachAnotherBackend(t *testing.T) {
	echo := newEcho(t)
	asked := make(chan string, 10_000)
	r := newRouter(t, native, hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
		asked <- host
		return hostlookup.Endpoint{Addr: echo.addr}, nil
	}), func(s *sniproxy.Server) {
		s.NoName = hostlookup.Endpoint{Addr: echo.addr}
		s.Fallback = s.NoName
	})
	front := r.serve(0)
	hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2"}, Versions: []uint16{0x0304}}.Wire()
	// The loop changes each byte after the field "random", because a parser could read it as a
	// length.
	for i := 43; i < len(hello); i++ {
		for _, by := range []byte{1, 0x80, 0xff} {
			lie := bytes.Clone(hello)
			lie[i] += by
			c := dial(t, front)
			_, err := c.Write(lie)
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			_, _ = io.Copy(io.Discard, c)
			require.NoError(t, c.Close())
			st := r.next()
			if st.Outcome != sniproxy.Relayed {
				require.Error(t, st.Err, "byte %d + %d", i, by)
				continue
			}
			// The changed byte may be in the name itself, or in a field that the router does not
			// read.
			if st.Fallback {
				require.Empty(t, st.Name, "byte %d + %d", i, by)
			} else {
				require.Equal(t, st.Name, <-asked, "byte %d + %d", i, by)
			}
		}
	}
}

// A host in a hosts file matches only its own name. A wildcard matches only names with one label in
// place of the "*". No other character of a host is a pattern.
func TestNamesAreNotPatterns(t *testing.T) {
	echo := newEcho(t)
	list, problems, err := hostlookup.ParseHosts("hosts", []byte(`[
		{"host": "example.com", "endpoint": "`+echo.addr+`"},
		{"host": "*.example.com", "endpoint": "`+echo.addr+`"}
	]`))
	require.NoError(t, err)
	require.Empty(t, problems)
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, list)
		front := r.serve(0)
		for name, known := range map[string]bool{
			"example.com": true, "www.example.com": true, "EXAMPLE.com": true, "example.com.": true,
			"example.com.evil": false, "evilexample.com": false, "example.comevil": false,
			"a.b.example.com": false, "exampleXcom": false, ".example.com": false, "*.example.com": false,
		} {
			c := dial(t, front)
			_, err := c.Write(hellotest.Hello{Name: name}.Wire())
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			_, err = io.Copy(io.Discard, c)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.Equal(t, known, r.next().Outcome == sniproxy.Relayed, name)
		}
	})
}

// A server may continue to send after the client has ended its direction. A client may continue to
// send after the server has ended its direction.
func TestHalfClose(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		hello := hellotest.Hello{Name: "a.example"}.Wire()
		sink := newSink(t) // answers when the client has ended
		got := make(chan string, 1)
		early := newBackend(t, func(c net.Conn) { // ends its direction first, and still reads
			io.WriteString(c, "bye")
			c.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(c)
			got <- sum(b)
		})
		r := newRouter(t, e, hosts{"a.example": sink.addr, "b.example": early.addr})
		front := r.serve(0)

		c := dial(t, front)
		_, err := c.Write(hello)
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, sum(hello), string(answer))
		require.NoError(t, r.next().Err)

		hello = hellotest.Hello{Name: "b.example"}.Wire()
		c = dial(t, front)
		_, err = c.Write(hello)
		require.NoError(t, err)
		answer, err = io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "bye", string(answer))
		_, err = c.Write(make([]byte, 1<<20))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		require.Equal(t, sum(append(hello, make([]byte, 1<<20)...)), <-got)
		require.NoError(t, r.next().Err)
	})
}

// IdleTimeout also ends a connection of which one side has ended its direction.
func TestHalfClosedIsBoundedByIdleTimeout(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		silent := newBackend(t, func(c net.Conn) { io.Copy(io.Discard, c); <-t.Context().Done() })
		r := newRouter(t, e, hosts{"a.example": silent.addr}, func(s *sniproxy.Server) {
			s.IdleTimeout = 200 * time.Millisecond
		})
		c := dial(t, r.serve(0))
		_, err := c.Write(hellotest.Hello{Name: "a.example"}.Wire())
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		st := r.next()
		require.Equal(t, sniproxy.Relayed, st.Outcome)
		require.ErrorIs(t, st.Err, os.ErrDeadlineExceeded)
		require.Zero(t, r.Load().Conns)
	})
}

func TestSilentClient(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{})
		front := r.serve(0)
		require.NoError(t, dial(t, front).Close()) // like a health check
		st := r.next()
		require.Equal(t, sniproxy.Gone, st.Outcome)
		require.Zero(t, st.Protocol)
		require.Zero(t, st.ToClient)
	})
}

// The Stats of each failure have the name of the host and the phase.
func TestStatsOfFailures(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		resetting := newBackend(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
		})
		r := newRouter(t, e, hostlookup.Chain(hosts{
			"refused.example": closedPort(t), "reset.example": resetting.addr, "forbidden.example": "169.254.169.254",
		}, failing{"down.example"}))
		front := r.serve(0)
		for name, phase := range map[string]sniproxy.Phase{
			"none.example":      sniproxy.PhaseLookup,
			"down.example":      sniproxy.PhaseLookup,
			"refused.example":   sniproxy.PhaseDial,
			"forbidden.example": sniproxy.PhaseDial,
			"reset.example":     sniproxy.PhaseRelay,
			"bad..example":      sniproxy.PhasePeek,
		} {
			c := dial(t, front)
			_, err := c.Write(hellotest.Hello{Name: name}.Wire())
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, c)
			require.NoError(t, c.Close())
			st := r.next()
			require.Equal(t, name, st.Name+st.RawName)
			require.Equal(t, phase, st.Phase, name)
			require.Error(t, st.Err, name)
			require.Positive(t, st.Peek)
			require.Positive(t, st.Total)
			require.Equal(t, front, st.Listener)
			require.Equal(t, c.LocalAddr().String(), st.Client.String())
			require.Equal(t, phase >= sniproxy.PhaseLookup, st.Lookup > 0, name)
		}
	})
}

// If Close ends a connection during its lookup, the outcome is Aborted, and not LookupFailed.
func TestCloseDuringALookup(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		asked := make(chan bool)
		r := newRouter(t, e, hostlookup.Func(func(ctx context.Context, _ string) (hostlookup.Endpoint, error) {
			asked <- true
			<-ctx.Done()
			return hostlookup.Endpoint{}, ctx.Err()
		}), func(s *sniproxy.Server) { s.LookupTimeout = time.Hour })
		front := r.serve(0)
		const several = 20
		for range several {
			c := dial(t, front)
			_, err := c.Write(hellotest.Hello{Name: "a.example"}.Wire())
			require.NoError(t, err)
			<-asked
		}
		require.NoError(t, r.Close())
		for range several {
			st := r.next()
			require.Equal(t, sniproxy.Aborted, st.Outcome)
			require.Equal(t, sniproxy.PhaseLookup, st.Phase)
			require.ErrorIs(t, st.Err, sniproxy.ErrServerClosed)
			require.Zero(t, st.Answer)
		}
	})
}

// The Stats of a connection without an error are complete, both while it is open and after its end.
func TestStats(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		a := newTLSBackend(t, "a.example")
		cache := &hostlookup.Cache{Source: hosts{"a.example": a.addr}}
		defer cache.Close()
		r := newRouter(t, e, cache)
		front := r.serve(0)
		begin := time.Now()
		c := dial(t, front)
		conn := tls.Client(c, &tls.Config{ServerName: "a.example", RootCAs: ca().Pool(), NextProtos: []string{"h2", "x"}})
		require.NoError(t, conn.Handshake())

		var open []sniproxy.Stats
		for st := range r.Connections() {
			open = append(open, st)
		}
		require.Len(t, open, 1)
		require.Equal(t, sniproxy.Open, open[0].Outcome)
		require.Equal(t, "a.example", open[0].Name)
		require.Equal(t, a.addr, open[0].Upstream.String())
		require.Equal(t, sniproxy.Load{Conns: 1}, r.Load())

		require.NoError(t, conn.CloseWrite())
		_, err := io.Copy(io.Discard, conn) // reads the session tickets: unread bytes would make Close send RST
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		st := r.next()
		require.EqualValues(t, 1, st.ID)
		require.Equal(t, "a.example", st.Name)
		require.Equal(t, []string{"h2", "x"}, st.ALPN)
		require.EqualValues(t, tls.VersionTLS13, st.TLSVersion)
		require.Equal(t, hostlookup.Endpoint{App: "app of a.example", Host: "a.example", Addr: a.addr}, st.Endpoint)
		require.True(t, st.LookedUp)
		require.Equal(t, hostlookup.Miss, st.Level)
		require.Equal(t, netip.MustParseAddrPort(a.addr), st.Upstream)
		require.Equal(t, 1, st.Dials)
		require.Equal(t, st.Client, st.Peer)
		require.Equal(t, sniproxy.Relayed, st.Outcome)
		require.Equal(t, sniproxy.PhaseRelay, st.Phase)
		require.NoError(t, st.Err)
		require.Greater(t, st.ToUpstream, int64(100))
		require.Greater(t, st.ToClient, int64(1000))
		require.WithinRange(t, st.Start, begin.Add(-time.Second), time.Now())
		for _, d := range []time.Duration{st.Peek, st.Lookup, st.Dial, st.Total} {
			require.Greater(t, d, time.Nanosecond, "a real time, not the least one")
		}

		tlsTalk(t, front, &tls.Config{ServerName: "a.example"}, "x")
		require.Equal(t, hostlookup.Hit, r.next().Level)
		require.Zero(t, r.Load().Conns)
		for range r.Connections() {
			t.Fatal("a connection is still open")
		}
	})
}

func TestServeChecksTheFields(t *testing.T) {
	for name, s := range map[string]*sniproxy.Server{
		"no lookup":             {},
		"negative HelloTimeout": {Lookup: hosts{}, HelloTimeout: -1},
		"ProxyOut 3":            {Lookup: hosts{}, ProxyOut: 3},
		"ProxyRequired only":    {Lookup: hosts{}, ProxyRequired: true},
		"MaxHello too large":    {Lookup: hosts{}, MaxHello: 1 << 20},
		"invalid Fallback":      {Lookup: hosts{}, Fallback: hostlookup.Endpoint{Addr: "a b"}},
		"denies IPv4 in IPv6":   {Lookup: hosts{}, DenyEndpoints: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		"invalid DenyEndpoints": {Lookup: hosts{}, DenyEndpoints: make([]netip.Prefix, 1)},
		"invalid NoName":        {Lookup: hosts{}, NoName: hostlookup.Endpoint{Addr: ":80"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := listenLocal(t)
			err := s.Serve(l, 0)
			require.ErrorContains(t, err, "sniproxy: ")
			require.ErrorIs(t, l.Close(), net.ErrClosed)
			require.NoError(t, s.Close())
		})
	}
}
