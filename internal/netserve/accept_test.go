package netserve

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// When descriptors run out, a Loop with Shed accepts and closes one connection, and does not pause.
// If it has no descriptor for this, or after another error, it pauses.
func TestLoopSheds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		stop := make(chan struct{})
		var shed atomic.Int32
		loop := Loop{Listener: l, Stop: stop, Shed: func() { shed.Add(1) }}
		done := make(chan error, 1)
		served := make(chan net.Conn, 1)
		go func() { done <- loop.Run(func(c net.Conn) { served <- c }) }()

		begin := time.Now()
		l.results <- accept{err: &net.OpError{Op: "accept", Err: syscall.EMFILE}}
		requireClosedByPeer(t, l.connect())
		require.EqualValues(t, 1, shed.Load())
		l.results <- accept{err: syscall.ENFILE}
		l.results <- accept{err: os.ErrDeadlineExceeded} // the client has gone away meanwhile
		l.connect().Close()
		(<-served).Close()
		require.Zero(t, time.Since(begin), "shedding should replace the pause")

		l.results <- accept{err: syscall.EMFILE}
		l.results <- accept{err: syscall.EMFILE} // the spare descriptor did not help
		l.connect().Close()
		(<-served).Close()
		require.Equal(t, 5*time.Millisecond, time.Since(begin))
		require.EqualValues(t, 1, shed.Load())

		close(stop)
		l.Close()
		require.Equal(t, ErrClosed, <-done)
	})
}

// A Loop keeps the connection that it accepted with its Spare if MakeRoom makes room for it.
func TestLoopMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		stop := make(chan struct{})
		room := make(chan bool, 1)
		shed := make(chan struct{}, 1)
		loop := Loop{
			Listener: l, Stop: stop, Shed: func() { shed <- struct{}{} },
			MakeRoom: func(net.Conn) bool { return <-room },
		}
		done := make(chan error, 1)
		served := make(chan net.Conn, 1)
		go func() { done <- loop.Run(func(c net.Conn) { served <- c }) }()
		for _, made := range []bool{true, false, true} {
			l.results <- accept{err: syscall.EMFILE}
			room <- made
			c := l.connect()
			if made {
				(<-served).Close()
			} else {
				<-shed
			}
			requireClosedByPeer(t, c)
		}
		require.Empty(t, shed)
		close(stop)
		l.Close()
		require.Equal(t, ErrClosed, <-done)
	})
}

// If Failed has closed connections, a Loop tries once more before it pauses or uses the Spare.
func TestLoopTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		stop := make(chan struct{})
		loop := Loop{Listener: l, Stop: stop, Failed: func(error, time.Duration) bool { return true }}
		done := make(chan error, 1)
		served := make(chan net.Conn, 1)
		go func() { done <- loop.Run(func(c net.Conn) { served <- c }) }()
		begin := time.Now()
		for range 2 {
			l.results <- accept{err: syscall.EMFILE}
			l.connect().Close()
			(<-served).Close()
		}
		require.Zero(t, time.Since(begin))
		for range 2 {
			l.results <- accept{err: syscall.EMFILE}
		}
		l.connect().Close()
		(<-served).Close()
		require.Equal(t, 10*time.Millisecond, time.Since(begin), "the second failure should pause")
		close(stop)
		l.Close()
		require.Equal(t, ErrClosed, <-done)
	})
}

func TestSpare(t *testing.T) {
	var s Spare
	require.True(t, s.Fill())
	first := s.file
	require.True(t, s.Fill())
	require.Same(t, first, s.file, "a full Spare should keep its descriptor")
	s.Close()
	s.Close()
	require.ErrorIs(t, first.Close(), os.ErrClosed)
	require.True(t, s.Fill())
	s.Close()

	require.True(t, IsOutOfDescriptors(&net.OpError{Err: os.NewSyscallError("accept", syscall.ENFILE)}))
	require.False(t, IsOutOfDescriptors(errors.New("other")))
	require.False(t, IsOutOfDescriptors(syscall.ENOBUFS))
}
