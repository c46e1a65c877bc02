package agentcheck_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

// flakyListener is a listener whose first accepts fail.
type flakyListener struct {
	net.Listener
	failures atomic.Int32
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestServerOutlivesAcceptErrors(t *testing.T) {
	var log lockedBuffer
	l := &flakyListener{Listener: listen(t)}
	l.failures.Store(3)
	addr := startOn(t, &agentcheck.Server{Handler: reply{State: up}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, l)
	answer, err := raw(t, addr, "")
	require.NoError(t, err)
	require.Equal(t, "up\n", answer)
	require.Equal(t, 3, strings.Count(log.String(), "accept failed"))
}

func TestServerStops(t *testing.T) {
	entered, release := make(chan context.Context), make(chan struct{})
	s := &agentcheck.Server{Timeout: time.Hour, Handler: agentcheck.HandlerFunc(func(ctx context.Context, _ *agentcheck.Request) agentcheck.Reply {
		entered <- ctx
		<-release
		return reply{State: up}
	})}
	served := make(chan error)
	listeners := []net.Listener{listen(t), listen(t)}
	for _, l := range listeners {
		go func() { served <- s.Serve(l) }()
	}
	answers := make(chan string)
	for _, l := range listeners {
		go func() {
			answer, err := raw(t, l.Addr().String(), "")
			answers <- answer
			_ = err
		}()
		ctx := <-entered
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.WithinRange(t, deadline, time.Now(), time.Now().Add(s.Timeout))
	}

	// Shutdown ends Serve and waits for the exchanges.
	ctx, cancel := context.WithCancel(t.Context())
	shut := make(chan error)
	go func() { shut <- s.Shutdown(ctx) }()
	require.Equal(t, agentcheck.ErrServerClosed, <-served)
	require.Equal(t, agentcheck.ErrServerClosed, <-served)
	cancel()
	require.ErrorIs(t, <-shut, context.Canceled)
	go func() { shut <- s.Shutdown(context.Background()) }()
	close(release)
	require.Equal(t, "up\n", <-answers)
	require.Equal(t, "up\n", <-answers)
	require.NoError(t, <-shut)

	l := listen(t)
	require.Equal(t, agentcheck.ErrServerClosed, s.Serve(l))
	_, err := net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
	require.NoError(t, s.Close())
}

func TestServerCloseIsNow(t *testing.T) {
	entered := make(chan struct{})
	s := &agentcheck.Server{Timeout: time.Hour, Handler: agentcheck.HandlerFunc(func(ctx context.Context, _ *agentcheck.Request) agentcheck.Reply {
		close(entered)
		<-ctx.Done()
		return reply{State: up}
	})}
	l := listen(t)
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	<-entered
	require.NoError(t, s.Close())
	require.Equal(t, agentcheck.ErrServerClosed, <-served)
	answer, _ := io.ReadAll(c)
	require.Empty(t, answer)
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestServeReturnsWhenItsListenerIsClosed(t *testing.T) {
	s := &agentcheck.Server{Handler: reply{}}
	l := listen(t)
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	answer, err := raw(t, l.Addr().String(), "")
	require.NoError(t, err)
	require.Equal(t, "\n", answer)
	require.NoError(t, l.Close())
	err = <-served
	require.ErrorIs(t, err, net.ErrClosed)
	require.False(t, errors.Is(err, agentcheck.ErrServerClosed))
	require.NoError(t, s.Close())
}
