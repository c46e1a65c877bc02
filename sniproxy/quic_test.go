package sniproxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/quic"

	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

func listenUDP(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// serveQUIC listens on loopback and returns the address.
func (r *router) serveQUIC() string {
	r.t.Helper()
	conn := listenUDP(r.t, "127.0.0.1:0")
	r.serving.Go(func() { _ = r.ServeQUIC(conn) })
	return conn.LocalAddr().String()
}

// quicConfig returns a configuration for a busy machine.
func quicConfig(conf *tls.Config) *quic.Config {
	conf.MinVersion, conf.NextProtos = tls.VersionTLS13, []string{"echo"}
	return &quic.Config{TLSConfig: conf, HandshakeTimeout: patience, MaxIdleTimeout: patience}
}

// quicEndpoint returns a server, or a client if conf is nil.
func quicEndpoint(t *testing.T, addr string, conf *quic.Config) *quic.Endpoint {
	t.Helper()
	e, err := quic.Listen("udp", addr, conf)
	require.NoError(t, err)
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		e.Close(now) //nolint:errcheck // does not wait for the peers
	})
	return e
}

// newQUICBackend returns the address of a backend that sends back each stream after its name.
func newQUICBackend(t *testing.T, addr string, names ...string) string {
	t.Helper()
	e := quicEndpoint(t, addr, quicConfig(&tls.Config{Certificates: []tls.Certificate{ca().Issue(names...).TLS}}))
	go func() {
		for {
			c, err := e.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					s, err := c.AcceptStream(context.Background())
					if err != nil {
						return
					}
					io.WriteString(s, names[0]+": ") //nolint:errcheck // the client checks
					io.Copy(s, s)                    //nolint:errcheck // the client checks
					s.CloseWrite()
				}
			}()
		}
	}()
	return e.LocalAddr().String()
}

// quicClient is a client with a port of its own.
type quicClient struct {
	t    *testing.T
	conn *quic.Conn
}

func dialQUIC(t *testing.T, addr, name string) (*quicClient, error) {
	t.Helper()
	conf := quicConfig(&tls.Config{ServerName: name, RootCAs: ca().Pool(), InsecureSkipVerify: name == ""})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := quicEndpoint(t, "127.0.0.1:0", nil).Dial(ctx, "udp", addr, conf)
	return &quicClient{t, c}, err
}

// talk sends a text on a new stream and returns the answer.
func (c *quicClient) talk(text string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	s, err := c.conn.NewStream(ctx)
	require.NoError(c.t, err)
	s.SetReadContext(ctx)
	s.SetWriteContext(ctx)
	_, err = io.WriteString(s, text)
	require.NoError(c.t, err)
	s.CloseWrite()
	answer, err := io.ReadAll(s)
	require.NoError(c.t, err)
	return string(answer)
}

func quicTalk(t *testing.T, addr, name, text string) string {
	t.Helper()
	c, err := dialQUIC(t, addr, name)
	require.NoError(t, err)
	return c.talk(text)
}

// quicHello returns the first datagrams of a client that names a host. They contain the whole
// ClientHello, and there are at least two of them, because the ClientHello is large.
func quicHello(t *testing.T, name string) (datagrams [][]byte) {
	t.Helper()
	server := listenUDP(t, "127.0.0.1:0")
	require.NoError(t, server.SetReadDeadline(time.Now().Add(patience)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conf := quicConfig(&tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}})
	client := quicEndpoint(t, "127.0.0.1:0", nil)
	go client.Dial(ctx, "udp", server.LocalAddr().String(), conf) //nolint:errcheck // no server answers
	buf := make([]byte, 1<<16)
	for range 2 {
		n, _, err := server.ReadFrom(buf)
		require.NoError(t, err)
		datagrams = append(datagrams, slices.Clone(buf[:n]))
	}
	return datagrams
}

