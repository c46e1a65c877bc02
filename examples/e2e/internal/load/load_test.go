package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

// one sends n requests to a server with one sender and returns the record.
func one(t *testing.T, address string, n int, fresh bool) []Request {
	t.Helper()
	s := &sender{cfg: Config{Dial: (&net.Dialer{}).DialContext, Address: address, Host: "api.example.com", Path: "/a?b=c"}.withDefaults(), fresh: fresh}
	defer s.close()
	var got []Request
	for range n {
		got = append(got, s.request(t.Context()))
	}
	return got
}

func podServer(t *testing.T) (address string, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(pod.Identity{Pod: "p", Cluster: "c"}.Handler())
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
			require.Equal(t, pod.Answer{Pod: "p", Cluster: "c", Source: "127.0.0.1", Host: "api.example.com", Path: "/a"}, r.Answer)
			require.Equal(t, !test.fresh && i > 0, r.Kept)
			require.False(t, r.Repeated)
			require.False(t, r.End.Before(r.Start))
		}
		require.Equal(t, test.want, connections.Load())
	}
}

// script runs a server. On each connection it reads one request for every response, and then closes
// the connection.
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

func answer(status int, body string, headers ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

const ok = "{\"pod\":\"p\"}\n"

func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		connections [][]string
		requests    int
		want        []string // for each request: an error, "" or "repeated"
	}{
		"kept connection closed before a response":       {[][]string{{answer(200, ok)}, {answer(200, ok)}}, 2, []string{"", "repeated"}},
		"no response to the repeated request":            {[][]string{{answer(200, ok)}, {""}}, 2, []string{"", "no response"}},
		"new connection closed before a response":        {[][]string{{}}, 1, []string{"no response"}},
		"response ends in its head":                      {[][]string{{"HTTP/1.1 200 OK\r\nConte"}}, 1, []string{"incomplete response"}},
		"response on a kept connection ends in its head": {[][]string{{answer(200, ok), "HTTP/1."}}, 2, []string{"", "incomplete response"}},
		"response ends in its body":                      {[][]string{{answer(200, ok)[:len(answer(200, ok))-3]}}, 1, []string{"incomplete body"}},
		"response ends in its padding":                   {[][]string{{"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n" + ok}}, 1, []string{"incomplete body"}},
		"another status":                                 {[][]string{{answer(503, "none\n")}}, 1, []string{"status 503"}},
		"another body":                                   {[][]string{{answer(200, "hello\n")}}, 1, []string{"not a pod's answer"}},
		"server announces the close":                     {[][]string{{answer(200, ok, "Connection: close")}, {answer(200, ok)}}, 2, []string{"", ""}},
		"padding":                                        {[][]string{{answer(200, ok+strings.Repeat("x", 100_000)), answer(200, ok)}}, 2, []string{"", ""}},
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
	s := &sender{cfg: Config{Dial: refused}.withDefaults()}
	require.ErrorContains(t, s.request(t.Context()).Err, "dial")
}

func TestTimeoutIsAFailure(t *testing.T) {
	address, _ := podServer(t)
	s := &sender{cfg: Config{Dial: (&net.Dialer{}).DialContext, Address: address, Path: "/?wait=1m", Timeout: 20 * time.Millisecond}.withDefaults()}
	require.ErrorContains(t, s.request(t.Context()).Err, "timeout")
}

func TestRunSendsUntilItIsStopped(t *testing.T) {
	address, connections := podServer(t)
	run := Start(t.Context(), Config{Dial: (&net.Dialer{}).DialContext, Address: address, Rate: 2000, Kept: 2, Fresh: 1})
	var all time.Time
	require.Eventually(t, func() bool { return run.Count(all, all) >= 60 }, 30*time.Second, time.Millisecond)
	log := run.Stop()
	require.NoError(t, log.Err(all, all))
	n := log.Count(all, all)
	require.Equal(t, n, log.Count(all, all), "it goes on after Stop")
	fresh := 0
	for _, r := range log.Between(all, all) {
		if !r.Kept {
			fresh++
		}
	}
	require.Equal(t, int64(fresh), connections.Load())
	require.Less(t, fresh, n)
}
