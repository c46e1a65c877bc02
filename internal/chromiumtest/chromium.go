// Package chromiumtest runs a real Chromium for the duration of a test:
//
//	b := chromiumtest.Start(t, "--disable-quic")
//	b.Navigate(t, "https://a.test:8443/")
//	text := b.Text(t) // until the page is complete
//
// If no Chromium is installed, the test fails.
package chromiumtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/headgate/headgate/internal/inputfile"
)

// patience bounds how long a test waits for Chromium.
const patience = time.Minute

// Browser is a Chromium without a window and with one tab. The tests control it through the
// DevTools protocol, because the command-line options of Chromium that print or draw a page do not
// work for error pages.
type Browser struct {
	ws     *websocket.Conn
	id     int
	events map[string][]json.RawMessage // by method
}

// path returns the path of Chromium.
func path(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.FailNow(t, "chromium is needed: apt-get install chromium")
	return ""
}

// Start starts Chromium with further command-line flags. The end of the test stops Chromium. The
// browser resolves every name to 127.0.0.1, and asks no DNS server.
func Start(t testing.TB, flags ...string) *Browser {
	t.Helper()
	return start(t, t.TempDir(), append(flags, "--host-resolver-rules=MAP * 127.0.0.1"))
}

// StartWithDNS starts Chromium with further command-line flags. The end of the test stops Chromium.
// The browser asks a server of DNS over HTTPS for A, AAAA and HTTPS records. The argument "server" is
// the URL to which the browser posts each query (RFC 8484). The host of this URL must be an address.
//
// By default, Chromium waits only a few milliseconds longer for an HTTPS record than for an address.
// This browser waits until the server has answered. If the answer to a query for an HTTPS record is an
// error, the page does not load.
func StartWithDNS(t testing.TB, server string, flags ...string) *Browser {
	t.Helper()
	profile := t.TempDir()
	state, err := json.Marshal(map[string]any{"dns_over_https": map[string]string{"mode": "secure", "templates": server}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(profile, "Local State"), state, 0o600))
	return start(t, profile, append(flags, "--enable-features=UseDnsHttpsSvcb:UseDnsHttpsSvcbEnforceSecureResponse/true"))
}

func start(t testing.TB, profile string, flags []string) *Browser {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path(t), append(flags,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
		"--user-data-dir="+profile, "--proxy-server=direct://", "--window-size=800,500",
		"--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank")...)
	ended := make(chan error, 1)
	require.NoError(t, cmd.Start())
	go func() { ended <- cmd.Wait() }()
	b := &Browser{events: map[string][]json.RawMessage{}}
	t.Cleanup(func() {
		defer cancel()
		if b.ws == nil {
			cancel()
		} else { // so that its processes end before their directory is removed
			_ = websocket.JSON.Send(b.ws, map[string]any{"id": b.id + 1, "method": "Browser.close"})
			defer b.ws.Close()
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Chromium does not end")
		}
	})
	var target struct{ WebSocketDebuggerURL string }
	deadline := time.Now().Add(patience)
	for target.WebSocketDebuggerURL == "" {
		require.Less(t, time.Now(), deadline, "Chromium does not start")
		<-time.After(10 * time.Millisecond)
		file, err := inputfile.Read(filepath.Join(profile, "DevToolsActivePort"), 1<<10)
		devtools, _, whole := strings.Cut(string(file), "\n")
		if err != nil || !whole {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://127.0.0.1:"+devtools+"/json/new?about:blank", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		err = json.NewDecoder(resp.Body).Decode(&target)
		resp.Body.Close()
		require.NoError(t, err)
	}
	var err error
	b.ws, err = websocket.Dial(target.WebSocketDebuggerURL, "", "http://127.0.0.1/")
	require.NoError(t, err)
	b.ws.MaxPayloadBytes = 32 << 20
	return b
}

// Call calls a method of the DevTools protocol, and decodes its result. result may be nil.
func (b *Browser) Call(t testing.TB, method string, params, result any) {
	t.Helper()
	b.id++
	require.NoError(t, b.ws.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, websocket.JSON.Send(b.ws, map[string]any{"id": b.id, "method": method, "params": params}))
	for {
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
			Method string // of an event
			Params json.RawMessage
		}
		require.NoError(t, websocket.JSON.Receive(b.ws, &answer))
		if answer.ID != b.id { // an event
			b.events[answer.Method] = append(b.events[answer.Method], answer.Params)
			continue
		}
		require.Empty(t, string(answer.Error), method)
		if result != nil {
			require.NoError(t, json.Unmarshal(answer.Result, result))
		}
		return
	}
}

// Events returns the parameters of all events of a method, such as "Network.responseReceived", that
// the browser sent before its answer to the last Call. Browsers send most events only after a Call of
// the method "enable" of their domain, such as "Network.enable".
func (b *Browser) Events(method string) []json.RawMessage { return b.events[method] }

// Navigate begins to load a page.
func (b *Browser) Navigate(t testing.TB, url string) {
	t.Helper()
	b.Call(t, "Page.navigate", map[string]any{"url": url}, nil)
}

// Text returns the visible text of the page. An error page shows a part of its text only after a
// click on "Details", and Text does not click.
func (b *Browser) Text(t testing.TB) string {
	t.Helper()
	var answer struct{ Result struct{ Value string } }
	b.Call(t, "Runtime.evaluate", map[string]any{"expression": "document.body ? document.body.innerText : ''"}, &answer)
	return answer.Result.Value
}

// Screenshot returns a picture of the page in the format PNG.
func (b *Browser) Screenshot(t testing.TB) []byte {
	t.Helper()
	var answer struct{ Data string }
	b.Call(t, "Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	picture, err := base64.StdEncoding.DecodeString(answer.Data)
	require.NoError(t, err)
	return picture
}
