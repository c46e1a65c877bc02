package main

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/quic"

	"github.com/headgate/headgate/examples/internal/cli"
)

// quicConfig is a configuration for a busy machine.
func quicConfig(conf *tls.Config) *quic.Config {
	conf.MinVersion, conf.NextProtos = tls.VersionTLS13, []string{"test"}
	return &quic.Config{TLSConfig: conf, HandshakeTimeout: patience, MaxIdleTimeout: patience}
}

// quicEndpoint returns a server, or a client if conf is nil.
func quicEndpoint(t *testing.T, conf *quic.Config) *quic.Endpoint {
	t.Helper()
	e, err := quic.Listen("udp", "127.0.0.1:0", conf)
	require.NoError(t, err)
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		e.Close(now) //nolint:errcheck // does not wait for the peers
	})
	return e
}

// dialQUIC makes a QUIC connection to a host through the router.
func dialQUIC(t *testing.T, p *process, host string) (*quic.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return quicEndpoint(t, nil).Dial(ctx, "udp", p.quic(), clientConfig(host))
}

func clientConfig(host string) *quic.Config {
	return quicConfig(&tls.Config{ServerName: host, RootCAs: theAuthority().Pool()})
}

// quic returns the address for QUIC.
func (p *process) quic() (addr string) {
	p.eventually(func() bool {
		addr = p.logged("msg=listening addr=", " protocol=quic\n")
		return addr != ""
	})
	return addr
}

// newQUICSite returns the address of a backend that closes each stream.
func newQUICSite(t *testing.T, hosts ...string) string {
	t.Helper()
	e := quicEndpoint(t, quicConfig(&tls.Config{Certificates: []tls.Certificate{theAuthority().Issue(hosts...).TLS}}))
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
					s.Close() //nolint:errcheck // the client checks
				}
			}()
		}
	}()
	return e.LocalAddr().String()
}

// ping opens a stream, and waits until the backend has closed it.
func ping(t *testing.T, c *quic.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := c.NewStream(ctx)
	require.NoError(t, err)
	s.SetReadContext(ctx)
	s.SetWriteContext(ctx)
	_, err = s.Write([]byte("ping"))
	require.NoError(t, err)
	s.CloseWrite()
	_, err = s.Read(make([]byte, 1))
	require.EqualError(t, err, "EOF")
}

// A QUIC connection appears in the log, the metrics and the status page.
func TestQUIC(t *testing.T) {
	site := newQUICSite(t, "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", site), "-quic", "127.0.0.1:0", "-drain-timeout", "50ms")
	_, err := dialQUIC(t, p, "unknown.test")
	require.ErrorContains(t, err, "CRYPTO_ERROR(112)")
	p.metric(`headgate_router_connections_total{outcome="not_found",protocol="quic"} 1`)
	p.metric(`headgate_router_answers_total{code="112",protocol="quic"} 1`)
	c, err := dialQUIC(t, p, "a.test")
	require.NoError(t, err)
	ping(t, c)
	p.metric(`headgate_router_connections 1`)
	p.metric(`headgate_router_connections_quic 1`)
	_, page := p.ask("GET", "/")
	require.Contains(t, page, p.quic()+" (quic)")
	require.Contains(t, page, "(1 of QUIC)")
	require.Regexp(t, `<td>quic<td>a\.test<td>App of a\.test<td>`+site+`<td>relay`, page)
}

// Without datagrams, only the time-outs end a connection.
func TestQUICTimeouts(t *testing.T) {
	site := newQUICSite(t, "a.test")
	t.Run("idle", func(t *testing.T) {
		p := start(t, "-hosts", hostsFile(t, "a.test", site), "-quic", "127.0.0.1:0", "-quic-idle-timeout", "1ms")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go quicEndpoint(t, nil).Dial(ctx, "udp", p.quic(), clientConfig("a.test")) //nolint:errcheck // the router may end the connection during the handshake
		p.eventually(func() bool { return strings.Contains(p.stderr.String(), "protocol=quic outcome=relayed name=a.test") })
		require.Regexp(t, `level=INFO msg=connection .*outcome=relayed`, p.stderr.String(), "it is no fault")
	})
	t.Run("drain", func(t *testing.T) {
		p := start(t, "-hosts", hostsFile(t, "a.test", site), "-quic", "127.0.0.1:0", "-drain-timeout", "50ms")
		_, err := dialQUIC(t, p, "a.test")
		require.NoError(t, err)
		p.cancel()
		require.Equal(t, cli.ExitOK, p.wait())
		require.Contains(t, p.stderr.String(), "protocol=quic outcome=relayed name=a.test")
		require.Contains(t, p.stderr.String(), "server closed")
	})
}
