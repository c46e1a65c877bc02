package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/httpload"
)

const patience = time.Minute

// front is a running frontproxy.
type front struct {
	t                     *testing.T
	dir, manifests        string
	listen, monitor, sock string
	admin                 string
	stop                  context.CancelFunc
	code                  chan int
	log                   *buffer
	args                  []string
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs frontproxy with these flags, and with flags for ports and a directory.
func start(t *testing.T, args ...string) *front {
	t.Helper()
	dir := haproxytest.Dir(t)
	ports := haproxytest.Ports(t, 3)
	f := &front{
		t: t, dir: dir, manifests: filepath.Join(dir, "manifests"), sock: filepath.Join(dir, "admin.sock"),
		listen: fmt.Sprintf("127.0.0.1:%d", ports[0]), monitor: fmt.Sprintf("127.0.0.1:%d", ports[1]), admin: fmt.Sprintf("127.0.0.1:%d", ports[2]),
		code: make(chan int, 1), log: &buffer{},
	}
	require.NoError(t, os.Mkdir(f.manifests, 0o700))
	f.policy("")
	args = append([]string{
		"-listen", f.listen, "-exporter", f.monitor, "-admin", f.admin, "-admin", "unix:" + f.sock, "-out", filepath.Join(dir, "out"),
		"-threads", "1", "-max-connections", "200", "-haproxy", haproxytest.Binary(t),
	}, args...)
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "DIR", dir)
	}
	f.args = args
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	f.launch()
	return f
}

// launch runs frontproxy. A test may call it again after frontproxy has ended.
func (f *front) launch() {
	ctx, cancel := context.WithCancel(f.t.Context())
	f.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.code <- run(ctx, cli.Invocation{Args: f.args, Stdout: f.log, Stderr: f.log})
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}

func (f *front) policy(text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, "policy.yaml"), []byte(text), 0o600))
}

// pods writes an EndpointSlice with these pods. All of them are in zone a.
func (f *front) pods(addrs ...netip.AddrPort) {
	f.t.Helper()
	text := "apiVersion: v1\nkind: List\nitems: []\n"
	for _, addr := range addrs {
		text += fmt.Sprintf(`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-%d, namespace: ns, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints: [{addresses: [%s], zone: a, targetRef: {kind: Pod, namespace: ns, name: pod-%d}}]
`, addr.Port(), addr.Port(), addr.Addr(), addr.Port())
	}
	file := filepath.Join(f.manifests, "slices.yaml")
	require.NoError(f.t, os.WriteFile(file+".new", []byte(text), 0o600))
	require.NoError(f.t, os.Rename(file+".new", file))
}

// pod starts a server that answers with its name, pod-PORT.
func pod(t *testing.T) netip.AddrPort {
	var name string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) }))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().(*net.TCPAddr).AddrPort()
	name = fmt.Sprintf("pod-%d", addr.Port())
	return addr
}

