package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
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
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: theAuthority().Pool(), ServerName: "a.test"})
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
	tick := time.Tick(10 * time.Millisecond)
	last := time.Now()
	for began := last; time.Since(began) < time.Second; <-tick { // twice the longest timeout
		now := time.Now()
		if err := tryEcho(t, ws, "still there"); err != nil { // may happen only if the test itself was suspended for longer than the idle timeout
			require.GreaterOrEqual(t, time.Since(last), 500*time.Millisecond, err)
			break
		}
		last = now
	}
	var back string
	require.Error(t, websocket.Message.Receive(ws, &back), "nobody says anything any more")
	p.eventually(func() bool {
		_, body := p.ask("GET", "/?q=a.test")
		return bytes.Contains([]byte(body), []byte("<td>relayed<td>a.test<td"))
	})
}

func TestDrain(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls), "-drain-delay", "200ms", "-drain-timeout", "1h")
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	ws := webSocket(t, p.tls)
	echo(t, ws, "before")
	code, body := p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)

	// A preStop hook calls this. The address is the router's own flag, from its environment.
	token := clitest.TokenFile(t)
	drainCommand := func(args ...string) (int, string) {
		out := &clitest.Output{}
		code := run(t.Context(), cli.Invocation{
			Args: append([]string{"drain"}, args...), Stdout: out, Stderr: out,
			LookupEnv: func(name string) (string, bool) {
				value, ok := map[string]string{"HEADGATE_ADMIN": p.admin, "HEADGATE_ADMIN_TOKEN_FILE": token}[name]
				return value, ok
			},
		})
		return code, out.String()
	}
	drained, out := drainCommand("-pause", "1ms")
	require.Equal(t, cli.ExitOK, drained, out)
	require.Contains(t, out, "draining since ")
	require.Contains(t, p.stderr.String(), `msg="drain command"`)

	// The drain can be undone, and begun again.
	drained, out = drainCommand("-undo", "-pause", "1h")
	require.Equal(t, cli.ExitOK, drained, out)
	require.Contains(t, out, "has ended")
	require.Contains(t, p.stderr.String(), `msg="drain command ended"`)
	code, body = p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)
	p.metric("headgate_router_draining 0")
	_, out = drainCommand("-undo")
	require.Contains(t, out, "no drain was in force")
	drained, out = drainCommand()
	require.Equal(t, cli.ExitOK, drained, out)
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
	drained, out = drainCommand("-undo")
	require.Equal(t, cli.ExitFailed, drained, "the router stops")
	require.Contains(t, out, "its drain cannot end")
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

// The router never connects a client to its own admin listener, even if -allow contains the
// address.
func TestAdminIsNoEndpoint(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0])
	_, port, err := net.SplitHostPort(admin)
	require.NoError(t, err)
	hosts := hostsFile(t,
		"a.test", admin, "b.test", "[::ffff:127.0.0.1]:"+port, "c.test", "[64:ff9b::7f00:1]:"+port, "d.test", "[::127.0.0.1]:"+port,
		"e.test", "localhost:"+port, "f.test", "[2002:7f00:1::]:"+port)
	p := start(t, "-hosts", hosts, "-admin", admin, "-allow", "127.0.0.1/32", "-allow", "::/0", "-allow", "::1/128")
	// The file /etc/hosts of a new Debian machine has localhost twice: as 127.0.0.1 and as ::1.
	local, err := net.DefaultResolver.LookupHost(t.Context(), "localhost")
	require.NoError(t, err)
	for _, host := range []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/drain", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+clitest.Token)
		resp, err := client(t, p.http, nil).Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		want := http.StatusLoopDetected
		if host == "e.test" && slices.Contains(local, "::1") {
			want = http.StatusBadGateway // the router tries ::1 too, and nothing listens there
		}
		require.Equal(t, want, resp.StatusCode, host)
	}
	code, body := p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)
	// A web page cannot read the admin page by DNS rebinding, that is, by changing the address of
	// its own host name to this machine.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/", nil)
	require.NoError(t, err)
	req.Host = "attacker.example"
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}
