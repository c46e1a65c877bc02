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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// process is a running discovery.
type process struct {
	t           *testing.T
	addr, admin string
	stderr      *clitest.Output
	stop        func() // like SIGTERM; waits for exit code 0
}

// start starts discovery, and returns when it listens.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, stderr: &clitest.Output{}}
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, cli.Invocation{Args: append([]string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-quiet", "5ms"}, args...), Stderr: p.stderr})
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

// get sends a request, and returns the status, the body and the header of the answer. The argument
// "header" contains request headers: a name, its value, the next name, and so on.
func (p *process) get(path string, header ...string) (int, string, http.Header) {
	p.t.Helper()
	return get(p.t, "http://"+p.addr+path, header...)
}

func get(t *testing.T, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body), resp.Header
}

func (p *process) page(path string) (int, string) {
	p.t.Helper()
	code, body, _ := get(p.t, "http://"+p.admin+path)
	return code, body
}

func (p *process) metrics() string {
	_, body := p.page("/metrics")
	return body
}

// addresses returns the addresses of the pods of media/tracks.
func (p *process) addresses() string {
	p.t.Helper()
	_, body, _ := p.get("/v1/pods/media/tracks/http")
	return addressesIn(p.t, body)
}

func addressesIn(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Zones []struct{ Pods []struct{ Address string } }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	var list []string
	for _, zone := range answer.Zones {
		for _, pod := range zone.Pods {
			list = append(list, pod.Address)
		}
	}
	return strings.Join(list, " ")
}

// slice returns an EndpointSlice of media/tracks with ready pods at 10.0.0.N.
func slice(pods ...int) *discoveryv1.EndpointSlice {
	port, portName, ready, no := int32(8080), "http", true, false
	s := &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: "media", Name: "tracks-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: "tracks"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
	}
	for _, n := range pods {
		zone := fmt.Sprintf("eu-1%c", 'a'+n%2)
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprint("10.0.0.", n)}, Zone: &zone,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &no},
		})
	}
	return s
}

// terminating makes the first n pods of a slice terminate.
func terminating(s *discoveryv1.EndpointSlice, n int) *discoveryv1.EndpointSlice {
	yes, no := true, false
	for i := range n {
		s.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	}
	return s
}

