package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pipes is a listener whose connections are in memory, so that its deadlines follow the
// clock of a test.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A request that never becomes whole is given up: whoever reaches the address could hold
// any number of connections otherwise.
func TestAdminGivesUpHalfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Admin{Extra: http.NotFoundHandler()}.Serve(ctx, l) }()
		client, server := net.Pipe()
		defer client.Close()
		l.accepted <- server
		began := time.Now()
		require.NoError(t, client.SetDeadline(began.Add(time.Hour)))
		_, err := fmt.Fprint(client, "POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, bufio.NewReader(client))
		require.NoError(t, err, "the connection stays open")
		require.Less(t, time.Since(began), 2*time.Minute)
		cancel()
		require.NoError(t, <-served)
	})
}
