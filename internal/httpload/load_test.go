package httpload

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answer is what the server of the tests answers.
type answer struct{ Pod, Node, Method, Host, Path string }

func parse(line []byte) (a answer, err error) {
	err = json.Unmarshal(line, &a)
	return a, err
}

// serve answers each request, except a request with the query parameter "wait".
func serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("wait") {
		<-r.Context().Done()
		return
	}
	_ = json.NewEncoder(w).Encode(answer{Pod: "p", Method: r.Method, Host: r.Host, Path: r.URL.Path})
}

func newSender(cfg Config[answer], fresh bool) *sender[answer] {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	cfg.Parse = parse
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute // a request may take long on a busy machine
	}
	return &sender[answer]{cfg: cfg.withDefaults(), fresh: fresh, opened: new(atomic.Int64)}
}

// The function one sends n requests to a server with one sender and returns the record.
func one(t *testing.T, address string, n int, fresh bool) []Request[answer] {
	t.Helper()
	s := newSender(Config[answer]{Address: address, Host: "api.example.com", Path: "/a?b=c", Repeat: true}, fresh)
	defer s.close()
	var got []Request[answer]
	for range n {
		got = append(got, s.request(t.Context()))
	}
	return got
}

func podServer(t *testing.T) (address string, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(serve))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), connections
}

func TestConnectionsAreKeptOrFresh(t *testing.T) {
	for _, test := range []struct {
		fresh bool
		want  int64
	}{{false, 1}, {true, 5}} {
		address, connections := podServer(t)
		for i, r := range one(t, address, 5, test.fresh) {
			require.NoError(t, r.Err)
			require.Equal(t, answer{Pod: "p", Method: "GET", Host: "api.example.com", Path: "/a"}, r.Answer)
			require.Equal(t, !test.fresh && i > 0, r.Kept)
			require.False(t, r.Repeated)
			require.False(t, r.End.Before(r.Start))
		}
		require.Equal(t, test.want, connections.Load())
	}
}

// script runs a server. The argument "connections" contains the responses for each connection. For
// each response, the server reads one request and then sends the response. After the last response,
// it closes the connection.
func script(t *testing.T, connections ...[]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, answers := range connections {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for _, answer := range answers {
				req, err := http.ReadRequest(in)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func response(status int, body string, headers ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

const ok = "{\"pod\":\"p\"}\n"

func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		connections [][]string
		requests    int
		want        []string // for each request: an error, "" or "repeated"
	}{
		"kept connection closed before a response":       {[][]string{{response(200, ok), ""}, {response(200, ok)}}, 2, []string{"", "repeated"}},
		"no response to the repeated request":            {[][]string{{response(200, ok), ""}, {""}}, 2, []string{"", "no response"}},
		"new connection closed before a response":        {[][]string{{}}, 1, []string{"no response"}},
		"response ends in its head":                      {[][]string{{"HTTP/1.1 200 OK\r\nConte"}}, 1, []string{"incomplete response"}},
		"response on a kept connection ends in its head": {[][]string{{response(200, ok), "HTTP/1."}}, 2, []string{"", "incomplete response"}},
		"response ends in its body":                      {[][]string{{response(200, ok)[:len(response(200, ok))-3]}}, 1, []string{"incomplete body"}},
		"response ends in its padding":                   {[][]string{{"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n" + ok}}, 1, []string{"incomplete body"}},
		"another status":                                 {[][]string{{response(503, "none\n")}}, 1, []string{"status 503"}},
		"another body":                                   {[][]string{{response(200, "hello\n")}}, 1, []string{"unexpected answer"}},
		"server announces the close":                     {[][]string{{response(200, ok, "Connection: close")}, {response(200, ok)}}, 2, []string{"", ""}},
		"padding":                                        {[][]string{{response(200, ok+strings.Repeat("x", 100_000)), response(200, ok)}}, 2, []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			got := one(t, script(t, test.connections...), test.requests, false)
			for i, want := range test.want {
				require.Equal(t, want == "repeated", got[i].Repeated && got[i].Err == nil)
				if want == "" || want == "repeated" {
					require.NoError(t, got[i].Err)
					require.Equal(t, "p", got[i].Answer.Pod)
				} else {
					require.ErrorContains(t, got[i].Err, want)
				}
			}
		})
	}
}

func TestClosedPort(t *testing.T) {
	refused := func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	s := newSender(Config[answer]{Dial: refused}, false)
	require.ErrorContains(t, s.request(t.Context()).Err, "dial")
}

func TestTimeoutIsAFailure(t *testing.T) {
	address, _ := podServer(t)
	s := newSender(Config[answer]{Address: address, Path: "/?wait=1m", Timeout: 20 * time.Millisecond}, false)
	require.ErrorContains(t, s.request(t.Context()).Err, "timeout")
}

func TestRunSendsUntilItIsStopped(t *testing.T) {
	address, connections := podServer(t)
	run := Start(t.Context(), Config[answer]{Dial: (&net.Dialer{}).DialContext, Address: address, Rate: 2000, Kept: 2, Fresh: 1, Timeout: time.Minute, Parse: parse})
	var all time.Time
	require.Eventually(t, func() bool { return run.Count(all, all) >= 60 }, time.Minute, time.Millisecond)
	log := run.Stop()
	require.NoError(t, log.Err(all, all))
	n := log.Count(all, all)
	require.Equal(t, n, log.Count(all, all), "the load continues after Stop")
	fresh := 0
	for _, r := range log.Between(all, all) {
		if !r.Kept {
			fresh++
		}
	}
	require.Equal(t, int64(fresh), connections.Load())
	require.Equal(t, fresh, run.Connections())
	require.Less(t, fresh, n)
}

func TestPosts(t *testing.T) {
	address, _ := podServer(t)
	s := newSender(Config[answer]{Address: address, Posts: 0.3}, false)
	defer s.close()
	posts := 0
	for range 100 {
		r := s.request(t.Context())
		require.NoError(t, r.Err)
		require.Equal(t, r.Method, r.Answer.Method)
		if r.Method == http.MethodPost {
			posts++
		}
	}
	require.InDelta(t, 30, posts, 1)
}

func TestWithoutRepeatAClosedConnectionIsAFailure(t *testing.T) {
	s := newSender(Config[answer]{Address: script(t, []string{response(200, ok), ""})}, false)
	defer s.close()
	require.NoError(t, s.request(t.Context()).Err)
	require.ErrorIs(t, s.request(t.Context()).Err, errStale)
}

func TestAConnectionThatTheServerHasClosedIsNotUsed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows that the peer has closed before a write")
	}
	s := newSender(Config[answer]{Address: script(t, []string{response(200, ok)}, []string{response(200, ok)})}, false)
	defer s.close()
	require.NoError(t, s.request(t.Context()).Err)
	require.Eventually(t, s.closedByServer, time.Minute, time.Millisecond)
	r := s.request(t.Context())
	require.NoError(t, r.Err)
	require.False(t, r.Kept)
}