// send sends datagrams from a new port.
func send(t *testing.T, addr string, datagrams ...[]byte) *net.UDPConn {
	t.Helper()
	c, err := net.Dial("udp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	for _, d := range datagrams {
		_, err := c.Write(d)
		require.NoError(t, err)
	}
	return c.(*net.UDPConn)
}

func TestQUIC(t *testing.T) {
	a, b := newQUICBackend(t, "127.0.0.1:0", "a.example"), newQUICBackend(t, "127.0.0.1:0", "b.example")
	r := newRouter(t, native, hosts{"a.example": a, "b.example": b})
	addr := r.serveQUIC()
	large := string(bytes.Repeat([]byte("0123456789"), 20_000))
	require.Equal(t, "a.example: "+large, quicTalk(t, addr, "a.example", large))
	require.Equal(t, "b.example: hi", quicTalk(t, addr, "b.example", "hi"))

	var open []sniproxy.Stats
	for s := range r.Connections() {
		open = append(open, s)
	}
	require.Len(t, open, 2)
	require.Equal(t, sniproxy.Load{Conns: 2, QUIC: 2}, r.Load())
	r.Close()
	for range open { // Close ends the connections in any order
		s := r.next()
		upstream := map[string]string{"a.example": a, "b.example": b}[s.Name]
		require.Equal(t, upstream, s.Upstream.String())
		require.Equal(t, upstream, s.Endpoint.Addr)
		require.Contains(t, []uint64{open[0].ID, open[1].ID}, s.ID)
		require.Equal(t, peek.QUIC, s.Protocol)
		require.Equal(t, addr, s.Listener)
		require.Equal(t, []string{"echo"}, s.ALPN)
		require.EqualValues(t, tls.VersionTLS13, s.TLSVersion)
		require.Equal(t, s.Peer, s.Client)
		require.True(t, s.LookedUp)
		require.Equal(t, 1, s.Dials)
		require.Positive(t, s.Peek)
		require.Positive(t, s.Lookup)
		require.GreaterOrEqual(t, s.ToUpstream, int64(1200))
		require.GreaterOrEqual(t, s.ToClient, int64(1200))
		require.Equal(t, sniproxy.PhaseRelay, s.Phase)
		require.Equal(t, sniproxy.Relayed, s.Outcome)
		require.ErrorIs(t, s.Err, sniproxy.ErrServerClosed)
	}
	for i, s := range open {
		require.Equal(t, []string{"a.example", "b.example"}[i], s.Name)
		require.Equal(t, sniproxy.PhaseRelay, s.Phase)
		require.Equal(t, sniproxy.Open, s.Outcome)
		require.Positive(t, s.Total)
	}
}

// A Lookup whose answers are endpoints with other errors.
type lookupFunc func(ctx context.Context, host string) (hostlookup.Answer, error)

func (f lookupFunc) LookupHost(ctx context.Context, host string) (hostlookup.Answer, error) {
	return f(ctx, host)
}

