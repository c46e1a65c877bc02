package cli

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocalAddress(t *testing.T) {
	for addr, want := range map[string]string{
		":9708": "127.0.0.1:9708", "0.0.0.0:9708": "127.0.0.1:9708", "[::]:9708": "[::1]:9708",
		"10.0.0.1:9708": "10.0.0.1:9708", "[2001:db8::1]:1": "[2001:db8::1]:1", "localhost:1": "localhost:1",
	} {
		got, err := localAddress(addr)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := localAddress("here")
	require.Error(t, err)
}

func TestLocalOnly(t *testing.T) {
	h := LocalOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		name, from, to string
		header         string
		status         int
	}{
		{name: "loopback", from: "127.0.0.1:4711", to: "127.0.0.1:80", status: 200},
		{name: "another loopback", from: "127.0.0.9:4711", to: "127.0.0.1:80", status: 200},
		{name: "loopback, IPv6", from: "[::1]:4711", to: "[::1]:80", status: 200},
		{name: "mapped", from: "[::ffff:127.0.0.1]:4711", to: "127.0.0.1:80", status: 200},
		{name: "the machine's own address", from: "10.0.0.1:4711", to: "10.0.0.1:80", status: 200},
		{name: "a neighbour", from: "10.0.0.2:4711", to: "10.0.0.1:80", status: 403},
		{name: "no address", from: "@", to: "10.0.0.1:80", status: 403},
		{name: "a browser", from: "127.0.0.1:4711", to: "127.0.0.1:80", header: "Origin", status: 403},
		{name: "a browser on the same site", from: "127.0.0.1:4711", to: "127.0.0.1:80", header: "Sec-Fetch-Site", status: 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/drain", nil)
			r.RemoteAddr = tt.from
			to, err := net.ResolveTCPAddr("tcp", tt.to)
			require.NoError(t, err)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, to))
			if tt.header != "" {
				r.Header.Set(tt.header, "none")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, tt.status, w.Code)
		})
	}
}

func TestAskAdmin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/drain" || r.URL.Query().Get("wait") != "1s" {
			http.Error(w, "what?", http.StatusTeapot)
		}
		_, _ = w.Write([]byte("draining"))
	}))
	defer server.Close()
	listen := server.Listener.Addr().String()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var out strings.Builder
	query := url.Values{"wait": {"1s"}}
	require.NoError(t, AskAdmin(t.Context(), http.MethodPost, listen, "/drain", query, &out))
	require.Equal(t, "draining", out.String())
	require.ErrorContains(t, AskAdmin(t.Context(), http.MethodGet, listen, "/drain", query, &out), "/drain?wait=1s: 418 I'm a teapot: what?")
	require.Error(t, AskAdmin(t.Context(), http.MethodPost, "here", "/drain", nil, &out))
}
