package sniproxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
)

// newProxyBackend returns an echo server that requires a PROXY header. The channel receives the
// headers.
func newProxyBackend(t *testing.T) (*backend, <-chan *proxyproto.Header) {
	t.Helper()
	headers := make(chan *proxyproto.Header, 10)
	return newBackend(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		h, err := proxyproto.Read(in)
		if err != nil {
			return
		}
		headers <- h
		io.Copy(c, in)
	}), headers
}

func TestProxyOut(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		for _, version := range []int{1, 2} {
			back, headers := newProxyBackend(t)
			r := newRouter(t, e, hosts{"a.example": back.addr}, func(s *sniproxy.Server) {
				s.ProxyOut, s.ProxyFrom = version, loopback
			})
			front := r.serve(0)
			hello := hellotest.Hello{Name: "a.example"}.Wire()

			c := dial(t, front)
			echo(t, c, hello)
			h := <-headers
			require.EqualValues(t, version, h.Version)
			require.Equal(t, c.LocalAddr().String(), h.SourceAddr.String())
			require.Equal(t, front, h.DestinationAddr.String())
			c.Close()
			require.EqualValues(t, len(hello), r.next().ToUpstream, "the header is not the client's")

			// The upstream gets the content of the incoming header, in the version of ProxyOut.
			c = dial(t, front)
			_, err := io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
			require.NoError(t, err)
			echo(t, c, hello)
			h = <-headers
			require.EqualValues(t, version, h.Version)
			require.Equal(t, "192.0.2.7:1234", h.SourceAddr.String())
			require.Equal(t, "192.0.2.8:443", h.DestinationAddr.String())
		}
	})
}

func TestProxyHeaderOnlyFromAllowedNetworks(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		a := newTLSBackend(t, "a.example")
		elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		r := newRouter(t, e, hosts{"a.example": a.addr}, func(s *sniproxy.Server) { s.ProxyFrom = elsewhere })
		front := r.serve(0)
		c := dial(t, front)
		_, err := io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
		require.NoError(t, err)
		_, err = c.Write(hellotest.Hello{Name: "a.example"}.Wire())
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		st := r.next()
		require.Equal(t, sniproxy.Rejected, st.Outcome)
		require.True(t, st.Client.Addr().IsLoopback(), "not the address in the header")
		require.Equal(t, "a.example: x", tlsTalk(t, front, &tls.Config{ServerName: "a.example"}, "x"))

		r = newRouter(t, e, hosts{"a.example": a.addr}, func(s *sniproxy.Server) {
			s.ProxyFrom, s.ProxyRequired = elsewhere, true
		})
		requireClosed(t, dial(t, r.serve(0)))
		st = r.next()
		require.ErrorIs(t, st.Err, sniproxy.ErrProxyHeader)
		require.Equal(t, sniproxy.Rejected, st.Outcome)

		r = newRouter(t, e, hosts{"a.example": a.addr}, func(s *sniproxy.Server) {
			s.ProxyFrom, s.ProxyRequired = loopback, true
		})
		c = dial(t, r.serve(0))
		_, err = c.Write(hellotest.Hello{Name: "a.example"}.Wire())
		require.NoError(t, err)
		requireClosed(t, c)
		require.ErrorIs(t, r.next().Err, sniproxy.ErrProxyHeader)
	})
}

// If an endpoint has no port, the router connects to the port that the client connected to. Behind
// a balancer, this is a port of the balancer.
func TestEndpointWithoutPort(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		var to []netip.AddrPort
		r := newRouter(t, e, hosts{"a.example": "10.113.0.10", "b.example": "10.113.0.10:99"}, func(s *sniproxy.Server) {
			s.AllowEndpoints, s.ProxyFrom = nil, loopback
			s.DialContext = refuse
		})
		front := r.serve(0)
		ask := func(sent []byte) {
			c := dial(t, front)
			_, err := c.Write(sent)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, c)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			to = append(to, r.next().Upstream)
		}
		hello := hellotest.Hello{Name: "a.example"}.Wire()
		ask(hello)
		ask(append([]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 4443\r\n"), hello...))
		ask(hellotest.Hello{Name: "b.example"}.Wire())
		own := netip.MustParseAddrPort(front).Port()
		host := netip.MustParseAddr("10.113.0.10")
		require.Equal(t, []netip.AddrPort{
			netip.AddrPortFrom(host, own), netip.AddrPortFrom(host, 4443), netip.AddrPortFrom(host, 99),
		}, to)
	})
}

