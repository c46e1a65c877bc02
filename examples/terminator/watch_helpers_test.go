package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// watcher is a terminator that follows the files of a world.
type watcher struct {
	*world
	admin string
	log   *clitest.Output
	stop  func() (code int)
}

func (w *world) watch(args ...string) *watcher {
	w.t.Helper()
	return w.watchIn(w.path("out"), append([]string{"-http", ":8080"}, args...)...)
}

func (w *world) watchIn(out string, args ...string) *watcher {
	w.t.Helper()
	admin := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(w.t, 1)[0])
	args = append([]string{
		"-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1"), "-out", out,
		"-admin", admin, "-admin-token-file", clitest.TokenFile(w.t), "-min-interval", "10ms",
	}, args...)
	log := &clitest.Output{}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, cli.Invocation{Args: args, Stdout: log, Stderr: log}) }()
	stop := func() int {
		cancel()
		code := <-ended
		ended <- code
		return code
	}
	w.t.Cleanup(func() {
		stop()
		if w.t.Failed() {
			w.t.Logf("terminator printed:\n%s", log)
		}
	})
	return &watcher{w, admin, log, stop}
}

// eventually waits until a condition holds.
func (w *watcher) eventually(what string, condition func() bool) {
	w.t.Helper()
	require.Eventually(w.t, condition, 3*time.Minute, 20*time.Millisecond, what)
}

func (w *watcher) config() string {
	text, _ := os.ReadFile(w.path("out/haproxy.cfg"))
	return string(text)
}

func (w *watcher) waitConfig(parts ...string) {
	w.t.Helper()
	w.eventually(strings.Join(parts, ", "), func() bool {
		text := w.config()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	})
}

// waitReport waits until the function "ok" returns true for the report. The terminator replaces the
// file by a rename, so a reader always gets a complete report.
func (w *watcher) waitReport(what string, ok func(kube.Report) bool) kube.Report {
	w.t.Helper()
	return w.waitReportIn(w.path("out"), what, ok)
}

// waitReportIn does the same as waitReport for another output directory.
func (w *watcher) waitReportIn(dir, what string, ok func(kube.Report) bool) kube.Report {
	w.t.Helper()
	var report kube.Report
	w.eventually(what, func() bool {
		data, err := os.ReadFile(filepath.Join(dir, "report.json"))
		if err != nil {
			return false
		}
		report = kube.Report{}
		require.NoError(w.t, json.Unmarshal(data, &report))
		return ok(report)
	})
	return report
}

func (w *watcher) waitLog(part string) {
	w.t.Helper()
	w.eventually(part, func() bool { return strings.Contains(w.log.String(), part) })
}

func (w *watcher) do(method, path string) (code int, body string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.admin+path, http.NoBody)
	require.NoError(w.t, err)
	request.Header.Set("Authorization", "Bearer "+clitest.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(text)
}

// postWithoutToken sends a POST without the token, and returns the status of the answer.
func (w *watcher) postWithoutToken(path string) int {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.admin+path, http.NoBody)
	require.NoError(w.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	require.NoError(w.t, response.Body.Close())
	return response.StatusCode
}

func (w *watcher) waitReady() {
	w.t.Helper()
	w.eventually("ready", func() bool { code, _ := w.do("GET", "/readyz"); return code == http.StatusOK })
}

// waitDetail waits until /readyz has this status and contains the given text. The page changes a
// moment after the report, the metrics and the log.
func (w *watcher) waitDetail(status int, part string) {
	w.t.Helper()
	w.eventually(part, func() bool {
		code, body := w.do("GET", "/readyz")
		return code == status && strings.Contains(body, part)
	})
}

func (w *watcher) waitMetric(line string) {
	w.t.Helper()
	w.eventually(line, func() bool { _, body := w.do("GET", "/metrics"); return strings.Contains(body, "\n"+line+"\n") })
}

// replace replaces a file by a rename, so that the terminator never reads a file half written.
func (w *world) replace(name, text string) {
	w.t.Helper()
	w.write(".new", text)
	require.NoError(w.t, os.Rename(w.path(".new"), w.path(name)))
}

func (w *world) substitute(name, old, new string) {
	w.t.Helper()
	text := w.read(name)
	require.Contains(w.t, text, old)
	w.replace(name, strings.ReplaceAll(text, old, new))
}

func states(r kube.Report) (s []kube.State) {
	for _, c := range r.Clusters {
		s = append(s, c.Connectivity.State)
	}
	return s
}

// serve starts an HTTP server that answers every request with text.
func serve(t *testing.T, address, text string) {
	t.Helper()
	server := &http.Server{Addr: address, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, text)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ListenAndServe() }()
	t.Cleanup(func() {
		_ = server.Close()
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
}

// client sends requests without a pause, each over a new connection.
type client struct {
	t        *testing.T
	answer   atomic.Pointer[string]
	requests atomic.Int64
	failures atomic.Int64
	cancel   context.CancelFunc
	done     chan struct{}
}

func startClient(t *testing.T, url, host string) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{t: t, cancel: cancel, done: make(chan struct{})}
	transport := &http.Transport{DisableKeepAlives: true}
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(ctx, "GET", url, http.NoBody)
			if err != nil {
				panic(err)
			}
			request.Host = host
			response, err := transport.RoundTrip(request)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			switch {
			case ctx.Err() != nil:
				return
			case err != nil || response.StatusCode != http.StatusOK:
				if c.failures.Add(1) < 10 {
					t.Errorf("request %d: %v %s", c.requests.Load(), err, body)
				}
			default:
				text := string(body)
				c.answer.Store(&text)
			}
			c.requests.Add(1)
		}
	}()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *client) waitFor(answer string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { a := c.answer.Load(); return a != nil && *a == answer }, time.Minute, time.Millisecond, answer)
}

// The method "more" waits for n more requests.
func (c *client) more(n int64) {
	c.t.Helper()
	want := c.requests.Load() + n
	require.Eventually(c.t, func() bool { return c.requests.Load() >= want }, time.Minute, time.Millisecond)
}

func (c *client) stop() (failures int64) {
	c.cancel()
	<-c.done
	return c.failures.Load()
}
