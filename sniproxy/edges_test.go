package sniproxy_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
)

// A client may send empty lines before its request. The upstream gets the request alone.
func TestEmptyLinesBeforeARequest(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{"a.example": newEcho(t).addr}, func(s *sniproxy.Server) { s.ProxyFrom = loopback })
		front := r.serve(0)
		for _, before := range []string{"", "\r\n", "\r\n\r\n", "\n", "PROXY UNKNOWN\r\n\r\n", "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n\n"} {
			c := dial(t, front)
			_, err := io.WriteString(c, before+request)
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, request, string(got), "after %q", before)
			require.NoError(t, c.Close())
			require.EqualValues(t, len(request), r.next().ToUpstream)
		}
	})
}

// A PROXY header without the addresses of a TCP connection is valid. In this case, the peer is the
// client.
func TestProxyHeaderWithoutTCP(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	header := func(command, family byte, length int) []byte {
		b := append([]byte(nil), proxyproto.SIGV2...)
		b = binary.BigEndian.AppendUint16(append(b, command, family), uint16(length))
		return append(b, make([]byte, length)...)
	}
	eachEngine(t, func(t *testing.T, e engine) {
		back, headers := newProxyBackend(t)
		r := newRouter(t, e, hosts{"a.example": back.addr}, func(s *sniproxy.Server) {
			s.ProxyFrom, s.ProxyRequired, s.ProxyOut = loopback, true, 2
		})
		front := r.serve(0)
		for name, h := range map[string][]byte{
			"LOCAL": header(0x20, 0, 0), "LOCAL with bytes": header(0x20, 0x11, 12), "UNSPEC": header(0x21, 0, 0),
			"UNSPEC with bytes": header(0x21, 0, 7), "UDP": header(0x21, 0x12, 12), "UDP of IPv6": header(0x21, 0x22, 36),
			"Unix": header(0x21, 0x31, 216), "Unix datagrams": header(0x21, 0x32, 216), "UNKNOWN": []byte("PROXY UNKNOWN\r\n"),
		} {
			t.Run(name, func(t *testing.T) {
				c := dial(t, front)
				_, err := c.Write(h)
				require.NoError(t, err)
				echo(t, c, hello)
				require.Equal(t, c.LocalAddr().String(), (<-headers).SourceAddr.String())
				local := c.LocalAddr().String()
				require.NoError(t, c.Close())
				st := r.next()
				require.Equal(t, local, st.Client.String())
				require.Equal(t, sniproxy.Relayed, st.Outcome)
			})
		}
	})
}

// The Server asks the resolver for a name with its final dot. Without the dot, a resolver would also
// try the search domains of the machine.
func TestEndpointWithAFinalDot(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		back := newEcho(t)
		const name = "web.shop.svc.cluster.local."
		endpoint := fmt.Sprintf("%s:%d", name, netip.MustParseAddrPort(back.addr).Port())
		r := newRouter(t, e, hosts{"a.example": endpoint}, func(s *sniproxy.Server) {
			s.Resolver = names{name: {"127.0.0.1"}}
		})
		c := dial(t, r.serve(0))
		echo(t, c, hellotest.Hello{Name: "a.example"}.Wire())
		require.NoError(t, c.Close())
		st := r.next()
		require.Equal(t, endpoint, st.Endpoint.Addr)
		require.Equal(t, back.addr, st.Upstream.String())
	})
}

// If one side has ended its direction, the connection ends after HalfCloseTimeout, and not only
// after IdleTimeout.
func TestHalfCloseTimeout(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	eachEngine(t, func(t *testing.T, e engine) {
		for _, clientEnds := range []bool{false, true} {
			finished := make(chan struct{})
			back := newBackend(t, func(c net.Conn) {
				io.ReadFull(c, make([]byte, len(hello)))
				if !clientEnds {
					c.(*net.TCPConn).CloseWrite()
				}
				<-finished
			})
			r := newRouter(t, e, hosts{"a.example": back.addr}, func(s *sniproxy.Server) {
				s.IdleTimeout, s.HalfCloseTimeout = time.Hour, 50*time.Millisecond
			})
			c := dial(t, r.serve(0))
			_, err := c.Write(hello)
			require.NoError(t, err)
			if clientEnds {
				require.NoError(t, c.CloseWrite())
			}
			st := r.next()
			close(finished)
			require.Equal(t, sniproxy.Relayed, st.Outcome)
			require.ErrorIs(t, st.Err, os.ErrDeadlineExceeded)
			require.NoError(t, c.Close())
		}
	})
}
