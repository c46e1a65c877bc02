package load

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var hosts = []string{"site-0.example", "site-1.example", "site-2.example"}

// start returns a loop whose clients reach backend 0 without a router.
func start(t *testing.T, backends int) (*Loop, Target) {
	l, err := New(backends, hosts[0])
	require.NoError(t, err)
	t.Cleanup(l.Close)
	l.Stall = 20 * time.Second
	return l, Target{Addr: l.Backends()[0], Hosts: hosts}
}

// serve returns the address of a listener that calls the function with for each connection.
func serve(t *testing.T, with func(net.Conn)) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			with(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestPhases(t *testing.T) {
	l, target := start(t, 1)
	ctx := t.Context()
	n, err := l.Answers(ctx, target, 4, 100, time.Minute)
	require.NoError(t, err)
	require.Equal(t, 100, n)

	require.NoError(t, l.Open(ctx, target, 50))
	require.NoError(t, l.Open(ctx, target, 70))
	require.Equal(t, 70, l.Held())
	times, err := l.Pings(ctx, 8, time.Millisecond)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(times), 8)
	for _, d := range times {
		require.Positive(t, d)
	}
	n, err = l.Answers(ctx, target, 100, 1000, 0)
	require.NoError(t, err)
	require.Equal(t, 100, n, "those that were started are finished")
	require.NoError(t, l.Bulk(ctx, target, 4, 8<<20))
	require.NoError(t, l.Idle(ctx, time.Millisecond))
	require.Equal(t, 70, l.Held())
	l.Release()
	require.Zero(t, l.Held())
	require.NoError(t, l.Idle(ctx, time.Millisecond))
}

func TestFailures(t *testing.T) {
	t.Run("wrong backend", func(t *testing.T) {
		l, target := start(t, 2)
		_, err := l.Answers(t.Context(), target, 1, 2, time.Minute)
		require.ErrorContains(t, err, `reached backend '0' instead of '1'`)
		require.ErrorContains(t, l.Open(t.Context(), target, 3), `reached backend '0' instead of '1'`)
	})
	t.Run("the router closes at once", func(t *testing.T) {
		l, target := start(t, 1)
		target.Addr = serve(t, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() })
		_, err := l.Answers(t.Context(), target, 1, 1, time.Minute)
		require.Error(t, err)
		require.ErrorContains(t, l.Open(t.Context(), target, 1), "0 of 1 connections open")
		_, err = l.Answers(t.Context(), Target{Addr: l.Backends()[0], Hosts: hosts}, 1, 1, time.Minute)
		require.NoError(t, err, "the loop goes on")
	})
	t.Run("router closes held connections", func(t *testing.T) {
		l, target := start(t, 1)
		require.NoError(t, l.Open(t.Context(), target, 3))
		for fd, f := range l.files {
			if _, ok := f.(*served); ok {
				l.close(fd)
			}
		}
		require.ErrorContains(t, l.Idle(t.Context(), time.Minute), "must stay")
	})
	t.Run("the router is silent", func(t *testing.T) {
		l, target := start(t, 1)
		l.Stall = 200 * time.Millisecond
		target.Addr = serve(t, func(c net.Conn) { t.Cleanup(func() { c.Close() }) })
		_, err := l.Answers(t.Context(), target, 1, 1, time.Minute)
		require.ErrorIs(t, err, ErrStalled)
	})
	t.Run("nobody listens", func(t *testing.T) {
		l, target := start(t, 1)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		target.Addr = ln.Addr().(*net.TCPAddr).AddrPort()
		ln.Close()
		_, err = l.Answers(t.Context(), target, 1, 1, time.Minute)
		require.ErrorContains(t, err, "connection refused")
	})
	t.Run("cut short", func(t *testing.T) {
		l, target := start(t, 1)
		target.Addr = serve(t, func(c net.Conn) {
			b := make([]byte, 4096)
			c.Read(b)
			c.Write(append([]byte("0"), b[:99]...))
			c.Close()
		})
		_, err := l.Answers(t.Context(), target, 1, 1, time.Minute)
		require.ErrorContains(t, err, "after 100 of 1024 bytes")
		require.ErrorContains(t, l.Bulk(t.Context(), target, 1, 4096), "after 100 of 4096 bytes")
		require.ErrorContains(t, l.Open(t.Context(), target, 1), "began with 100 bytes")
	})
	t.Run("the context ends", func(t *testing.T) {
		l, _ := start(t, 1)
		over := errors.New("over")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(over)
		require.ErrorIs(t, l.Idle(ctx, time.Minute), over)
	})
}

// TestBackend sends a hello in pieces. The backend must receive the original.
func TestBackend(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func([]byte) []byte
		err   string
	}{
		"in two pieces":  {spoil: func(b []byte) []byte { return b }},
		"other random":   {spoil: func(b []byte) []byte { b[randomAt]++; return b }, err: "another hello"},
		"bytes after it": {spoil: func(b []byte) []byte { return append(b, 0) }, err: "instead of a hello of"},
	} {
		t.Run(name, func(t *testing.T) {
			l, target := start(t, 1)
			conn, err := net.Dial("tcp", target.Addr.String())
			require.NoError(t, err)
			defer conn.Close()
			wire := test.spoil(append([]byte(nil), l.hello.For(hosts[0], wantAnswer, 0)...))
			_, err = conn.Write(wire[:3])
			require.NoError(t, err)
			require.NoError(t, l.run(t.Context(), func() bool { return l.progress >= 2 }))
			_, err = conn.Write(wire[3:])
			require.NoError(t, err)
			got := make(chan int, 1)
			if test.err != "" {
				require.ErrorContains(t, l.Idle(t.Context(), time.Minute), test.err)
				return
			}
			go func() {
				n := 0
				for b := make([]byte, 4096); ; {
					m, err := conn.Read(b)
					if n += m; err != nil {
						got <- n
						return
					}
				}
			}()
			require.NoError(t, l.run(t.Context(), func() bool { return len(got) > 0 }))
			require.Equal(t, AnswerSize, <-got)
		})
	}
}
