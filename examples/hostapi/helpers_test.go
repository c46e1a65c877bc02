package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// process is a running hostapi.
type process struct {
	t           *testing.T
	addr, admin string
	stderr      *clitest.Output
	stop        func() // like SIGTERM; waits for exit code 0
}

// start starts hostapi, and returns when it is ready.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startAt(t, "127.0.0.1:0", args...)
}

func startAt(t *testing.T, addr string, args ...string) *process {
	t.Helper()
	p := &process{t: t, stderr: &clitest.Output{}}
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, cli.Invocation{Args: append(args, "-listen", addr, "-admin", "127.0.0.1:0", "-poll", "10ms"), Stderr: p.stderr})
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		require.Equal(t, cli.ExitOK, <-exited, p.stderr)
	})
	t.Cleanup(p.stop)
	p.eventually(func() bool {
		p.admin, p.addr = p.logged("admin"), p.logged("listening")
		return p.admin != "" && p.addr != ""
	})
	resp, body := get(t, http.DefaultClient, "http://"+p.admin+"/readyz")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	return p
}

// logged returns the address in the log line with the message. It returns "" until the line is
// complete.
func (p *process) logged(message string) string {
	_, rest, _ := strings.Cut(p.stderr.String(), " msg="+message+" addr=")
	addr, _, whole := strings.Cut(rest, "\n")
	if !whole {
		return ""
	}
	return addr
}

func (p *process) eventually(f func() bool) {
	p.t.Helper()
	require.Eventually(p.t, f, time.Minute, 20*time.Millisecond, "%s", p.stderr)
}

// get sends a request, and returns the answer and its body. The argument "header" contains request
// headers: a name, its value, the next name, and so on.
func (p *process) get(path string, header ...string) (*http.Response, string) {
	p.t.Helper()
	return get(p.t, http.DefaultClient, "http://"+p.addr+path, header...)
}

func get(t *testing.T, client *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

// endpoint returns the endpoint that hostapi answers for a host. It returns "" if hostapi does not
// find the host.
func (p *process) endpoint(host string) string {
	p.t.Helper()
	resp, body := p.get("/hosts/" + host)
	if resp.StatusCode == http.StatusNotFound {
		return ""
	}
	var ep hostlookup.Endpoint
	require.NoError(p.t, json.Unmarshal([]byte(body), &ep), body)
	return ep.Addr
}

func (p *process) metrics() string {
	p.t.Helper()
	_, body := get(p.t, http.DefaultClient, "http://"+p.admin+"/metrics")
	return body
}

// replace writes a file through a rename, so that no reader sees a part of it.
func replace(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}
