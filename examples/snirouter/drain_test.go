package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// webSocket opens a WebSocket to a.test through the router.
func webSocket(t *testing.T, addr string) *websocket.Conn {
	t.Helper()
	ws, err := tryWebSocket(t, addr)
	require.NoError(t, err)
	return ws
}

func tryWebSocket(t *testing.T, addr string) (*websocket.Conn, error) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: theAuthority().pool, ServerName: "a.test"})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	conf, err := websocket.NewConfig("wss://a.test/echo", "https://a.test/")
	require.NoError(t, err)
	return websocket.NewClient(conf, conn)
}

func echo(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	require.NoError(t, tryEcho(t, ws, text))
}

func tryEcho(t *testing.T, ws *websocket.Conn, text string) error {
	t.Helper()
	if err := websocket.Message.Send(ws, text); err != nil {
		return err
	}
	var back string
	if err := websocket.Message.Receive(ws, &back); err != nil {
		return err
	}
	require.Equal(t, text, back)
	return nil
}

// Only the idle timeout ends a WebSocket.
func TestWebSocketOutlivesTimeouts(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls),
		"-hello-timeout", "100ms", "-lookup-timeout", "100ms", "-dial-timeout", "100ms", "-idle-timeout", "500ms")
	var ws *websocket.Conn
	p.eventually(func() (ok bool) { // on a busy machine the first tries may exceed the timeouts
		var err error
		ws, err = tryWebSocket(t, p.tls)
		return err == nil
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for began := last; time.Since(began) < time.Second; <-tick.C { // twice the longest timeout
		now := time.Now()
		if err := tryEcho(t, ws, "still there"); err != nil { // only right if this test was suspended for longer than the idle timeout
			require.GreaterOrEqual(t, time.Since(last), 500*time.Millisecond, err)
			break
		}
		last = now
	}
	var back string
	require.Error(t, websocket.Message.Receive(ws, &back), "nobody says anything any more")
	p.eventually(func() bool {
		_, body := p.ask("GET", "/?q=a.test")
		return bytes.Contains([]byte(body), []byte("<td>relayed<td>relay<td"))
	})
}

func TestDrain(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls), "-drain-delay", "200ms", "-drain-timeout", "1h")
	conf := &tls.Config{RootCAs: theAuthority().pool}
	ws := webSocket(t, p.tls)
	echo(t, ws, "before")
	code, body := p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)

	// The command of a preStop hook. It reads the router's flag -admin from the environment.
	stdout := &clitest.Output{}
	drainCode := run(t.Context(), cli.Invocation{
		Args: []string{"drain", "-wait", "1ms"}, Stdout: stdout, Stderr: stdout,
		LookupEnv: func(name string) (string, bool) { return p.admin, name == "HEADGATE_ADMIN" },
	})
	require.Equal(t, cli.ExitOK, drainCode, stdout)
	require.Contains(t, stdout.String(), "draining since ")
	code, body = p.ask("GET", "/readyz")
	require.Equal(t, 503, code)
	require.Equal(t, "draining\n", body)
	p.metric("headgate_router_draining 1")
	_, body = p.ask("GET", "/")
	require.Contains(t, body, "draining since")
	// During the drain delay the router serves clients that have not noticed the drain.
	code, body = get(client(t, p.tls, conf), "https://a.test/")
	require.Equal(t, 200, code, body)

	p.cancel()
	p.eventually(func() bool {
		c, err := net.Dial("tcp", p.tls)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	echo(t, ws, "during")
	code, _ = p.ask("GET", "/healthz")
	require.Equal(t, 200, code)
	code, _ = p.ask("GET", "/readyz")
	require.Equal(t, 503, code)
	require.NoError(t, ws.Close())
	require.Equal(t, cli.ExitOK, p.wait(), "it ends with its last connection")
	require.NotContains(t, p.stderr.String(), "had not ended in time")
	require.Contains(t, p.stderr.String(), "name=a.test", "the last line is written")
}

func TestDrainHasAnEnd(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls), "-drain-timeout", "300ms", "-drain-spread", "100ms")
	var sockets []*websocket.Conn
	for range 5 {
		sockets = append(sockets, webSocket(t, p.tls))
		echo(t, sockets[len(sockets)-1], "hello")
	}
	p.cancel()
	for _, ws := range sockets {
		_, err := io.ReadAll(ws)
		_ = err // EOF or a reset, not the deadline
		require.NotErrorIs(t, err, net.ErrClosed)
		require.False(t, isTimeout(err), err)
	}
	require.Equal(t, cli.ExitOK, p.wait())
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
