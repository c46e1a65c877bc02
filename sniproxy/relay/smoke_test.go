package relay

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	bl, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer bl.Close()
	go func() {
		for {
			c, err := bl.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	results := make(chan Result, 1)
	e := &Engine{}
	served := make(chan error, 1)
	go func() {
		served <- e.Serve(l, func(c Conn) Session {
			return &fixed{addr: bl.Addr().(*net.TCPAddr).AddrPort(), done: results}
		})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))
	c.Close()
	r := <-results
	require.NoError(t, r.Err)
	require.Equal(t, ByClient, r.By)
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-served, ErrClosed)
}
