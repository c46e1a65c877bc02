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
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The listener closes a connection if the client does not complete its request in time. Otherwise a
// client could keep any number of connections open.
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

// A request for a change must contain the token or come through a Unix socket. Over TCP, each
// request must name this machine as its host. The address of the client does not matter.
func TestAdminPermission(t *testing.T) {
	token := func() (string, error) { return "secret", nil }
	header := func(pairs ...string) (h http.Header) {
		h = http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	bearer := header("Authorization", "Bearer secret")
	tcp, unix := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9708}, &net.UnixAddr{Name: "s", Net: "unix"}
	for _, tt := range []struct {
		name, method, host string
		to                 net.Addr
		header             http.Header
		token              func() (string, error)
		status             int
	}{
		{"read", "GET", "127.0.0.1:9708", tcp, nil, nil, 200},
		{"read by another address", "GET", "10.0.0.5:9708", tcp, nil, nil, 200},
		{"read without a port", "GET", "10.0.0.5", tcp, nil, nil, 200},
		{"read over IPv6", "GET", "[::1]:9708", tcp, nil, nil, 200},
		{"read over IPv6 without a port", "GET", "[2001:db8::1]", tcp, nil, nil, 200},
		{"read by localhost", "GET", "LocalHost.:9708", tcp, nil, nil, 200},
		{"read by its own name", "GET", "edge-1.example.com:9708", tcp, nil, nil, 200},
		{"read without a host", "GET", "", tcp, nil, nil, 200},
		{"read by a page of its own", "GET", "127.0.0.1:9708", tcp, header("Origin", "http://127.0.0.1:9708", "Sec-Fetch-Site", "same-origin"), nil, 200},
		{"read by a foreign name", "GET", "attacker.example:9708", tcp, nil, nil, 403},
		{"read by a name that begins like it", "GET", "localhost.attacker.example", tcp, nil, nil, 403},
		{"read by a name that looks like an address", "GET", "127.0.0.1.attacker.example", tcp, nil, nil, 403},
		{"read by a foreign page", "GET", "127.0.0.1:9708", tcp, header("Origin", "http://attacker.example"), nil, 403},
		{"read by a page without origin", "GET", "127.0.0.1:9708", tcp, header("Origin", "null"), nil, 403},
		{"head", "HEAD", "127.0.0.1:9708", tcp, nil, nil, 200},

		{"change without a token of the program", "POST", "127.0.0.1:9708", tcp, nil, nil, 403},
		{"change with any token", "POST", "127.0.0.1:9708", tcp, bearer, nil, 403},
		{"change with the token", "POST", "127.0.0.1:9708", tcp, bearer, token, 200},
		{"change with the token and a scheme in lower case", "POST", "127.0.0.1:9708", tcp, header("Authorization", "bearer secret"), token, 200},
		{"end with the token", "DELETE", "127.0.0.1:9708", tcp, bearer, token, 200},
		{"change without the token", "POST", "127.0.0.1:9708", tcp, nil, token, 401},
		{"change with a wrong token", "POST", "127.0.0.1:9708", tcp, header("Authorization", "Bearer secret2"), token, 401},
		{"change with an empty token", "POST", "127.0.0.1:9708", tcp, header("Authorization", "Bearer "), func() (string, error) { return "", nil }, 401},
		{"change with another scheme", "POST", "127.0.0.1:9708", tcp, header("Authorization", "Basic secret"), token, 401},
		{"change while the token is unreadable", "POST", "127.0.0.1:9708", tcp, bearer, func() (string, error) { return "secret", errors.New("gone") }, 401},
		{"unknown method", "BREW", "127.0.0.1:9708", tcp, nil, token, 401},
		{"change with the token and a foreign name", "POST", "attacker.example", tcp, bearer, token, 403},
		{"change with the token by its own page", "POST", "127.0.0.1:9708", tcp, header("Authorization", "Bearer secret", "Origin", "http://127.0.0.1:9708"), token, 403},
		{"change with the token by a browser", "DELETE", "127.0.0.1:9708", tcp, header("Authorization", "Bearer secret", "Sec-Fetch-Site", "same-origin"), token, 403},

		{"change over the socket", "POST", "localhost", unix, nil, nil, 200},
		{"change over the socket by any name", "DELETE", "admin", unix, nil, token, 200},
		{"change over the socket by a page", "POST", "localhost", unix, header("Origin", "http://attacker.example"), nil, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			h := Admin{Token: tt.token, Hosts: []string{"edge-1.example.com"}, Extra: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ })}.Handler()
			r := httptest.NewRequest(tt.method, "/drain", unread{t})
			r.Host, r.Header = tt.host, tt.header
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, tt.to))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, tt.status, w.Code, w.Body)
			require.Equal(t, tt.status == 200, calls == 1)
		})
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// Idle connections and half requests do not keep a client away from the admin pages.
func TestAdminWithManyConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Admin{}.Serve(ctx, l) }()
	var held []net.Conn
	limited := regexp.MustCompile(`\nheadgate_admin_limited_total\{reason="idle"\} [1-9]`)
	for end, metrics := time.Now().Add(time.Minute), ""; !limited.MatchString(metrics); {
		// On a busy machine, the first connections may have timed out before the last one.
		require.True(t, time.Now().Before(end), metrics)
		for i := range 300 {
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			held = append(held, c)
			_, err = io.WriteString(c, []string{"", "GET /heal"}[i%2])
			require.NoError(t, err)
		}
		// The server may have closed the client's idle connection to make room for these.
		http.DefaultClient.CloseIdleConnections()
		resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		// The request for the metrics uses the connection of the request before.
		resp, err = http.Get("http://" + l.Addr().String() + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		metrics = string(text)
	}
	http.DefaultClient.CloseIdleConnections()
	for _, c := range held {
		c.Close()
	}
	cancel()
	require.NoError(t, <-done)
}