// Each refused client gets a QUIC error with the TLS alert of the reason.
func TestQUICRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		host    string
		set     func(*sniproxy.Server)
		alert   int
		outcome sniproxy.Outcome
		phase   sniproxy.Phase
		err     error // nil means any error
	}{
		"unknown":            {"unknown.example", nil, 112, sniproxy.NotFound, sniproxy.PhaseLookup, hostlookup.ErrNotFound},
		"no name":            {"", nil, 109, sniproxy.NotFound, sniproxy.PhasePeek, peek.ErrNoName},
		"invalid name":       {"under..score", nil, 112, sniproxy.Rejected, sniproxy.PhasePeek, peek.ErrInvalidName},
		"too large":          {"a.example", func(s *sniproxy.Server) { s.MaxHello = 100 }, 50, sniproxy.Rejected, sniproxy.PhasePeek, peek.ErrTooLarge},
		"lookup fails":       {"down.example", nil, 80, sniproxy.LookupFailed, sniproxy.PhaseLookup, errDown},
		"DNS fails":          {"dns.example", nil, 80, sniproxy.LookupFailed, sniproxy.PhaseLookup, errDown},
		"metadata":           {"metadata.example", nil, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrForbidden},
		"loopback":           {"closed.example", func(s *sniproxy.Server) { s.AllowEndpoints = nil }, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrForbidden},
		"denied":             {"closed.example", func(s *sniproxy.Server) { s.DenyEndpoints = loopback }, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrForbidden},
		"own listener":       {"loop.example", nil, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrLoop},
		"admin listener":     {"admin.example", nil, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrLoop},
		"closed port":        {"closed.example", nil, 80, sniproxy.DialFailed, sniproxy.PhaseDial, nil},
		"invalid endpoint":   {"bad.example", nil, 80, sniproxy.LookupFailed, sniproxy.PhaseLookup, nil},
		"all names unusable": {"names.example", nil, 80, sniproxy.DialFailed, sniproxy.PhaseDial, sniproxy.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosts{
				"dns.example": "unknown-name.:443", "metadata.example": "169.254.169.254:443", "closed.example": "127.0.0.1:1",
				"admin.example": "127.0.0.1:9", "bad.example": "no port:", "names.example": "bad-name.:443",
			}
			r := newRouter(t, native, lookupFunc(func(ctx context.Context, host string) (hostlookup.Answer, error) {
				if host == "down.example" {
					return hostlookup.Answer{}, errDown
				}
				return h.LookupHost(ctx, host)
			}), func(s *sniproxy.Server) {
				s.OwnListeners = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}
				s.Resolver = names{"bad-name.": {"169.254.169.254", "224.0.0.1"}}
				if c.set != nil {
					c.set(s)
				}
			})
			conn := listenUDP(t, "127.0.0.1:0")
			addr := conn.LocalAddr().String()
			h["loop.example"] = addr
			r.serving.Go(func() { _ = r.ServeQUIC(conn) })
			_, err := dialQUIC(t, addr, c.host)
			require.ErrorContains(t, err, "CRYPTO_ERROR("+strconv.Itoa(c.alert)+")")
			s := r.next()
			require.Equal(t, c.alert, s.Answer)
			require.Equal(t, c.outcome, s.Outcome)
			require.Equal(t, c.phase, s.Phase)
			require.Equal(t, peek.QUIC, s.Protocol)
			require.Error(t, s.Err)
			if c.err != nil {
				require.ErrorIs(t, s.Err, c.err)
			}
			if c.outcome == sniproxy.Rejected {
				require.Empty(t, s.Name)
				require.Equal(t, name == "invalid name", s.RawName == c.host, s.RawName)
			} else {
				require.Equal(t, c.host, s.Name)
			}
		})
	}
}

// The client gets no answer, so the test does not wait for the client.
func TestQUICDrops(t *testing.T) {
	hello := quicHello(t, "unknown.example")
	broken := slices.Clone(hello[0])
	broken[600] ^= 1
	for name, c := range map[string]struct {
		datagrams [][]byte
		set       func(*sniproxy.Server)
		outcome   sniproxy.Outcome
		phase     sniproxy.Phase
		err       error // nil means any error
	}{
		"CloseUnknownTLS": {hello, func(s *sniproxy.Server) { s.CloseUnknownTLS = true }, sniproxy.NotFound, sniproxy.PhaseLookup, hostlookup.ErrNotFound},
		"HelloTimeout":    {hello[:1], func(s *sniproxy.Server) { s.HelloTimeout = time.Millisecond }, sniproxy.TimedOut, sniproxy.PhasePeek, nil},
		"not authentic":   {[][]byte{broken}, nil, sniproxy.Rejected, sniproxy.PhasePeek, nil},
	} {
		t.Run(name, func(t *testing.T) {
			set := c.set
			if set == nil {
				set = func(*sniproxy.Server) {}
			}
			r := newRouter(t, native, hosts{}, set)
			send(t, r.serveQUIC(), c.datagrams...)
			s := r.next()
			require.Zero(t, s.Answer)
			require.Zero(t, s.ToClient)
			require.Equal(t, c.outcome, s.Outcome)
			require.Equal(t, c.phase, s.Phase)
			require.Error(t, s.Err)
			if c.err != nil {
				require.ErrorIs(t, s.Err, c.err)
			}
		})
	}
}

