package httpapi_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// oneConn is a listener with one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	if nc, ok := <-l; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return &net.UnixAddr{} }

// TestBodyThatDoesNotCome: a client that announces a body and does not send it loses its
// connection. This is so even on a server without a ReadTimeout. A ReadTimeout would end the
// requests that wait for changes.
func TestBodyThatDoesNotCome(t *testing.T) {
	for _, request := range []string{"POST /v3/discovery:endpoints", "POST /v1/pods", "POST /", "GET /v1/pods"} {
		synctest.Test(t, func(t *testing.T) {
			api := &httpapi.Handler{}
			api.Publish(endpoints.Services{}, httpapi.Source{})
			client, server := net.Pipe()
			l := make(oneConn, 1)
			l <- server
			srv := &http.Server{Handler: api, ReadHeaderTimeout: time.Second}
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(l) }()
			_, err := io.WriteString(client, request+" HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
			require.NoError(t, err)
			require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err = io.Copy(io.Discard, client)
			require.NoError(t, err, "the server keeps the connection of %s", request)
			_ = client.Close()
			close(l)
			require.ErrorIs(t, <-ended, net.ErrClosed)
		})
	}
}
