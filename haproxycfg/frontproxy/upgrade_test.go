package frontproxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

// TestUpgrade: the proxy closes connections, but the answer that begins a WebSocket keeps
// "Connection: Upgrade". Without it, a client refuses the WebSocket.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				return
			}
			nc, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer nc.Close()
			_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello")
			_ = buf.Flush()
		})
		f := h.start(t, frontproxy.Proxy{Draining: true, Settings: frontproxy.Settings{CloseOneIn: 1}}, own.pods, 1)
		resp, _ := f.get(t, "/")
		require.True(t, resp.Close)

		nc, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		defer nc.Close()
		require.NoError(t, nc.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		require.NoError(t, err)
		resp, err = http.ReadResponse(bufio.NewReader(nc), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		require.Equal(t, []string{"Upgrade"}, resp.Header["Connection"])
		_ = resp.Body.Close()
	})
}