func TestLoops(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		hello := hellotest.Hello{Name: "a.example"}.Wire()
		send := func(front, header string) {
			c := dial(t, front)
			_, err := io.WriteString(c, header)
			require.NoError(t, err)
			_, err = c.Write(hello)
			require.NoError(t, err)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, byte(80), got[len(got)-1])
			require.NoError(t, c.Close())
		}
		t.Run("to its own listener", func(t *testing.T) {
			l := listenLocal(t)
			r := newRouter(t, e, hosts{"a.example": l.Addr().String()})
			send(r.serveOn(l, 0), "")
			st := r.next()
			require.ErrorIs(t, st.Err, sniproxy.ErrLoop)
			require.Zero(t, st.Dials)
			require.Equal(t, sniproxy.DialFailed, st.Outcome)
		})
		t.Run("by the port that the client used", func(t *testing.T) {
			r := newRouter(t, e, hosts{"a.example": "127.0.0.1"})
			send(r.serve(0), "")
			require.ErrorIs(t, r.next().Err, sniproxy.ErrLoop)
		})
		t.Run("to the balancer in front", func(t *testing.T) {
			r := newRouter(t, e, hosts{"a.example": "192.0.2.8:443"}, func(s *sniproxy.Server) {
				s.ProxyFrom, s.AllowEndpoints = loopback, nil
			})
			send(r.serve(0), "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
			require.ErrorIs(t, r.next().Err, sniproxy.ErrLoop)
		})
		t.Run("through another router and back", func(t *testing.T) {
			proxied := func(s *sniproxy.Server) { s.ProxyFrom, s.ProxyOut = loopback, 2 }
			la, lb := listenLocal(t), listenLocal(t)
			a := newRouter(t, e, hosts{"a.example": lb.Addr().String()}, proxied)
			b := newRouter(t, e, hosts{"a.example": la.Addr().String()}, proxied)
			b.serveOn(lb, 0)
			send(a.serveOn(la, 0), "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
			// The connection went from server a to server b and back to a, which refused it. Either
			// Stats may come first.
			errs := []error{a.next().Err, a.next().Err}
			require.ErrorIs(t, errors.Join(errs...), sniproxy.ErrLoop)
			require.Contains(t, errs, nil)
			require.NoError(t, b.next().Err)
			require.Empty(t, a.finished)
		})
	})
}

// If an endpoint is a name, the router checks all addresses of the name, and tries the allowed ones
// in turn.
func TestEndpointWithSeveralAddresses(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		back := newEcho(t)
		port := netip.MustParseAddrPort(back.addr).Port()
		names := names{
			"good.internal":      {"127.0.0.2", "127.0.0.3", "127.0.0.1"}, // the backend listens on the last one
			"dead.internal":      {"127.0.0.2", "127.0.0.3"},
			"forbidden.internal": {"10.0.0.1", "169.254.169.254"},
			"partly.internal":    {"169.254.169.254", "127.0.0.1"},
		}
		r := newRouter(t, e, everyName{port}, func(s *sniproxy.Server) {
			s.Resolver = names
			s.DialTimeout = time.Minute
		})
		front := r.serve(0)
		for _, tt := range []struct {
			host  string
			dials int
			err   error
			out   sniproxy.Outcome
		}{
			{"good.internal", 3, nil, sniproxy.Relayed},
			{"dead.internal", 2, errAny, sniproxy.DialFailed},
			{"forbidden.internal", 0, sniproxy.ErrForbidden, sniproxy.DialFailed},
			{"partly.internal", 1, nil, sniproxy.Relayed},
			{"none.internal", 0, errDown, sniproxy.LookupFailed},
		} {
			t.Run(tt.host, func(t *testing.T) {
				c := dial(t, front)
				hello := hellotest.Hello{Name: tt.host}.Wire()
				if tt.err == nil {
					echo(t, c, hello)
					require.NoError(t, c.CloseWrite())
				} else {
					_, err := c.Write(hello)
					require.NoError(t, err)
				}
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				require.NoError(t, c.Close())
				st := r.next()
				require.Equal(t, tt.dials, st.Dials)
				require.Equal(t, tt.out, st.Outcome)
				require.Equal(t, tt.host, st.Name)
				if tt.err == nil {
					require.NoError(t, st.Err)
					require.Equal(t, back.addr, st.Upstream.String())
					require.EqualValues(t, len(hello), st.ToUpstream, "once, to the one that took it")
				} else {
					require.Equal(t, byte(80), got[len(got)-1])
					if tt.err != errAny {
						require.ErrorIs(t, st.Err, tt.err)
					}
				}
			})
		}
	})
}
