package sniproxy_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/internal/hellotest"
)

// unsent returns how many bytes in the send queue of c the other side has not acknowledged.
func unsent(t *testing.T, c net.Conn) (n int) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
	if err != nil {
		t.Error(err)
	}
	return n
}

// A slow client gets the whole answer of an upstream that resets the connection after the answer.
func TestAnswerBeforeAReset(t *testing.T) {
	answer := strings.Repeat("x", 200_000)
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	eachEngine(t, func(t *testing.T, e engine) {
		back := newBackend(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, len(hello)-1)) // a close with an unread byte is a reset
			io.WriteString(c, answer)
			// Wait until the router has received all bytes, because the reset destroys all others.
			end, pace := time.Now().Add(patience), time.Tick(time.Millisecond)
			for unsent(t, c) > 0 && time.Now().Before(end) {
				<-pace
			}
			c.Close()
		})
		r := newRouter(t, e, hosts{"a.example": back.addr})
		c := dial(t, r.serve(0))
		require.NoError(t, c.SetReadBuffer(16<<10))
		_, err := c.Write(hello)
		require.NoError(t, err)
		got, err := io.ReadAll(iotest.OneByteReader(c))
		require.NoError(t, err)
		require.Equal(t, len(answer), len(got))
		require.NoError(t, c.Close())
		st := r.next()
		require.EqualValues(t, len(answer), st.ToClient)
		require.ErrorContains(t, st.Err, "reset by peer")
	})
}
