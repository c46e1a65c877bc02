package relay

import (
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// acknowledged tells whether all that was written to a connection, and its end, has arrived
// in the kernel of the other side.
func acknowledged(t *testing.T, c syscall.Conn) bool {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	left := -1
	require.NoError(t, raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }))
	require.NoError(t, err)
	return left == 0
}

// answerEarly has a backend that answers in the middle of an upload, ends, and waits only
// until that has arrived, with a client that is slow to read and goes on sending. It checks
// that the client gets all of the answer. The channel is closed when the client cannot send.
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
	require.NoError(t, backend.Close()) // what it has not read makes this RST

	require.NoError(t, receive(t, checked))
	return sent
}

// A client that is connected to such a backend has its whole answer, and so must one with
// the Engine between them, which has yet to send it on when the backend is gone.
func TestTheTailOfAnEarlyAnswer(t *testing.T) {
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
		require.ErrorContains(t, r.Err, "writing to the backend")
		require.EqualValues(t, size, r.ToClient)
	}
	forEach(t, func(t *testing.T, e *Engine) { early(t, e, false) })
	t.Run("events without pipes", func(t *testing.T) {
		noLeak(t)
		early(t, newEngine(t, &Engine{Pipes: -1}), false)
	})
	// What a client sends on and on is forgotten, but not for ever.
	t.Run("to a client that stays", func(t *testing.T) {
		forEach(t, func(t *testing.T, e *Engine) { early(t, e, true) })
	})
}
