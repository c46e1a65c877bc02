package sniproxy_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
)

// newSink returns a backend that reads until the client ends its direction, and answers with the
// hash of all received bytes.
func newSink(t *testing.T) *backend {
	t.Helper()
	return newBackend(t, func(c net.Conn) {
		h := sha256.New()
		n, err := io.Copy(h, c)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%d %x", n, h.Sum(nil))
	})
}

func sum(b []byte) string { return fmt.Sprintf("%d %x", len(b), sha256.Sum256(b)) }

// pour writes b in segments of random size, and returns the answer of a sink.
func pour(t *testing.T, c *net.TCPConn, b []byte, rnd *rand.Rand) string {
	t.Helper()
	for len(b) > 0 {
		n := min(len(b), 1+rnd.IntN(1<<rnd.IntN(15)))
		_, err := c.Write(b[:n])
		require.NoError(t, err)
		b = b[n:]
	}
	require.NoError(t, c.CloseWrite())
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(answer)
}

// The bytes after a hello do not matter to the router, so the test uses random ones.
func TestBackendGetsExactlyTheBytesOfTheClient(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		sink := newSink(t)
		r := newRouter(t, e, hosts{"a.example": sink.addr}, func(s *sniproxy.Server) { s.ProxyFrom = loopback })
		front := r.serve(0)
		hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2"}, Pad: 3000}
		openings := map[string][]byte{
			"tls":             hello.Wire(),
			"tls, records":    hello.Wire(1, 7, 100),
			"tls, 20 KB":      hellotest.Hello{Name: "a.example", Pad: 20_000}.Wire(),
			"tls, 60 KB":      hellotest.Hello{Name: "a.example", Pad: 60_000}.Wire(),
			"http/1.1":        []byte("POST / HTTP/1.1\r\nHost: A.example:80\r\nContent-Length: 5\r\n\r\n"),
			"http/1.0":        []byte("GET / HTTP/1.0\nHost: a.example.\n\n"),
			"h2c":             h2Request(t, "a.example"),
			"PROXY v1 before": append([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 5555 443\r\n"), hello.Wire()...),
		}
		const rounds = 8
		for name, opening := range openings {
			t.Run(name, func(t *testing.T) {
				for seed := range uint64(rounds) {
					rnd := rand.New(rand.NewPCG(seed, 1))
					body := make([]byte, rnd.IntN(1<<18))
					rand.NewChaCha8([32]byte{byte(seed)}).Read(body)
					want := append(opening[proxyHeader(opening):len(opening):len(opening)], body...)
					got := pour(t, dial(t, front), append(opening[:len(opening):len(opening)], body...), rnd)
					require.Equal(t, sum(want), got, "seed %d", seed)
					st := r.next()
					require.NoError(t, st.Err)
					require.Equal(t, "a.example", st.Name)
					require.EqualValues(t, len(want), st.ToUpstream)
					require.EqualValues(t, len(got), st.ToClient)
					require.Equal(t, sniproxy.Relayed, st.Outcome)
				}
			})
		}
	})
}

func proxyHeader(b []byte) int {
	if strings.HasPrefix(string(b), "PROXY ") {
		return strings.Index(string(b), "\n") + 1
	}
	return 0
}

// The test sends each byte in a TCP segment of its own. It waits until the router has read the byte
// before it sends the next one. Otherwise the kernel could merge segments.
func TestHelloInSegmentsOfOneByte(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		sink := newSink(t)
		r := newRouter(t, e, hosts{"a.example": sink.addr})
		front := r.serve(peek.TLS)
		hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2", "http/1.1"}}.Wire(1)
		c := dial(t, front)
		require.NoError(t, c.SetNoDelay(true))
		require.NoError(t, hellotest.WriteSegments(c, hello, 1, nil))
		require.NoError(t, c.CloseWrite())
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, sum(hello), string(answer))
		require.Equal(t, []string{"h2", "http/1.1"}, r.next().ALPN)
	})
}
