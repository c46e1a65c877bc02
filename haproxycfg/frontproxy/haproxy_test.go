package frontproxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// installed is one version of HAProxy.
type installed struct {
	binary  string
	version haproxycfg.Version
}

// eachHAProxy runs a test twice: with the haproxy on PATH, and with the newest HAProxy on this
// machine. "make test-haproxies" runs the tests several times, with each of the installed versions
// on PATH.
func eachHAProxy(t *testing.T, test func(t *testing.T, h installed)) {
	var all []installed
	for _, binary := range haproxytest.Binaries(t) {
		out, err := exec.Command(binary, "-v").Output()
		require.NoError(t, err)
		version, err := haproxycfg.ParseVersion(string(out))
		require.NoError(t, err)
		all = append(all, installed{binary, version})
	}
	first, newest := all[0], all[0]
	for _, h := range all[1:] {
		if h.version.AtLeast(newest.version.Major, newest.version.Minor) {
			newest = h
		}
	}
	t.Run(first.version.String(), func(t *testing.T) { test(t, first) })
	if newest.version != first.version {
		t.Run(newest.version.String(), func(t *testing.T) { test(t, newest) })
	}
}

// podSet is a set of pods that listen on 127.0.0.1.
type podSet struct {
	pods []frontproxy.Pod
	got  map[string]*atomic.Int64 // the number of requests by address, without health checks
}

// servePods starts n pods. The function "handler" gets the index of the pod. A request for /healthz
// counts as a health check.
func servePods(t *testing.T, n int, zone string, http2 bool, handler func(pod int, w http.ResponseWriter, r *http.Request)) *podSet {
	t.Helper()
	set := &podSet{got: map[string]*atomic.Int64{}}
	index := map[string]int{}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(!http2)
	server.Protocols.SetUnencryptedHTTP2(http2)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		if r.URL.Path != "/healthz" {
			set.got[addr].Add(1)
		}
		if handler != nil {
			handler(index[addr], w, r)
		}
	})
	var done sync.WaitGroup
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := l.Addr().String()
		set.got[addr], index[addr] = new(atomic.Int64), i
		set.pods = append(set.pods, frontproxy.Pod{Addr: netip.MustParseAddrPort(addr), Zone: zone})
		defer func() { done.Go(func() { _ = server.Serve(l) }) }() // after the maps are complete
	}
	t.Cleanup(func() { _ = server.Close(); done.Wait() })
	return set
}

func (s *podSet) of(i int) int { return int(s.got[s.pods[i].Addr.String()].Load()) }

func (s *podSet) sum() (n int) {
	for i := range s.pods {
		n += s.of(i)
	}
	return n
}

func (s *podSet) reset() {
	for _, n := range s.got {
		n.Store(0)
	}
}

// running is a front proxy that runs.
type running struct {
	url, admin string
	socket     runtimeapi.Socket
	config     haproxycfg.Config
	client     *http.Client
	process    *haproxyproc.Process
}

// start runs a proxy for the pods. Its zone is "a".
func (h installed) start(t *testing.T, p frontproxy.Proxy, pods []frontproxy.Pod, expected int) *running {
	t.Helper()
	dir, ports := haproxytest.Dir(t), haproxytest.Ports(t, 2)
	socket := filepath.Join(dir, haproxytest.StatsSocket)
	p.Service, p.Zone = "web", "a"
	p.Binds = []haproxycfg.Bind{{Address: fmt.Sprintf("127.0.0.1:%d", ports[0])}}
	p.Admin = []haproxycfg.Bind{{Address: fmt.Sprintf("127.0.0.1:%d", ports[1])}}
	p.Global = haproxycfg.Global{Version: h.version, StatsSocket: socket, Threads: 1, Logs: p.Global.Logs}
	c, _, err := p.Config(pods, expected, nil)
	require.NoError(t, err)
	files, err := c.Render(dir)
	require.NoError(t, err)
	configtest.WriteFiles(t, dir, files)
	process, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Path: h.binary, Config: filepath.Join(dir, haproxytest.ConfigFile), Dir: dir, StatsSocket: socket,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Stop()
		if t.Failed() {
			t.Logf("haproxy printed:\n%s", process.Output())
		}
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &running{
		url: "http://" + p.Binds[0].Address, admin: "http://" + p.Admin[0].Address,
		socket: runtimeapi.Socket{Path: socket}, config: c, client: &http.Client{Transport: transport, Timeout: time.Minute},
		process: process,
	}
}

// do sends a request and reads the answer.
func (r *running) do(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = resp.Body.Close()
	return resp, string(body)
}

func (r *running) get(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	return r.do(t, http.MethodGet, r.url+path, header...)
}

// load sends n requests over several connections, and returns how many had each status.
func (r *running) load(t *testing.T, n int) map[int]int {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	counts := map[int]int{}
	for range 4 {
		wg.Go(func() {
			own := map[int]int{}
			for range n / 4 {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url, http.NoBody)
				resp, err := r.client.Do(req)
				if err != nil {
					own[0]++
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				own[resp.StatusCode]++
			}
			mu.Lock()
			defer mu.Unlock()
			for status, k := range own {
				counts[status] += k
			}
		})
	}
	wg.Wait()
	return counts
}

func (r *running) command(t *testing.T, format string, args ...any) {
	t.Helper()
	answer, err := r.socket.Do(t.Context(), fmt.Sprintf(format, args...))
	require.NoError(t, err)
	require.Empty(t, strings.TrimSpace(answer))
}

// server returns the name of the server of a pod in a backend.
func (r *running) server(t *testing.T, backend string, pod frontproxy.Pod) string {
	t.Helper()
	for _, b := range r.config.Backends {
		for _, s := range b.Servers {
			if b.Name == backend && s.Addr == pod.Addr {
				return backend + "/" + s.Name()
			}
		}
	}
	t.Fatalf("%s is not in %s", pod.Addr, backend)
	return ""
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.Tick(5 * time.Millisecond); !ok(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatal(what)
		}
	}
}
