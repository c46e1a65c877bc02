package quicrelay

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// fakeSocket is a socket without a network. It works in a synctest bubble.
type fakeSocket struct {
	in     chan *bundle
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
	out      []sent
	sendErr  error
	gate     chan struct{} // if not nil, send waits for a value
}

type sent struct {
	b    []byte
	size int
	to   netip.AddrPort
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{in: make(chan *bundle), closed: make(chan struct{})}
}

func (s *fakeSocket) receive() (*bundle, error) {
	s.mu.Lock()
	deadline := s.deadline
	s.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case b := <-s.in:
		if b.n == 0 {
			return nil, errors.New("ICMP error")
		}
		return b, nil
	case <-s.closed:
		return nil, net.ErrClosed
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	}
}

func (s *fakeSocket) send(b []byte, size int, _ netip.Addr, to netip.AddrPort) error {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sendErr != nil {
		return s.sendErr
	}
	s.out = append(s.out, sent{slices.Clone(b), size, to})
	return nil
}

func (s *fakeSocket) setReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}

func (s *fakeSocket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *fakeSocket) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// put makes the socket receive datagrams of the same size, and waits until the Relay has handled them.
func (s *fakeSocket) put(from netip.AddrPort, datagrams ...[]byte) {
	b := newBundle() // it may have been a bundle of another test
	b.n, b.size, b.from, b.to = 0, 0, from, netip.Addr{}
	for _, d := range datagrams {
		b.size = max(b.size, len(d))
		b.n += copy(b.buf[b.n:], d)
	}
	s.in <- b
	synctest.Wait()
}

// take returns the datagrams that the socket has sent since the last call.
func (s *fakeSocket) take() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out
	s.out = nil
	return out
}

// datagrams returns the datagrams that the socket has sent since the last call.
func (s *fakeSocket) datagrams() (list [][]byte) {
	for _, sent := range s.take() {
		for b := sent.b; len(b) > 0; {
			var d []byte
			d, b = cut(b, sent.size)
			list = append(list, d)
		}
	}
	return list
}

// bench is a Relay with fake sockets, in a synctest bubble.
type bench struct {
	*Relay

	t       *testing.T
	front   *fakeSocket
	prepare func(*fakeSocket) // changes the next backends
	dialErr error
	served  chan error

	mu       sync.Mutex
	backends []*fakeSocket // in the order of dial
	dialed   []netip.AddrPort
	finished []Stats
}

// ends returns the Stats of the paths that have ended.
func (b *bench) ends() []Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.finished)
}

// dials returns the addresses that the Relay has dialed.
func (b *bench) dials() []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.dialed)
}

// sockets returns the sockets of dials.
func (b *bench) sockets() []*fakeSocket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.backends)
}

var (
	backendA   = netip.MustParseAddrPort("192.0.2.1:443")
	backendB   = netip.MustParseAddrPort("192.0.2.2:443")
	client1    = netip.MustParseAddrPort("198.51.100.1:1000")
	routerAddr = netip.MustParseAddrPort("192.0.2.9:443")
	client2    = netip.MustParseAddrPort("198.51.100.2:2000")
)

// routeByName sends the name "b.example" to backendB, refuses the name "unknown.example", and sends
// other names to backendA.
func routeByName(_ context.Context, req Request) (Backend, error) {
	switch {
	case req.Err != nil:
		return Backend{}, req.Err
	case req.Hello.Name == "b.example":
		return Backend{Addr: backendB, Tag: "b"}, nil
	case req.Hello.Name == "unknown.example":
		return Backend{Tag: "unknown"}, &Refusal{Alert: 112, Reason: "unknown host"}
	}
	return Backend{Addr: backendA}, nil
}

// start starts a Relay. The bubble of synctest.Test checks that Close ends every goroutine.
func start(t *testing.T, r *Relay) *bench {
	b := &bench{Relay: r, t: t, front: newFakeSocket(), served: make(chan error, 1)}
	if r.Route == nil {
		r.Route = routeByName
	}
	r.Finished = func(s Stats) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.finished = append(b.finished, s)
	}
	r.dial = func(addr netip.AddrPort) (socket, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.dialErr != nil {
			return nil, b.dialErr
		}
		s := newFakeSocket()
		if b.prepare != nil {
			b.prepare(s)
		}
		b.backends, b.dialed = append(b.backends, s), append(b.dialed, addr)
		return s, nil
	}
	t.Cleanup(r.Close)
	go func() { b.served <- r.serve(b.front, routerAddr) }()
	synctest.Wait()
	return b
}