func TestQUICEndpoints(t *testing.T) {
	backend := newQUICBackend(t, "127.0.0.2:0", "a.example", "name.example", "unknown.example")
	_, backendPort, err := net.SplitHostPort(backend)
	require.NoError(t, err)
	fallback := hostlookup.Endpoint{App: "fallback", Addr: backend}
	r := newRouter(t, native, hosts{"a.example": "127.0.0.2", "name.example": "backend.:" + backendPort}, func(s *sniproxy.Server) {
		s.NoName, s.Fallback = fallback, fallback
		s.Resolver = names{"backend.": {"169.254.169.254", "127.0.0.2"}}
	})
	conn := listenUDP(t, "127.0.0.1:"+backendPort) // the endpoint of a.example has no port
	r.serving.Go(func() { _ = r.ServeQUIC(conn) })
	for _, host := range []string{"a.example", "name.example", "unknown.example", ""} {
		require.Equal(t, "a.example: hi", quicTalk(t, conn.LocalAddr().String(), host, "hi"), host)
	}
	r.Close()
	for range 4 {
		s := r.next()
		require.Equal(t, backend, s.Upstream.String())
		require.Equal(t, s.Name == "" || s.Name == "unknown.example", s.Fallback)
		require.Equal(t, s.Name != "", s.LookedUp)
	}
}

func TestQUICLimits(t *testing.T) {
	backend := newQUICBackend(t, "127.0.0.1:0", "a.example")
	h := hosts{"a.example": backend}
	refused := func(t *testing.T, r *router, addr string, want error) {
		t.Helper()
		send(t, addr, quicHello(t, "a.example")...)
		s := r.next()
		require.ErrorIs(t, s.Err, want)
		require.Equal(t, sniproxy.Limited, s.Outcome)
	}
	t.Run("MaxConnsPerHost", func(t *testing.T) {
		r := newRouter(t, native, hosts{"a.example": backend, "closed.example": "127.0.0.1:1"}, func(s *sniproxy.Server) { s.MaxConnsPerHost = 1 })
		addr := r.serveQUIC()
		_, err := dialQUIC(t, addr, "a.example")
		require.NoError(t, err)
		refused(t, r, addr, sniproxy.ErrTooManyForHost)
		for range 2 { // a connection that has ended does not count
			send(t, addr, quicHello(t, "closed.example")...)
			require.Equal(t, sniproxy.DialFailed, r.next().Outcome)
		}
	})
	t.Run("MaxConns, Connections before ServeQUIC", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxConns = 1 })
		for range r.Connections() {
			t.Error("no connection is open")
		}
		addr := r.serveQUIC()
		quicTalk(t, addr, "a.example", "hi")
		refused(t, r, addr, sniproxy.ErrTooManyConns)
	})
	t.Run("QUICIdleTimeout", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.QUICIdleTimeout = time.Millisecond })
		send(t, r.serveQUIC(), quicHello(t, "a.example")...)
		s := r.next()
		require.NoError(t, s.Err)
		require.Equal(t, sniproxy.Relayed, s.Outcome)
		require.Equal(t, sniproxy.PhaseRelay, s.Phase)
	})
	t.Run("MaxRatePerHost", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxRatePerHost = 1 })
		addr := r.serveQUIC()
		hello := quicHello(t, "a.example")
		for range 100 { // not all of them can be a second apart
			send(t, addr, hello...)
		}
		require.ErrorIs(t, r.next().Err, sniproxy.ErrHostRate)
	})
	t.Run("MaxConnsPerSource", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxConnsPerSource = 1 })
		one, two := r.serveQUIC(), r.serveQUIC()
		quicTalk(t, one, "a.example", "hi")
		refused(t, r, two, sniproxy.ErrTooManyFromSource)
	})
	t.Run("MaxConns", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxConns = 1 })
		addr := r.serveQUIC()
		quicTalk(t, addr, "a.example", "hi")
		refused(t, r, addr, sniproxy.ErrTooManyConns)
	})
	t.Run("MaxPeeking", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxPeeking = 1 })
		addr := r.serveQUIC()
		hello := quicHello(t, "a.example")
		send(t, addr, hello[0])
		send(t, addr, hello[0])
		s := r.next()
		require.ErrorIs(t, s.Err, sniproxy.ErrEvicted)
		require.Equal(t, sniproxy.Limited, s.Outcome)
		require.Equal(t, sniproxy.PhasePeek, s.Phase)
	})
	t.Run("TrustedSources", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.MaxConnsPerSource, s.TrustedSources = 1, loopback })
		addr := r.serveQUIC()
		quicTalk(t, addr, "a.example", "hi")
		quicTalk(t, addr, "a.example", "hi")
	})
	t.Run("PROXY", func(t *testing.T) {
		r := newRouter(t, native, h, func(s *sniproxy.Server) { s.ProxyRequired, s.ProxyFrom = true, loopback })
		conn := listenUDP(t, "127.0.0.1:0")
		require.ErrorContains(t, r.ServeQUIC(conn), "ProxyRequired")
		require.ErrorIs(t, conn.Close(), net.ErrClosed)
	})
}

