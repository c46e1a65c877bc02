package quicrelay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// testTimeout bounds every wait for a socket. The tests take milliseconds.
const testTimeout = 30 * time.Second

func listenUDP(t testing.TB, addr string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	require.NoError(t, err)
	conn, err := net.ListenUDP("udp", a)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(testTimeout)))
	return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// read reads n datagrams. conn may have got UDP_GRO from newSocket.
func read(t testing.TB, conn *net.UDPConn, n int) (datagrams [][]byte, from netip.AddrPort) {
	t.Helper()
	s, err := newSocket(conn, false)
	require.NoError(t, err)
	for len(datagrams) < n {
		b, err := s.receive()
		require.NoError(t, err)
		for rest := b.buf[:b.n]; len(rest) > 0; {
			var d []byte
			d, rest = cut(rest, b.size)
			datagrams = append(datagrams, bytes.Clone(d))
		}
		from = b.from
		b.release()
	}
	return datagrams, from
}

// serveUDP starts a Relay that sends every client to the backend, and returns a client of the
// Relay.
func serveUDP(t testing.TB, backend netip.AddrPort, finished chan<- Stats, addr, clientAddr string) *net.UDPConn {
	t.Helper()
	relay := &Relay{
		Route: func(context.Context, Request) (Backend, error) { return Backend{Addr: backend}, nil },
	}
	if finished != nil {
		relay.Finished = func(s Stats) { finished <- s }
	}
	front, frontAddr := listenUDP(t, addr)
	require.NoError(t, front.SetReadDeadline(time.Time{}))
	served := make(chan error, 1)
	go func() { served <- relay.Serve(front) }()
	t.Cleanup(func() {
		relay.Close()
		require.ErrorIs(t, <-served, ErrClosed)
	})
	to := net.UDPAddrFromAddrPort(frontAddr)
	host, _, err := net.SplitHostPort(clientAddr)
	require.NoError(t, err)
	to.IP = net.ParseIP(host)
	client, err := net.DialUDP("udp", nil, to)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	require.NoError(t, client.SetReadDeadline(time.Now().Add(testTimeout)))
	return client
}

func TestSockets(t *testing.T) {
	for name, c := range map[string]struct{ front, client, backend string }{
		"IPv4":                           {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"},
		"IPv4 client, unspecified, IPv6": {":0", "127.0.0.1:0", "[::1]:0"},
		"IPv6":                           {"[::1]:0", "[::1]:0", "127.0.0.1:0"},
		"IPv6 client, unspecified":       {":0", "[::1]:0", "127.0.0.1:0"},
		// The client is connected, so it gets only datagrams from the address that it sends to.
		"second address":              {"0.0.0.0:0", "127.0.0.2:0", "127.0.0.1:0"},
		"second address, both stacks": {":0", "127.0.0.2:0", "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			backend, backendAddr := listenUDP(t, c.backend)
			client := serveUDP(t, backendAddr, nil, c.front, c.client)
			want := hello("a.example", "one")[0]
			_, err := client.Write(want)
			require.NoError(t, err)
			got, relay := read(t, backend, 1)
			require.Equal(t, [][]byte{want}, got)
			answer := long(0xc0, []byte("c"), id("A"), 1200)
			_, err = backend.WriteToUDPAddrPort(answer, relay)
			require.NoError(t, err)
			got, _ = read(t, client, 1)
			require.Equal(t, [][]byte{answer}, got)

			// Bundles in both directions.
			var toBackend, toClient [][]byte
			for i := range 20 {
				toBackend = append(toBackend, short(append(id("A"), byte(i)), 1200))
				toClient = append(toClient, short([]byte{'c', byte(i)}, 1200))
			}
			toBackend = append(toBackend, short(id("A"), 50))
			toClient = append(toClient, short([]byte("c"), 70))
			sendBundle(t, client, true, toBackend, netip.AddrPort{})
			got, _ = read(t, backend, len(toBackend))
			require.Equal(t, toBackend, got)
			sendBundle(t, backend, false, toClient, relay)
			got, _ = read(t, client, len(toClient))
			require.Equal(t, toClient, got)
		})
	}
}

// sendBundle sends datagrams at once.
func sendBundle(t testing.TB, conn *net.UDPConn, connected bool, datagrams [][]byte, to netip.AddrPort) {
	t.Helper()
	raw, err := newSocket(conn, connected)
	require.NoError(t, err)
	require.NoError(t, raw.send(bytes.Join(datagrams, nil), len(datagrams[0]), netip.Addr{}, to))
}

