package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The listener closes a connection whose request never ends. Otherwise any client could keep any
// number of connections open.
func TestAdminGivesUpHalfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := clitest.NewPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Admin{Extra: http.NotFoundHandler()}.Serve(ctx, l) }()
		client := l.Dial()
		defer client.Close()
		began := time.Now()
		require.NoError(t, client.SetDeadline(began.Add(time.Hour)))
		_, err := fmt.Fprint(client, "POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, bufio.NewReader(client))
		require.NoError(t, err, "the connection stays open")
		require.Less(t, time.Since(began), 2*time.Minute)
		cancel()
		require.NoError(t, <-served)
	})
}

func TestAdmin(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	notReady := make(chan error, 1)
	details := make(chan string, 1)
	admin := Admin{Ready: func() error {
		select {
		case err := <-notReady:
			return err
		default:
			return nil
		}
	}, Extra: http.NotFoundHandler(), Detail: func() string {
		select {
		case detail := <-details:
			return detail
		default:
			return ""
		}
	}}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- admin.Serve(ctx, l) }()

	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + l.Addr().String() + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	code, body := get("/readyz")
	require.Equal(t, 200, code, body)
	notReady <- errors.New("no manifests yet")
	code, body = get("/readyz")
	require.Equal(t, 503, code)
	require.Equal(t, "no manifests yet\n", body)
	details <- "cluster eu-1 is away"
	code, body = get("/readyz")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\ncluster eu-1 is away\n", body)
	code, body = get("/readyz")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\n", body)
	code, _ = get("/healthz")
	require.Equal(t, 200, code)
	code, _ = get("/other")
	require.Equal(t, 404, code)
	_, body = get("/metrics")
	require.Contains(t, body, "go_goroutines")

	cancel()
	require.NoError(t, <-served)
}

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
