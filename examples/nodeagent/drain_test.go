package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

// pipes is a listener with connections in memory, so that their deadlines use the clock of synctest.
// The client has a loopback address.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

type localConn struct{ net.Conn }

func (localConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return localConn{c}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// fakeDrainer is a drainer whose drain is done after a fixed time.
type fakeDrainer struct {
	after time.Duration
	calls int // calls of both methods
}

func (f *fakeDrainer) Drain(ctx context.Context) (nodeagent.DrainProgress, error) {
	f.calls++
	select {
	case <-time.After(f.after):
		return nodeagent.DrainProgress{Status: nodeagent.DrainStatus{Requested: true, Effective: true}}, nil
	case <-ctx.Done():
		return nodeagent.DrainProgress{}, ctx.Err()
	}
}

func (f *fakeDrainer) EndDrain() (time.Time, bool) {
	f.calls++
	return time.Time{}, false
}

// A drain may take longer than the write timeout of the other admin pages.
func TestDrainMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		handler := drainHandler(ctx, &fakeDrainer{after: 5 * time.Minute}, slog.New(slog.DiscardHandler))
		go func() { served <- cli.Admin{Extra: handler}.Serve(ctx, l) }()
		client, server := net.Pipe()
		defer client.Close()
		l.accepted <- server

		synctest.Wait()
		began := time.Now()
		_, err := fmt.Fprint(client, "POST /drain?wait=9m HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 5*time.Minute, time.Since(began))
		cancel()
		require.NoError(t, <-served)
	})
}