// TestLargeDatagrams checks datagrams that are larger than any network allows, and a bundle that the
// kernel refuses to split.
func TestLargeDatagrams(t *testing.T) {
	receiver, addr := listenUDP(t, "127.0.0.1:0")
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	require.NoError(t, err)
	defer conn.Close()
	s, err := newSocket(conn, true)
	require.NoError(t, err)
	require.Error(t, s.send(make([]byte, maxBundle), maxBundle, netip.Addr{}, netip.AddrPort{}))
	many := bytes.Repeat([]byte("x"), 200)
	require.NoError(t, s.send(many, 1, netip.Addr{}, netip.AddrPort{}), "more datagrams than UDP_SEGMENT allows")
	got, _ := read(t, receiver, len(many))
	require.Equal(t, many, bytes.Join(got, nil))
}

func TestReceiveDeadlineAndClose(t *testing.T) {
	_, addr := listenUDP(t, "127.0.0.1:0")
	s, err := dialUDP(addr)
	require.NoError(t, err)
	require.NoError(t, s.setReadDeadline(time.Now().Add(-time.Second)))
	_, err = s.receive()
	var timeout net.Error
	require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
	require.NoError(t, s.setReadDeadline(time.Time{}))
	received := make(chan error, 1)
	go func() {
		_, err := s.receive()
		received <- err
	}()
	require.NoError(t, s.close())
	require.ErrorIs(t, <-received, net.ErrClosed)
	require.ErrorIs(t, s.send([]byte("x"), 1, netip.Addr{}, netip.AddrPort{}), net.ErrClosed)
}

func TestPortUnreachable(t *testing.T) {
	closed, addr := listenUDP(t, "127.0.0.1:0")
	closed.Close()
	finished := make(chan Stats, 1)
	client := serveUDP(t, addr, finished, "127.0.0.1:0", "127.0.0.1:0")
	_, err := client.Write(hello("a.example", "one")[0])
	require.NoError(t, err)
	got, _ := read(t, client, 1)
	require.Equal(t, quic.Initial, header(t, got[0]).Type)
	s := <-finished
	require.EqualValues(t, internalError, s.Alert)
	require.Error(t, s.Err)
}

func TestInvalidBackend(t *testing.T) {
	for _, addr := range []netip.AddrPort{{}, netip.MustParseAddrPort("127.0.0.1:0")} {
		finished := make(chan Stats, 1)
		client := serveUDP(t, addr, finished, "127.0.0.1:0", "127.0.0.1:0")
		_, err := client.Write(hello("a.example", "one")[0])
		require.NoError(t, err)
		require.ErrorContains(t, (<-finished).Err, "not valid")
	}
}

// BenchmarkRelay measures how long a bundle of 1,200-byte datagrams needs from a backend to a client
// through the Relay, on one machine. The client reads a bundle before the backend sends the next one.
func BenchmarkRelay(b *testing.B) {
	for _, n := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("datagrams=%d", n), func(b *testing.B) {
			backend, backendAddr := listenUDP(b, "127.0.0.1:0")
			client := serveUDP(b, backendAddr, nil, "127.0.0.1:0", "127.0.0.1:0")
			_, err := client.Write(hello("a.example", "one")[0])
			require.NoError(b, err)
			_, relay := read(b, backend, 1)
			_, err = backend.WriteToUDPAddrPort(long(0xc0, []byte("c"), id("A"), 1200), relay)
			require.NoError(b, err)
			read(b, client, 1)
			_, err = client.Write(short(id("A"), 60))
			require.NoError(b, err)
			read(b, backend, 1)
			out, err := newSocket(backend, false)
			require.NoError(b, err)
			in, err := newSocket(client, true)
			require.NoError(b, err)
			require.NoError(b, in.setReadDeadline(time.Time{}))
			bundle := bytes.Repeat(short([]byte("c"), 1200), n)
			b.SetBytes(int64(len(bundle)))
			b.ReportAllocs()
			for b.Loop() {
				if err := out.send(bundle, 1200, netip.Addr{}, relay); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < len(bundle); {
					r, err := in.receive()
					if err != nil {
						b.Fatal(err)
					}
					got += r.n
					r.release()
				}
			}
		})
	}
}
