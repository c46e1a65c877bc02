package main

import (
	"bytes"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/chromiumtest"
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
	b := chromiumtest.Start(t, "--disable-quic", "--ignore-certificate-errors-spki-list="+spki())

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
			b.Navigate(t, tt.url+"/")
			text := ""
			plain.eventually(func() bool {
				text = b.Text(t)
				return strings.Contains(text, tt.want)
			}, tt.want, &text)
			picture := b.Screenshot(t)
			require.NoError(t, os.WriteFile(filepath.Join(t.ArtifactDir(), tt.name+".png"), picture, 0o600))
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
	b := chromiumtest.Start(t, "--disable-quic")
	b.Call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true}, nil)
	b.Navigate(t, "http://"+p.admin+"/")
	p.eventually(func() bool { return strings.Contains(b.Text(t), "Last faults") })
	require.NoError(t, os.WriteFile(filepath.Join(t.ArtifactDir(), "phone.png"), b.Screenshot(t), 0o600))
	var answer struct {
		Result struct {
			Value struct{ Window, Page, Broken float64 }
		}
	}
	b.Call(t, "Runtime.evaluate", map[string]any{"returnByValue": true, "expression": `({
		Window: innerWidth, Page: document.documentElement.scrollWidth,
		Broken: [...document.querySelectorAll("th,td:not(.no)")].filter(e => {
			const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().height > 30 }).length})`}, &answer)
	require.EqualValues(t, 390, answer.Result.Value.Window)
	require.LessOrEqual(t, answer.Result.Value.Page, 390.0)
	require.Zero(t, answer.Result.Value.Broken, "cells with several lines")
	b.Look(t, "status", "http://"+p.admin+"/?host=down.test")
}

func port(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}
