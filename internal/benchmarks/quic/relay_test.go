package quic_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy/quicrelay"
)

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// echo runs a server that sends back each stream.
func echo(t *testing.T, cert testcert.Pair) netip.AddrPort {
	t.Helper()
	conn := listenUDP(t)
	l, err := (&quicgo.Transport{Conn: conn}).Listen(&tls.Config{Certificates: []tls.Certificate{cert.TLS}, NextProtos: []string{"echo"}}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					s, err := c.AcceptStream(context.Background())
					if err != nil {
						return
					}
					go func() {
						io.Copy(s, s) //nolint:errcheck // the client checks
						s.Close()
					}()
				}
			}()
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestRelay(t *testing.T) {
	ca := testcert.New("test CA")
	a, b := echo(t, ca.Issue("a.example")), echo(t, ca.Issue("b.example"))
	finished := make(chan quicrelay.Stats, 100)
	relay := &quicrelay.Relay{
		Route: func(_ context.Context, req quicrelay.Request) (quicrelay.Backend, error) {
			switch {
			case req.Err != nil:
				return quicrelay.Backend{}, req.Err
			case req.Hello.Name == "a.example":
				return quicrelay.Backend{Addr: a}, nil
			case req.Hello.Name == "b.example":
				return quicrelay.Backend{Addr: b}, nil
			}
			return quicrelay.Backend{}, &quicrelay.Refusal{Alert: 112, Reason: "no such host"}
		},
		Finished: func(s quicrelay.Stats) { finished <- s },
	}
	front := listenUDP(t)
	served := make(chan error, 1)
	go func() { served <- relay.Serve(front) }()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	payload := bytes.Repeat([]byte("0123456789"), 50_000)
	roundTrip := func(c *quicgo.Conn) {
		t.Helper()
		s, err := c.OpenStreamSync(ctx)
		require.NoError(t, err)
		go func() {
			s.Write(payload) //nolint:errcheck // the reader checks
			s.Close()
		}()
		require.NoError(t, s.SetReadDeadline(time.Now().Add(testTimeout)))
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, got))
	}
	transport := &quicgo.Transport{Conn: listenUDP(t)}
	defer transport.Close()
	for _, name := range []string{"a.example", "b.example", "a.example"} {
		c, err := transport.Dial(ctx, front.LocalAddr(), &tls.Config{ServerName: name, RootCAs: ca.Pool(), NextProtos: []string{"echo"}}, &quicgo.Config{HandshakeIdleTimeout: testTimeout})
		require.NoError(t, err)
		roundTrip(c)
		require.NoError(t, c.CloseWithError(0, ""))
	}
	_, err := transport.Dial(ctx, front.LocalAddr(), &tls.Config{ServerName: "unknown.example", RootCAs: ca.Pool(), NextProtos: []string{"echo"}}, &quicgo.Config{HandshakeIdleTimeout: testTimeout})
	require.ErrorContains(t, err, "0x170")

	relay.Close()
	require.ErrorIs(t, <-served, quicrelay.ErrClosed)
	close(finished)
	relayed, alerts := 0, 0
	for s := range finished {
		if s.Name == "unknown.example" {
			// A client that sends its hello again after the refusal begins another path.
			if s.Alert == 112 {
				alerts++
			}
			continue
		}
		relayed++
		require.True(t, errors.Is(s.Err, quicrelay.ErrClosed), "%v", s.Err)
		require.Greater(t, s.ToClient, int64(len(payload)))
	}
	require.Equal(t, 3, relayed)
	require.GreaterOrEqual(t, alerts, 1)
}
