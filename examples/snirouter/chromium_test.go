package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"
)

// The test compares the pages that a browser shows. -artifacts keeps the screenshots.
func TestChromium(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	page := filepath.Join(t.TempDir(), "404.html")
	require.NoError(t, os.WriteFile(page, []byte(`<!doctype html><title>App not found</title><h1>App not found</h1><p>There is no app at <b>{{.Host}}</b>.`), 0o600))
	secure := start(t, "-hosts", hostsFile(t, "a.test", a.tls))
	plain := start(t, "-hosts", hostsFile(t, "a.test", a.http, "down.test", "127.0.0.1:1"), "-not-found-page", page)
	standard := start(t, "-hosts", hostsFile(t, "a.test", a.http))
	closing := start(t, "-hosts", hostsFile(t, "a.test", a.tls), "-unknown-tls", "close")
	b := startBrowser(t, "--ignore-certificate-errors-spki-list="+a.spki())

	tests := []struct{ name, url, want string }{
		{"tls-known", "https://a.test:" + port(secure.tls), "site a says HTTP/2.0"},
		{"tls-unknown", "https://nobody.test:" + port(secure.tls), "ERR_SSL_UNRECOGNIZED_NAME_ALERT"},
		{"tls-unknown-closed", "https://nobody.test:" + port(closing.tls), "ERR_CONNECTION_CLOSED"},
		{"http-known", "http://a.test:" + port(plain.http), "site a says HTTP/1.1"},
		{"http-unknown", "http://nobody.test:" + port(plain.http), "There is no app at nobody.test."},
		{"http-unknown-standard-page", "http://nobody.test:" + port(standard.http), "404 Not Found"},
		{"http-down", "http://down.test:" + port(plain.http), "The application cannot be reached."},
		{"status-page", "http://localhost:" + port(plain.admin), "Last faults"},
		{"status-page-by-a-foreign-name", "http://status.test:" + port(plain.admin), "the header Host must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.call(t, "Page.navigate", map[string]any{"url": tt.url + "/"}, nil)
			text := ""
			plain.eventually(func() bool {
				text = b.text(t)
				return strings.Contains(text, tt.want)
			}, tt.want, &text)
			picture := b.screenshot(t)
			require.NoError(t, os.WriteFile(filepath.Join(b.shots, tt.name+".png"), picture, 0o600))
			config, err := png.DecodeConfig(bytes.NewReader(picture))
			require.NoError(t, err)
			require.Positive(t, config.Width)
		})
	}
}

// The status page is readable on a phone: the page is only as wide as the window, the user can
// scroll the tables, and the browser breaks no value into several lines.
func TestStatusPageOnAPhone(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	host := strings.Repeat("a-long-name-of-a-customer.", 4) + "example.com"
	p := start(t, "-hosts", hostsFile(t, host, a.http, "down.test", "127.0.0.1:1"))
	for _, name := range []string{host, "down.test"} {
		_, _ = get(client(t, p.http, nil), "http://"+name+"/")
	}
	p.eventually(func() bool {
		_, body := p.ask("GET", "/")
		return strings.Contains(body, "dial_failed")
	})
	b := startBrowser(t)
	b.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true}, nil)
	b.call(t, "Page.navigate", map[string]any{"url": "http://" + p.admin + "/"}, nil)
	p.eventually(func() bool { return strings.Contains(b.text(t), "Last faults") })
	require.NoError(t, os.WriteFile(filepath.Join(b.shots, "phone.png"), b.screenshot(t), 0o600))
	var answer struct {
		Result struct {
			Value struct{ Window, Page, Broken float64 }
		}
	}
	b.call(t, "Runtime.evaluate", map[string]any{"returnByValue": true, "expression": `({
		Window: innerWidth, Page: document.documentElement.scrollWidth,
		Broken: [...document.querySelectorAll("th,td:not(.no)")].filter(e => {
			const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().height > 30 }).length})`}, &answer)
	require.EqualValues(t, 390, answer.Result.Value.Window)
	require.LessOrEqual(t, answer.Result.Value.Page, 390.0)
	require.Zero(t, answer.Result.Value.Broken, "cells with several lines")
}

func port(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}

// browser is a Chromium without a window and with one tab. It resolves every name to this machine.
// The tests control it through the DevTools protocol, because its command line neither prints nor
// draws error pages.
type browser struct {
	ws    *websocket.Conn
	id    int
	shots string // directory of the screenshots
}

func startBrowser(t *testing.T, flags ...string) *browser {
	t.Helper()
	chromium := tool(t, "chromium", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	profile := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, chromium, append(flags,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--no-default-browser-check",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
		"--user-data-dir="+profile, "--proxy-server=direct://", "--host-resolver-rules=MAP * 127.0.0.1", "--window-size=800,500",
		"--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank")...)
	ended := make(chan error, 1)
	require.NoError(t, cmd.Start())
	go func() { ended <- cmd.Wait() }()
	b := &browser{shots: t.ArtifactDir()}
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
		file, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
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

// call calls a method of the DevTools protocol. result may be nil.
func (b *browser) call(t *testing.T, method string, params, result any) {
	t.Helper()
	b.id++
	require.NoError(t, b.ws.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, websocket.JSON.Send(b.ws, map[string]any{"id": b.id, "method": method, "params": params}))
	for {
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		require.NoError(t, websocket.JSON.Receive(b.ws, &answer))
		if answer.ID != b.id {
			continue // an event
		}
		require.Empty(t, string(answer.Error), method)
		if result != nil {
			require.NoError(t, json.Unmarshal(answer.Result, result))
		}
		return
	}
}

// text returns the text of the page. A part of an error page is visible only after a click on its
// details.
func (b *browser) text(t *testing.T) string {
	t.Helper()
	var answer struct{ Result struct{ Value string } }
	b.call(t, "Runtime.evaluate", map[string]any{"expression": "document.body ? document.body.innerText : ''"}, &answer)
	return answer.Result.Value
}

func (b *browser) screenshot(t *testing.T) []byte {
	t.Helper()
	var answer struct{ Data string }
	b.call(t, "Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	picture, err := base64.StdEncoding.DecodeString(answer.Data)
	require.NoError(t, err)
	return picture
}