// A connection that is evicted or closed while its lookup runs no longer counts for its host.
func TestQUICCloseDuringLookup(t *testing.T) {
	started := make(chan struct{}, 1)
	r := newRouter(t, native, lookupFunc(func(ctx context.Context, _ string) (hostlookup.Answer, error) {
		started <- struct{}{}
		<-ctx.Done()
		return hostlookup.Answer{}, ctx.Err()
	}))
	send(t, r.serveQUIC(), quicHello(t, "a.example")...)
	<-started
	require.Equal(t, sniproxy.Load{Conns: 1, QUIC: 1, Peeking: 1}, r.Load())
	for s := range r.Connections() {
		require.Equal(t, sniproxy.PhaseLookup, s.Phase)
		require.Equal(t, "a.example", s.Name)
	}
	r.Close()
	s := r.next()
	require.ErrorIs(t, s.Err, sniproxy.ErrServerClosed)
	require.Equal(t, sniproxy.Aborted, s.Outcome)
	require.Equal(t, sniproxy.PhaseLookup, s.Phase)
	require.Equal(t, "a.example", s.Name)
}

func TestQUICShutdown(t *testing.T) {
	r := newRouter(t, native, hosts{"a.example": newQUICBackend(t, "127.0.0.1:0", "a.example")})
	addr := r.serveQUIC()
	c, err := dialQUIC(t, addr, "a.example")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- r.Shutdown(ctx) }()
	require.Eventually(t, func() bool { return r.Load().Draining }, patience, poll)
	require.Eventually(t, func() bool {
		_, err := dialQUIC(t, addr, "a.example")
		return err != nil && strings.Contains(err.Error(), "CONNECTION_REFUSED")
	}, patience, poll)
	require.Equal(t, "a.example: hi", c.talk("hi"), "the open connection goes on")
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.ErrorIs(t, r.ServeQUIC(listenUDP(t, "127.0.0.1:0")), sniproxy.ErrServerClosed)
}

func TestQUICNegativeIdleTimeout(t *testing.T) {
	r := newRouter(t, native, hosts{}, func(s *sniproxy.Server) { s.QUICIdleTimeout = -1 })
	require.ErrorContains(t, r.ServeQUIC(listenUDP(t, "127.0.0.1:0")), "QUICIdleTimeout")
}
