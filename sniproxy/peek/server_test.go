package peek_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// testServer is a net/http server on connections without sockets.
type testServer struct{ conns chan net.Conn }

var errClosed = errors.New("closed")

func (s testServer) Accept() (net.Conn, error) {
	if c, ok := <-s.conns; ok {
		return c, nil
	}
	return nil, errClosed
}
func (s testServer) Close() error   { return nil }
func (s testServer) Addr() net.Addr { return &net.TCPAddr{} }

func newServer(t *testing.T, h http.Handler) testServer {
	s := testServer{make(chan net.Conn)}
	ended := make(chan error, 1)
	go func() { ended <- (&http.Server{Handler: h, DisableGeneralOptionsHandler: true}).Serve(s) }()
	t.Cleanup(func() {
		close(s.conns)
		require.ErrorIs(t, <-ended, errClosed)
	})
	return s
}

// ask sends bytes on a new connection and returns the status of the answer.
func (s testServer) ask(t *testing.T, request string) int {
	t.Helper()
	client, server := net.Pipe()
	s.conns <- server
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(client, request)
		written <- err
	}()
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.NoError(t, client.Close())
	<-written // the write may fail: the server need not read everything
	return response.StatusCode
}