// end closes the Relay, and checks that nothing is left.
func (b *bench) end() {
	b.t.Helper()
	b.Close()
	require.ErrorIs(b.t, <-b.served, ErrClosed)
	for _, s := range b.sockets() {
		require.True(b.t, s.isClosed())
	}
	all, _ := b.Paths()
	require.Zero(b.t, all)
	require.Empty(b.t, b.table.byClient)
	require.Empty(b.t, b.table.byInitial)
	require.Empty(b.t, b.table.byID)
	require.Zero(b.t, b.table.lengths)
}

// id returns an ID of 8 bytes.
func id(s string) []byte { return append([]byte(s), "--------"...)[:8] }

// hello returns the first datagrams of a client that asks for a name.
func hello(name, destID string) [][]byte { return helloOf(name, destID, 0) }

func helloOf(name, destID string, size int) (datagrams [][]byte) {
	msg := hellotest.Hello{Name: name, ALPN: []string{"h3"}, Versions: []uint16{0x0304}, Pad: size}.Message()
	for at := 0; at < len(msg); at += 1000 {
		part := msg[at:min(at+1000, len(msg))]
		frame := []byte{6, byte(at>>8) | 0x40, byte(at), byte(len(part)>>8) | 0x40, byte(len(part))}
		datagrams = append(datagrams, initial(id(destID), uint16(len(datagrams)), append(frame, part...)))
	}
	return datagrams
}

func expand(secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(append(info, "tls13 "+label...), 0)
	key, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return key
}

// initial returns an Initial packet of a client, version 1, in a datagram of 1,200 bytes (RFC 9001
// section 5 and appendix A.2).
func initial(destID []byte, number uint16, payload []byte) []byte {
	salt, _ := hex.DecodeString("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
	extracted, err := hkdf.Extract(sha256.New, destID, salt)
	if err != nil {
		panic(err)
	}
	secret := expand(extracted, "client in", 32)
	b := append([]byte{0xc1, 0, 0, 0, 1, byte(len(destID))}, destID...)
	b = append(b, 1, 'c', 0)
	rest := quic.MinDatagram - len(b) - 2
	b = append(b, byte(rest>>8)|0x40, byte(rest))
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, number)
	payload = append(payload, make([]byte, quic.MinDatagram-len(b)-16-len(payload))...)
	block, _ := aes.NewCipher(expand(secret, "quic key", 16))
	aead, _ := cipher.NewGCM(block)
	nonce := expand(secret, "quic iv", 12)
	nonce[10] ^= byte(number >> 8)
	nonce[11] ^= byte(number)
	b = aead.Seal(b, nonce, payload, b)
	mask := make([]byte, 16)
	protect, _ := aes.NewCipher(expand(secret, "quic hp", 16))
	protect.Encrypt(mask, b[at+4:at+20])
	b[0] ^= mask[0] & 0xf
	b[at] ^= mask[1]
	b[at+1] ^= mask[2]
	return b
}

// The function "long" returns a packet with a long header. Its payload is not encrypted, but the
// Relay cannot notice this. kind is the first byte: 0xc0 is Initial, 0xd0 is 0-RTT, 0xe0 is
// Handshake.
func long(kind byte, destID, srcID []byte, size int) []byte {
	b := append([]byte{kind, 0, 0, 0, 1, byte(len(destID))}, destID...)
	b = append(append(b, byte(len(srcID))), srcID...)
	if kind == 0xc0 {
		b = append(b, 0)
	}
	rest := size - len(b) - 2
	b = append(b, byte(rest>>8)|0x40, byte(rest))
	return append(b, make([]byte, rest)...)
}

// The function "short" returns a packet with a short header.
func short(destID []byte, size int) []byte {
	b := append([]byte{0x40}, destID...)
	return append(b, make([]byte, size-len(b))...)
}
