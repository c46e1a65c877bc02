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

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

// pipes is a listener whose connections are in memory, so that its deadlines follow the
// clock of a test, and come from this machine.
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

// A drain may take longer than anything else that is asked of the admin listener.
func TestDrainWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &drainer{ask: func(...nodeagent.Ask) {}, log: slog.New(slog.DiscardHandler)}
		d.drain = nodeagent.Drain{Wanted: true, Effective: true}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- cli.Admin{Extra: d.handler()}.Serve(ctx, l) }()
		client, server := net.Pipe()
		defer client.Close()
		l.accepted <- server

		asks := time.NewTicker(10 * time.Second) // of a balancer that is told in the end
		defer asks.Stop()
		go func() {
			for range 30 {
				reply := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
				d.finished("", agentcheck.Exchange{Request: agentcheck.Request{RemoteAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9)}}, Reply: reply})
				<-asks.C
			}
			d.finished("", agentcheck.Exchange{
				Request: agentcheck.Request{RemoteAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9)}},
				Reply:   agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain},
			})
		}()
		synctest.Wait()
		began := time.Now()
		_, err := fmt.Fprint(client, "POST /drain?wait=9m HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		require.InDelta(t, 300, time.Since(began).Seconds(), 1)
		cancel()
		require.NoError(t, <-served)
	})
}