var fresh = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func get(url string) (int, string) {
	resp, err := fresh.Get("http://" + url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// eventually waits until a page answers with this status, and a body that contains the text.
func (f *front) eventually(url string, status int, text string) {
	f.t.Helper()
	var code int
	var body string
	ok := func() bool { code, body = get(url); return code == status && strings.Contains(body, text) }
	if !f.wait(ok) {
		f.t.Fatalf("%s answers %d: %s", url, code, body)
	}
}

func (f *front) wait(ok func() bool) bool {
	tick := time.Tick(5 * time.Millisecond)
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick {
		if ok() {
			return true
		}
	}
	return false
}

func (f *front) ends(code int) {
	f.t.Helper()
	select {
	case got := <-f.code:
		require.Equal(f.t, code, got)
	case <-time.After(patience):
		f.t.Fatal("frontproxy does not end")
	}
}

var dirFlags = []string{"-service", "ns/web:http", "-zone", "a", "-dir", "DIR/manifests"}

func TestPodsOfADirectory(t *testing.T) {
	f := start(t, append(dirFlags, "-drain-delay", "0", "-policy", "DIR/policy.yaml")...)
	f.eventually(f.admin+"/healthz", 200, "ok")
	f.eventually(f.listen+"/", 503, "No server is available")
	f.eventually(f.admin+"/readyz", 503, "")
	f.eventually(f.monitor+"/ready", 503, "")

	a, b := pod(t), pod(t)
	f.pods(a, b)
	f.eventually(f.listen+"/", 200, fmt.Sprintf("pod-%d", a.Port()))
	f.eventually(f.listen+"/", 200, fmt.Sprintf("pod-%d", b.Port()))
	f.eventually(f.admin+"/readyz", 200, "ok")
	f.eventually(f.monitor+"/ready", 200, "")
	f.eventually(f.admin+"/metrics", 200, fmt.Sprintf(`headgate_frontproxy_pod_up{pod="pod-%d",proxy_zone="a",service="ns.web.http",zone="a"} 1`, a.Port()))
	_, metrics := get(f.admin + "/metrics")
	clitest.Scrape(t, metrics)
	f.eventually(f.monitor+"/metrics", 200, "haproxy_server_")

	f.policy("serverr: 5s\n")
	f.eventually(f.admin+"/readyz", 200, "policy.yaml:1")
	f.eventually(f.admin+"/metrics", 200, `headgate_frontproxy_policy_good{proxy_zone="a",service="ns.web.http"} 0`)
	f.eventually(f.listen+"/", 200, "pod-")
	f.policy("server: 5s\n")
	f.eventually(f.admin+"/metrics", 200, `headgate_frontproxy_policy_good{proxy_zone="a",service="ns.web.http"} 1`)

	f.pods()
	f.eventually(f.listen+"/", 503, "No server is available")
	f.stop()
	f.ends(cli.ExitOK)
}

func TestSidecarDrains(t *testing.T) {
	f := start(t, "-local", fmt.Sprint(pod(t).Port()), "-drain-delay", "3s", "-monitor-path", "/ready")
	f.eventually(f.listen+"/", 200, "pod-")
	f.eventually(f.admin+"/readyz", 200, "ok")
	f.eventually(f.listen+"/ready", 200, "")
	drain := func(args ...string) (code int, out string) {
		var stdout, stderr bytes.Buffer
		code = run(t.Context(), cli.Invocation{Args: append([]string{"drain", "-admin", "unix:" + f.sock}, args...), Stdout: &stdout, Stderr: &stderr})
		return code, stdout.String() + stderr.String()
	}
	code, out := drain()
	require.Equal(t, cli.ExitOK, code, out)
	require.Contains(t, f.log.String(), "draining, serves new requests for ") // a slow command may miss it
	require.Regexp(t, regexp.MustCompile(`(?m)^done; `), out)
	f.eventually(f.admin+"/readyz", 503, "done")
	f.eventually(f.listen+"/ready", 503, "")
	f.eventually(f.listen+"/", 200, "pod-")

	code, out = drain("-undo")
	require.Equal(t, cli.ExitOK, code, out)
	f.eventually(f.listen+"/ready", 200, "")
	f.eventually(f.admin+"/readyz", 200, "ok")

	var second bytes.Buffer
	args := []string{"-local", "1", "-out", filepath.Join(f.dir, "out"), "-reload", "/nonexistent"}
	require.Equal(t, cli.ExitFailed, run(t.Context(), cli.Invocation{Args: args, Stdout: &second, Stderr: &second}))
	require.Contains(t, second.String(), "-out: another frontproxy uses "+filepath.Join(f.dir, "out"))
	f.eventually(f.listen+"/", 200, "pod-")

	require.Equal(t, 403, post(t, f.admin+"/drain"), "a change over TCP needs a token")
	f.stop()
	f.ends(cli.ExitOK)
	code, _ = drain()
	require.Equal(t, cli.ExitFailed, code)
}

func post(t *testing.T, url string) int {
	resp, err := fresh.Post("http://"+url, "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// TestStopLosesNoRequest stops one of two front proxies behind a TCP balancer. The balancer checks
// the monitors of the front proxies. It neither repeats nor redispatches a connection. The clients
// keep their connections and repeat nothing. A client of net/http keeps a connection that got
// GOAWAY while it was idle, so the drain may last until its deadline.
func TestStopLosesNoRequest(t *testing.T) {
	a, b := pod(t), pod(t)
	fronts := make([]*front, 2)
	for i := range fronts {
		fronts[i] = start(t, append(dirFlags, "-drain-delay", "6s", "-drain-timeout", "4s")...)
		fronts[i].pods(a, b)
	}
	dir, port := haproxytest.Dir(t), haproxytest.Ports(t, 1)[0]
	balancer := fmt.Sprintf(`global
    stats socket %s/stats.sock
defaults
    mode tcp
    timeout client 30s
    timeout server 30s
    timeout connect 5s
    timeout check 10s
    retries 0
listen balancer
    bind 127.0.0.1:%d
    balance roundrobin
    option httpchk GET /ready
    default-server check inter 2s fastinter 300ms fall 3 rise 1
`, dir, port)
	for i, f := range fronts {
		f.eventually(f.monitor+"/ready", 200, "")
		// Wait until HAProxy runs and the configuration is applied. Otherwise the delay of the
		// drain could begin before HAProxy has started and learned of the drain.
		f.eventually(f.admin+"/readyz", 200, "ok")
		require.True(t, f.wait(func() bool { return strings.Contains(f.log.String(), "msg=applied") }))
		_, monitorPort, _ := net.SplitHostPort(f.monitor)
		balancer += fmt.Sprintf("    server f%d %s port %s\n", i, f.listen, monitorPort)
	}
	haproxytest.Start(t, dir, balancer)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	fronts[0].eventually(address+"/", 200, "pod-")

	load := httpload.Start(t.Context(), httpload.Config[string]{
		Dial: new(net.Dialer).DialContext, Address: address, Rate: 100, Posts: 0.3, Kept: 12, Fresh: 2, Timeout: patience,
		Parse: func(line []byte) (string, error) { return string(line), nil },
	})
	// HTTP/2 without TLS: one connection for each client.
	var sent, failed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for tick := time.Tick(60 * time.Millisecond); ctx.Err() == nil; <-tick {
				sent.Add(1)
				resp, err := client.Get("http://" + address)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
						err = errors.New(resp.Proto + " " + resp.Status)
					}
				}
				if err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	require.True(t, fronts[0].wait(func() bool { return load.Count(time.Time{}, time.Time{}) > 100 && sent.Load() > 50 }))
	fronts[0].stop()
	fronts[0].ends(cli.ExitOK)
	end := load.Count(time.Time{}, time.Time{})
	require.True(t, fronts[0].wait(func() bool { return load.Count(time.Time{}, time.Time{}) > end+50 }))
	cancel()
	clients.Wait()
	require.NoError(t, load.Stop().Err(time.Time{}, time.Time{}))
	require.Zero(t, failed.Load())
}

func TestUsage(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "-service or -local is needed"},
		{"-service web", "want NAMESPACE/NAME"},
		{"-service ns/web: -dir d", "want NAMESPACE/NAME"},
		{`-service a/b";c -dir d`, "want NAMESPACE/NAME"},
		{"-service ns/web -dir d -discovery http://x", "exclude each other"},
		{"-local 80 -zone a", "-local needs no -zone"},
		{"-local 70000", "want a port"},
		{"-service ns/web -dir d -reload x", "-reload needs -out"},
		{"-service ns/web -dir d -listen 80", "-listen"},
		{"-service ns/web -dir d -monitor-path ready", "-monitor-path"},
		{"-service ns/web -dir d -drain-delay -1s", "must not be negative"},
		{"-service ns/web -dir d -haproxy /nonexistent", "-haproxy"},
		{"-service ns/web -dir d -policy /nonexistent", "-policy"},
		{"-service ns/web -discovery ftp://x", "not an HTTP URL"},
		{"-service ns/web -dir d -discovery-ca f", "need -discovery"},
		{"-service ns/web -discovery https://x -discovery-key f", "go together"},
		{"-service ns/web -discovery https://x -discovery-ca /nonexistent", "-discovery-ca"},
		{"drain", "-admin is needed"},
	} {
		var stderr bytes.Buffer
		require.Equal(t, cli.ExitUsage, run(t.Context(), cli.Invocation{Args: strings.Fields(test.args), Stdout: io.Discard, Stderr: &stderr}), test.args)
		require.Contains(t, stderr.String(), test.want)
	}
}