// apiServer starts an API server with the service media/tracks. It also returns the path of a
// kubeconfig for the server.
func apiServer(t *testing.T) (server *kubewatchtest.Server, kubeconfig string) {
	t.Helper()
	server = kubewatchtest.New(t)
	server.Set(slice(1, 2, 3, 4))
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: eu-1, cluster: {server: %q}}]
contexts: [{name: eu-1, context: {cluster: eu-1}}]
current-context: eu-1
`, server.Config().Host), 0o600))
	return server, kubeconfig
}

// A client sees each step of a rollout. It always has only one waiting request.
func TestRolloutThroughLongPoll(t *testing.T) {
	server, kubeconfig := apiServer(t)
	p := start(t, "-kubeconfig", kubeconfig+":eu-1")
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })

	client := &httpapi.Client{URLs: []string{"http://" + p.addr}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	answers, ended := make(chan httpapi.Answer, 100), make(chan error)
	go func() {
		ended <- client.Follow(ctx, nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}, func(a httpapi.Answer) { answers <- a })
	}()
	until := func(accepting, draining int) {
		t.Helper()
		for a := range answers {
			require.NoError(t, a.Err)
			got := map[bool]int{}
			for _, pod := range a.Pods {
				got[pod.AcceptsRequests()]++
			}
			if got[true] == accepting && got[false] == draining {
				return
			}
		}
	}
	until(4, 0)
	for i := range 4 { // replace the pods one after the other
		next := slice(1+i, 2+i, 3+i, 4+i, 5+i)
		server.Set(next)
		until(5, 0)
		server.Set(terminating(next, 1))
		until(4, 1)
		server.Set(slice(2+i, 3+i, 4+i, 5+i))
		until(4, 0)
	}
	p.eventually(func() bool { return strings.Contains(p.metrics(), `headgate_discovery_pods{condition="accepting"} 4`) })
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// While the API server does not answer, discovery gives its last answers, and states their age. If
// discovery starts while the API server does not answer, it is not ready.
func TestAPIServerAway(t *testing.T) {
	server, kubeconfig := apiServer(t)
	p := start(t, "-kubeconfig", kubeconfig)
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
	_, before, header := p.get("/v1/pods/media/tracks/http")
	tag := header.Get("ETag")
	require.Equal(t, "0", header.Get("Age"))
	require.Contains(t, p.metrics(), "headgate_discovery_age_seconds 0\n")
	clitest.Scrape(t, p.metrics())

	server.Down()
	p.eventually(func() bool { _, _, header := p.get("/v1/pods/media/tracks/http"); return header.Get("Age") != "0" })
	code, body, header := p.get("/v1/pods/media/tracks/http")
	require.Equal(t, 200, code)
	require.Equal(t, tag, header.Get("ETag"))
	require.Equal(t, addressesIn(t, before), addressesIn(t, body))
	require.Contains(t, body, `"source":{"answers":false,"error":"`)
	code, _, header = p.get("/v1/pods/media/tracks/http", "If-None-Match", tag)
	require.Equal(t, 304, code)
	require.NotEqual(t, "0", header.Get("Age"))
	require.NotContains(t, p.metrics(), "headgate_discovery_age_seconds 0\n")
	p.eventually(func() bool { // another server has no newer pods
		code, body = p.page("/readyz")
		return code == 200 && strings.Contains(body, "endpointslices")
	})

	late := start(t, "-kubeconfig", kubeconfig)
	code, _ = late.page("/readyz")
	require.Equal(t, 503, code)
	code, body, _ = late.get("/v1/pods/media/tracks/http")
	require.Equal(t, 503, code, body)

	server.Set(slice(1, 2, 3, 4, 5))
	server.Up()
	for _, p := range []*process{p, late} {
		p.eventually(func() bool {
			code, body, header := p.get("/v1/pods/media/tracks/http")
			return code == 200 && header.Get("Age") == "0" && addressesIn(t, body) == "10.0.0.2 10.0.0.4 10.0.0.1 10.0.0.3 10.0.0.5"
		})
		code, body := p.page("/readyz")
		require.Equal(t, 200, code, body)
	}
}

// If a list lacks more than half of the pods, discovery does not believe the list, and its answers
// stay.
func TestDoubtfulList(t *testing.T) {
	server, kubeconfig := apiServer(t)
	p := start(t, "-kubeconfig", kubeconfig)
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
	server.Forget("endpointslices") // the server now answers as if it had lost its store
	p.eventually(func() bool { _, body := p.page("/readyz"); return body != "ok\n" })
	require.Equal(t, "10.0.0.2 10.0.0.4 10.0.0.1 10.0.0.3", p.addresses())
	p.eventually(func() bool { _, _, header := p.get("/v1/pods/media/tracks/http"); return header.Get("Age") != "0" })
	require.Equal(t, "10.0.0.2 10.0.0.4 10.0.0.1 10.0.0.3", p.addresses())
}

// SIGHUP does not end discovery.
func TestHangup(t *testing.T) {
	_, kubeconfig := apiServer(t)
	p := start(t, "-kubeconfig", kubeconfig)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), "reading the files again") })
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
}

func TestNamespace(t *testing.T) {
	server, kubeconfig := apiServer(t)
	other := slice(9)
	other.Namespace = "shop"
	server.Set(other)
	p := start(t, "-kubeconfig", kubeconfig, "-namespace", "shop")
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
	code, _, _ := p.get("/v1/pods/media/tracks/http")
	require.Equal(t, 404, code)
	_, body, _ := p.get("/v1/pods/shop/tracks/http")
	require.Equal(t, "10.0.0.9", addressesIn(t, body))
	for _, r := range server.Requests() {
		require.Equal(t, "endpointslices", r.Resource)
	}
}

