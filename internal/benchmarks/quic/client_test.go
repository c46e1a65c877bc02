// Package quic_test checks package quic with QUIC clients that are in use.
package quic_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"
	xquic "golang.org/x/net/quic"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// testTimeout bounds each test. The tests take milliseconds.
const testTimeout = 30 * time.Second

// dialer connects to addr, and returns the error with which it ends.
type dialer func(ctx context.Context, addr *net.UDPAddr, config *tls.Config) error

func quicGo(versions ...quicgo.Version) dialer {
	return func(ctx context.Context, addr *net.UDPAddr, config *tls.Config) error {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer socket.Close()
		transport := &quicgo.Transport{Conn: socket}
		defer transport.Close()
		_, err = transport.Dial(ctx, addr, config, &quicgo.Config{Versions: versions, HandshakeIdleTimeout: testTimeout})
		return err
	}
}

func xNet(ctx context.Context, addr *net.UDPAddr, config *tls.Config) error {
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	endpoint, err := xquic.Listen("udp", "127.0.0.1:0", nil)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithCancel(context.Background())
		cancel()
		endpoint.Close(closing) //nolint:errcheck // the peer does not answer
	}()
	_, err = endpoint.Dial(ctx, "udp", addr.String(), &xquic.Config{TLSConfig: config, HandshakeTimeout: testTimeout})
	return err
}

var dialers = map[string]dialer{
	"quic-go v1":            quicGo(quicgo.Version1),
	"quic-go v2":            quicGo(quicgo.Version2),
	"golang.org/x/net/quic": xNet,
}

// start starts a client, and returns a socket that gets its datagrams. The channel ended receives
// the error of the client.
func start(t *testing.T, dial dialer, config *tls.Config) (server *net.UDPConn, ended <-chan error) {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, server.SetReadDeadline(time.Now().Add(testTimeout)))
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	result := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		result <- dial(ctx, server.LocalAddr().(*net.UDPAddr), config)
	}()
	t.Cleanup(func() { cancel(); <-done; server.Close() })
	return server, result
}

// read reads datagrams until the hello is complete. It returns the datagrams that it has read.
func read(t *testing.T, server *net.UDPConn) (hello quic.Hello, from net.Addr, datagrams [][]byte) {
	t.Helper()
	var r quic.Reader
	buf := make([]byte, 1<<16)
	for {
		n, addr, err := server.ReadFrom(buf)
		require.NoError(t, err)
		datagrams = append(datagrams, slices.Clone(buf[:n]))
		hello, err = r.Read(buf[:n])
		if errors.Is(err, peek.ErrNeedMore) {
			continue
		}
		require.NoError(t, err)
		return hello, addr, datagrams
	}
}

func TestClients(t *testing.T) {
	many := []string{"h3"}
	for _, letter := range "abcdefgh" {
		many = append(many, strings.Repeat(string(letter), 255))
	}
	for client, dial := range dialers {
		for name, c := range map[string]struct {
			curve     tls.CurveID
			protocols []string
			quantum   bool
			datagrams int // the least number
		}{
			"classical":    {tls.X25519, []string{"h3"}, false, 1},
			"post-quantum": {tls.X25519MLKEM768, []string{"h3"}, true, 2},
			"large":        {tls.X25519MLKEM768, many, true, 3},
		} {
			t.Run(client+" "+name, func(t *testing.T) {
				config := &tls.Config{ServerName: "go.example", NextProtos: c.protocols, CurvePreferences: []tls.CurveID{c.curve}}
				server, _ := start(t, dial, config)
				hello, _, datagrams := read(t, server)
				check := func(hello quic.Hello) {
					t.Helper()
					require.Equal(t, "go.example", hello.Name)
					require.True(t, hello.ClientHello.OffersALPN("h3"))
					require.Equal(t, c.quantum, hello.ClientHello.PostQuantum())
					require.Equal(t, uint16(tls.VersionTLS13), hello.ClientHello.MaxVersion())
					want := quic.Version1
					if strings.HasSuffix(client, "v2") {
						want = quic.Version2
					}
					require.Equal(t, want, hello.Version)
				}
				check(hello)
				require.GreaterOrEqual(t, len(datagrams), c.datagrams)

				// Read the same datagrams again, in random order and repeated, mixed with datagrams
				// that the client has not sent.
				for seed := range uint64(20) {
					rng := rand.New(rand.NewPCG(seed, 1))
					all := append(slices.Clone(datagrams), datagrams[rng.IntN(len(datagrams))], make([]byte, 1200), slices.Clone(datagrams[0]))
					all[len(all)-1][50] ^= 1
					rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					var r quic.Reader
					var got quic.Hello
					for _, d := range all {
						var err error
						got, err = r.Read(d)
						if _, ignored := err.(*quic.Ignored); err != nil && !ignored {
							require.ErrorIs(t, err, peek.ErrNeedMore)
						}
					}
					check(got)
				}
			})
		}
	}
}

// If a datagram is lost, the client sends the hello again. The Reader needs no more than that.
func TestLoss(t *testing.T) {
	for client, dial := range dialers {
		t.Run(client, func(t *testing.T) {
			server, _ := start(t, dial, &tls.Config{ServerName: "go.example", NextProtos: []string{"h3"}})
			buf := make([]byte, 1<<16)
			_, _, err := server.ReadFrom(buf) // this datagram is lost
			require.NoError(t, err)
			hello, _, _ := read(t, server)
			require.Equal(t, "go.example", hello.Name)
		})
	}
}

// Clients understand the datagram of AppendClose, and report the alert.
func TestAppendClose(t *testing.T) {
	for client, dial := range dialers {
		t.Run(client, func(t *testing.T) {
			server, ended := start(t, dial, &tls.Config{ServerName: "unknown.example", NextProtos: []string{"h3"}})
			hello, from, _ := read(t, server)
			answer, err := hello.AppendClose(nil, quic.CryptoError(112), "no such host")
			require.NoError(t, err)
			require.Less(t, len(answer), quic.MinDatagram)
			_, err = server.WriteTo(answer, from)
			require.NoError(t, err)
			select {
			case err := <-ended:
				require.Error(t, err)
				require.Regexp(t, `(0x170|CRYPTO_ERROR\(112\)).*no such host`, err.Error())
			case <-time.After(testTimeout):
				t.Fatal("the client has not ended")
			}
		})
	}
}

// A client of version 2 understands the datagram of AppendVersionNegotiation, and sends its hello
// again with version 1.
func TestVersionNegotiation(t *testing.T) {
	server, _ := start(t, quicGo(quicgo.Version2, quicgo.Version1), &tls.Config{ServerName: "go.example", NextProtos: []string{"h3"}})
	buf := make([]byte, 1<<16)
	var r quic.Reader
	for {
		n, from, err := server.ReadFrom(buf)
		require.NoError(t, err)
		h, err := quic.ParseHeader(buf[:n])
		require.NoError(t, err)
		if h.Version == quic.Version2 {
			_, err = server.WriteTo(h.AppendVersionNegotiation(nil, quic.Version1), from)
			require.NoError(t, err)
			continue
		}
		hello, err := r.Read(buf[:n])
		if errors.Is(err, peek.ErrNeedMore) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "go.example", hello.Name)
		require.Equal(t, quic.Version1, hello.Version)
		return
	}
}
