package quic_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	quicgo "github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"
	xquic "golang.org/x/net/quic"

	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy/quicrelay"
)

// relayTo starts a Relay that sends every client to the backend. It returns the address of the
// Relay, and a function that closes the Relay and returns the Stats of its paths.
func relayTo(t *testing.T, backend netip.AddrPort) (net.Addr, func() []quicrelay.Stats) {
	t.Helper()
	var mu sync.Mutex
	var finished []quicrelay.Stats
	relay := &quicrelay.Relay{
		Route: func(_ context.Context, req quicrelay.Request) (quicrelay.Backend, error) {
			return quicrelay.Backend{Addr: backend}, req.Err
		},
		Finished: func(s quicrelay.Stats) {
			mu.Lock()
			defer mu.Unlock()
			finished = append(finished, s)
		},
	}
	front := listenUDP(t)
	served := make(chan error, 1)
	go func() { served <- relay.Serve(front) }()
	t.Cleanup(func() {
		relay.Close()
		require.ErrorIs(t, <-served, quicrelay.ErrClosed)
	})
	return front.LocalAddr(), func() []quicrelay.Stats {
		relay.Close()
		return finished
	}
}

// lossy is a socket that loses one of 10 datagrams in each direction. It swaps one of 10 datagrams
// that it sends with the next one.
type lossy struct {
	net.PacketConn

	mu   sync.Mutex
	rng  *rand.Rand
	held []byte
}

func (l *lossy) chance() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(10)
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err != nil || l.chance() > 0 {
			return n, from, err
		}
	}
}

func (l *lossy) WriteTo(b []byte, to net.Addr) (int, error) {
	chance := l.chance()
	l.mu.Lock()
	held := l.held
	l.held = nil
	if chance == 1 {
		l.held = slices.Clone(b)
	}
	l.mu.Unlock()
	if chance > 1 {
		if n, err := l.PacketConn.WriteTo(b, to); err != nil {
			return n, err
		}
	}
	if held != nil {
		return l.PacketConn.WriteTo(held, to)
	}
	return len(b), nil
}

// TestRelayLoss sends hellos with a post-quantum key share, which need two datagrams.
func TestRelayLoss(t *testing.T) {
	ca := testcert.New("test CA")
	front, _ := relayTo(t, echo(t, ca.Issue("a.example")))
	for seed := range uint64(5) {
		transport := &quicgo.Transport{Conn: &lossy{PacketConn: listenUDP(t), rng: rand.New(rand.NewPCG(seed, 0))}}
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		config := &tls.Config{ServerName: "a.example", RootCAs: ca.Pool(), NextProtos: []string{"echo"}, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}
		c, err := transport.Dial(ctx, front, config, &quicgo.Config{HandshakeIdleTimeout: testTimeout, MaxIdleTimeout: testTimeout})
		require.NoError(t, err)
		s, err := c.OpenStreamSync(ctx)
		require.NoError(t, err)
		want := bytes.Repeat([]byte("0123456789"), 5_000)
		go func() {
			s.Write(want) //nolint:errcheck // the reader checks
			s.Close()
		}()
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.NoError(t, c.CloseWithError(0, ""))
		transport.Close()
		cancel()
	}
}

// nat is a network address translator between one client and a Relay.
type nat struct {
	inside *net.UDPConn
	relay  net.Addr

	mu      sync.Mutex
	outside *net.UDPConn
	client  net.Addr
}

func startNAT(t *testing.T, relay net.Addr) *nat {
	n := &nat{inside: listenUDP(t), relay: relay}
	n.rebind(t)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			size, from, err := n.inside.ReadFrom(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.client = from
			n.outside.WriteTo(buf[:size], relay) //nolint:errcheck // a loss
			n.mu.Unlock()
		}
	}()
	return n
}

// rebind changes the port that the Relay sees. The NAT drops datagrams for the earlier port.
func (n *nat) rebind(t *testing.T) {
	outside := listenUDP(t)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside = outside
	go func() {
		buf := make([]byte, 1<<16)
		for {
			size, _, err := outside.ReadFrom(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			if n.outside == outside {
				n.inside.WriteTo(buf[:size], n.client) //nolint:errcheck // a loss
			}
			n.mu.Unlock()
		}
	}()
}

// TestRelayRebinding uses the client of golang.org/x/net/quic, because it uses the first ID of the
// backend. The Relay cannot follow clients of quic-go, which use an ID from a NEW_CONNECTION_ID frame.
func TestRelayRebinding(t *testing.T) {
	ca := testcert.New("test CA")
	front, closeRelay := relayTo(t, echo(t, ca.Issue("a.example")))
	n := startNAT(t, front)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	config := &tls.Config{ServerName: "a.example", RootCAs: ca.Pool(), NextProtos: []string{"echo"}, MinVersion: tls.VersionTLS13}
	endpoint, err := xquic.Listen("udp", "127.0.0.1:0", nil)
	require.NoError(t, err)
	defer func() {
		closing, cancel := context.WithCancel(context.Background())
		cancel()
		endpoint.Close(closing) //nolint:errcheck // does not wait for the peer
	}()
	c, err := endpoint.Dial(ctx, "udp", n.inside.LocalAddr().String(), &xquic.Config{TLSConfig: config})
	require.NoError(t, err)
	for range 3 {
		s, err := c.NewStream(ctx)
		require.NoError(t, err)
		s.SetReadContext(ctx)
		s.SetWriteContext(ctx)
		want := bytes.Repeat([]byte("0123456789"), 1_000)
		_, err = s.Write(want)
		require.NoError(t, err)
		s.CloseWrite()
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		n.rebind(t)
	}
	moved := 0
	for _, s := range closeRelay() {
		if s.Moved {
			moved++
		}
	}
	require.GreaterOrEqual(t, moved, 2)
}
