package sniproxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
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

// After an inner hello too, the upstream of a client that resets its connection gets a reset.
func TestECHClientReset(t *testing.T) {
	key := echKey(t, 7)
	for name, curves := range map[string][]tls.CurveID{"ServerHello": nil, "HelloRetryRequest": {tls.CurveP384}} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				conf := &tls.Config{
					Certificates: []tls.Certificate{ca().Issue(secret).TLS}, CurvePreferences: curves,
					SessionTicketsDisabled: true, // so that the router writes nothing to the client during the reset
				}
				ended := make(chan error, 1)
				b := newBackend(t, func(c net.Conn) {
					_, err := io.ReadAll(tls.Server(c, conf))
					ended <- err
				})
				r := newRouter(t, e, hosts{secret: b.addr}, withKeys(key))
				c := dial(t, r.serve(peek.TLS))
				client := tls.Client(c, &tls.Config{
					ServerName: secret, RootCAs: ca().Pool(), EncryptedClientHelloConfigList: echList(key),
					CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384},
				})
				require.NoError(t, client.Handshake())
				require.NoError(t, c.SetLinger(0))
				require.NoError(t, c.Close())
				require.ErrorIs(t, <-ended, unix.ECONNRESET)
				require.True(t, sniproxy.IsClientReset(r.next().Err))
			})
		})
	}
}