func writeManifest(t *testing.T, file string, s *discoveryv1.EndpointSlice) {
	t.Helper()
	text, err := yaml.Marshal(s)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".new", text, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tracks.yaml")
	writeManifest(t, file, slice(1, 2))
	p := start(t, "-dir", dir, "-namespace", "media")
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
	require.Equal(t, "10.0.0.2 10.0.0.1", p.addresses())
	writeManifest(t, file, slice(1, 2, 3))
	p.eventually(func() bool { return p.addresses() == "10.0.0.2 10.0.0.1 10.0.0.3" })
	require.NoError(t, os.WriteFile(file+".new", []byte("kind: [\n"), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	p.eventually(func() bool { return !strings.Contains(p.metrics(), "headgate_discovery_problems 0\n") })
	require.Equal(t, "10.0.0.2 10.0.0.1 10.0.0.3", p.addresses(), "a malformed file changes nothing")
}

// When the program ends, it answers the requests that wait.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	writeManifest(t, filepath.Join(dir, "tracks.yaml"), slice(1))
	p := start(t, "-dir", dir)
	p.eventually(func() bool { code, _ := p.page("/readyz"); return code == 200 })
	_, _, header := p.get("/v1/pods/media/tracks/http")
	code := make(chan int, 1)
	go func() {
		got, _, _ := p.get("/v1/pods/media/tracks/http?wait=60s", "If-None-Match", header.Get("ETag"))
		code <- got
	}()
	p.eventually(func() bool { return strings.Contains(p.metrics(), "headgate_discovery_waiting 1\n") })
	p.stop()
	require.Equal(t, 304, <-code)
}

func TestToken(t *testing.T) {
	dir, token := t.TempDir(), filepath.Join(t.TempDir(), "token")
	writeManifest(t, filepath.Join(dir, "tracks.yaml"), slice(1))
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	p := start(t, "-dir", dir, "-token-file", token)
	code, _, _ := p.get("/v1/prometheus")
	require.Equal(t, 401, code)
	p.eventually(func() bool {
		code, _, _ := p.get("/v1/prometheus", "Authorization", "Bearer secret")
		return code == 200
	})
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-dir", dir, "-kubeconfig", missing}, cli.ExitUsage, "exclude each other"},
		{[]string{"-dir", dir, "-key", missing}, cli.ExitUsage, "go together"},
		{[]string{"-dir", dir, "-quiet", "2s"}, cli.ExitUsage, "-max-wait not less than -quiet"},
		{[]string{"-dir", dir, "-max-connections", "0"}, cli.ExitUsage, "-max-connections must be 1 or more"},
		{[]string{"-dir", dir, "-admin", "nowhere"}, cli.ExitUsage, "-admin: "},
		{[]string{"-dir", dir, "-allow-pods", "everything"}, cli.ExitUsage, "want a network"},
		{[]string{"-kubeconfig", missing}, cli.ExitUsage, "missing"},
		{[]string{"-kubeconfig", empty}, cli.ExitUsage, "empty"},
		{[]string{"-dir", missing}, cli.ExitFailed, "missing"},
		{[]string{"-dir", dir, "-token-file", empty}, cli.ExitFailed, "empty"},
		{[]string{"-dir", dir, "-certificate", missing, "-key", missing}, cli.ExitFailed, "missing"},
		{[]string{"-dir", dir, "-listen", "256.0.0.1:0"}, cli.ExitFailed, "256.0.0.1"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			stderr := &clitest.Output{}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code := run(ctx, cli.Invocation{Args: append([]string{"-listen", "127.0.0.1:0"}, tt.args...), Stderr: stderr})
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr.String(), tt.want)
			require.NoError(t, ctx.Err())
		})
	}
}
