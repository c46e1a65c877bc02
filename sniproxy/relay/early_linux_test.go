package relay

import (
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// acknowledged reports whether the kernel of the other side has received all bytes that were
// written to c, and its end.
func acknowledged(t *testing.T, c syscall.Conn) bool {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	left := -1
	require.NoError(t, raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }))
	require.NoError(t, err)
	return left == 0
}

// answerEarly tests a backend that answers in the middle of an upload and closes when the answer
// has arrived. The client reads slowly and continues to send. answerEarly checks that the client
// gets the whole answer. It returns a channel that is closed when the client can send no more.
func answerEarly(t *testing.T, client, backend *net.TCPConn, size int64) <-chan struct{} {
	t.Helper()
	require.NoError(t, client.SetReadBuffer(64<<10))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for err := error(nil); err == nil; {
			_, err = client.Write(make([]byte, 10_000))
		}
	}()
	checked := make(chan error, 1)
	go func() { checked <- check(client, size, 5, true) }()

	_, err := backend.Read(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, send(backend, size, 5, rand.New(rand.NewPCG(1, 2))))
	require.NoError(t, backend.CloseWrite())
	poll(t, "the answer does not arrive", func() bool { return acknowledged(t, backend) })
	require.NoError(t, backend.Close()) // the unread bytes make this a RST

	require.NoError(t, receive(t, checked))
	return sent
}

// A backend answers in the middle of an upload and closes. A client that is connected directly to
// this backend gets the whole answer. A client behind an Engine must get it too, although the
// Engine still holds a part of the answer when the backend is gone.
func TestEarlyAnswerArrivesWhole(t *testing.T) {
	const size, buffer = 4 << 20, 2 << 20
	t.Run("without an engine", func(t *testing.T) {
		client, backend := tcpPair(t)
		sent := answerEarly(t, client, backend, size)
		client.Close()
		<-sent
	})
	early := func(t *testing.T, e *Engine, stays bool) {
		client, a := tcpPair(t)
		b, backend := tcpPair(t)
		require.NoError(t, a.SetWriteBuffer(buffer))
		require.NoError(t, b.SetReadBuffer(buffer))
		done := make(chan Result, 1)
		e.Relay(a, b, nil, func(r Result) { done <- r })
		sent := answerEarly(t, client, backend, size)
		if !stays {
			client.Close()
		}
		r := receive(t, done)
		client.Close()
		<-sent
		require.Equal(t, ByBackend, r.By)
		require.Equal(t, PhaseRelay, r.Phase)
		require.ErrorContains(t, r.Err, "the backend")
		require.EqualValues(t, size, r.ToClient)
	}
	forEach(t, func(t *testing.T, e *Engine) { early(t, e, false) })
	t.Run("epoll without pipes", func(t *testing.T) {
		noLeak(t)
		early(t, newEngine(t, &Engine{Pipes: -1}), false)
	})
	// If the client continues to send, the Engine does not read and drop its bytes for ever.
	t.Run("to a client that stays", func(t *testing.T) {
		forEach(t, func(t *testing.T, e *Engine) { early(t, e, true) })
	})
}
