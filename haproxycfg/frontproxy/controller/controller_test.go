package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/frontproxy/controller"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/supervisor"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

const patience = time.Minute

// fixture is a controller with its HAProxy, and a source. The test sends the updates of the source.
type fixture struct {
	*controller.Controller
	t          *testing.T
	supervisor *supervisor.Supervisor
	dir        string
	url        string
	updates    chan controller.Update
	reloads    atomic.Int64
	client     *http.Client
}

func newFixture(t *testing.T, haproxy string) *fixture {
	dir := haproxytest.Dir(t)
	port := haproxytest.Ports(t, 1)[0]
	f := &fixture{
		t: t, dir: dir, url: fmt.Sprintf("http://127.0.0.1:%d", port), updates: make(chan controller.Update),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	var err error
	f.supervisor, err = supervisor.New(supervisor.Options{
		Haproxy: haproxy, Config: filepath.Join(dir, "haproxy.cfg"), RunDir: filepath.Join(dir, "run"), StateFile: filepath.Join(dir, "state"), MinDelay: time.Millisecond,
	})
	require.NoError(t, err)
	reloader := deploy.Reloader{Master: f.supervisor.Master(), StateFile: filepath.Join(dir, "state"), Config: filepath.Join(dir, "haproxy.cfg")}
	stats := filepath.Join(dir, "stats.sock")
	f.Controller = &controller.Controller{
		Proxy: frontproxy.Proxy{
			Service: "ns.web", Zone: "a", Monitor: "/ready",
			Binds:  []haproxycfg.Bind{{Address: fmt.Sprintf("127.0.0.1:%d", port)}},
			Global: haproxycfg.Global{StatsSocket: stats, StateFile: filepath.Join(dir, "state")},
		},
		Source: controller.SourceFunc(f.follow),
		Dir: &deploy.Dir{
			Path: dir, Reload: func(ctx context.Context) error { return f.supervisor.Reload(ctx, reloader.Reload) },
			Runtime: &deploy.Runtime{Stats: runtimeapi.Socket{Path: stats}, Master: f.supervisor.Master(), Changed: f.changed},
		},
		Version:       deploy.Checker{Haproxy: haproxy}.Version,
		FirstPodsWait: time.Millisecond,
	}
	return f
}

func (f *fixture) changed(c deploy.RuntimeChange) {
	if c.Reload != "" {
		f.t.Log("reload:", c.Reload)
		f.reloads.Add(1)
	}
}

func (f *fixture) follow(ctx context.Context, changed func(controller.Update)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u := <-f.updates:
			changed(u)
		}
	}
}

func (f *fixture) run() {
	ctx, cancel := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.supervisor.Run(ctx) })
	wg.Go(func() { _ = f.Run(ctx) })
	f.t.Cleanup(func() {
		cancel()
		wg.Wait()
		if f.t.Failed() {
			f.t.Logf("%+v\n%+v", f.Status(), f.supervisor.State())
		}
	})
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	require.Eventually(f.t, ok, patience, 2*time.Millisecond, what)
}

// get returns the status and body of an answer. The status is 0 if there is none.
func (f *fixture) get(path string) (int, string) {
	resp, err := f.client.Get(f.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// connection waits until HAProxy answers 200, and closes the connection if the argument is true, or
// keeps it otherwise. The client could send further requests on the connection. Until the old
// worker has noticed a reload, it answers too.
func (f *fixture) connection(closes bool) {
	f.t.Helper()
	transport := &http.Transport{}
	client := &http.Client{Timeout: patience, Transport: transport}
	f.eventually(fmt.Sprint("HAProxy closes the connection: ", closes), func() bool {
		defer transport.CloseIdleConnections()
		resp, err := client.Get(f.url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == 200 && resp.Close == closes
	})
}

func (f *fixture) answers(path string, status int) {
	f.t.Helper()
	f.eventually(fmt.Sprint(path, " answers ", status), func() bool { got, _ := f.get(path); return got == status })
}

// pod starts a server that answers with its name.
func (f *fixture) pod(name, zone string, handler http.HandlerFunc) endpoints.Pod {
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
	}
	s := httptest.NewServer(handler)
	f.t.Cleanup(s.Close)
	return endpoints.Pod{Addr: s.Listener.Addr().(*net.TCPAddr).AddrPort(), Name: name, Zone: zone, Ready: true, Serving: true}
}

// bodies returns the answers to 2 requests for each pod that a fixture can have.
func (f *fixture) bodies() map[string]int {
	all := map[string]int{}
	for range 8 {
		_, body := f.get("/")
		all[body]++
	}
	return all
}

func (f *fixture) servedBy(names ...string) {
	f.t.Helper()
	f.eventually(fmt.Sprint("served by ", names), func() bool {
		got := f.bodies()
		for _, n := range names {
			if got[n] == 0 {
				return false
			}
		}
		return len(got) == len(names)
	})
}

// versions runs a test with the haproxy on PATH, and with the newest of the installed versions.
func versions(t *testing.T, test func(t *testing.T, haproxy string)) {
	all := haproxytest.Binaries(t)
	for i, haproxy := range all {
		if i == 0 || i == len(all)-1 {
			t.Run(filepath.Base(filepath.Dir(haproxy)), func(t *testing.T) { test(t, haproxy) })
		}
	}
}

func TestPodsComeAndGo(t *testing.T) {
	versions(t, func(t *testing.T, haproxy string) {
		f := newFixture(t, haproxy)
		f.run()
		f.answers("/", 503) // without pods and without a source
		f.answers("/ready", 503)
		require.False(t, f.Status().Known)

		a, b, far := f.pod("a", "a", nil), f.pod("b", "a", nil), f.pod("far", "z", nil)
		f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{a, b, far}}
		f.servedBy("a", "b")
		f.answers("/ready", 200)
		want := map[string]controller.ZoneStatus{"a": {InService: 2, Expected: 2}, "z": {InService: 1, Expected: 1}}
		f.eventually("the status", func() bool { return maps.Equal(f.Status().Zones, want) })
		require.NoError(t, f.Status().ApplyErr)

		gone := errors.New("the API server is away")
		f.updates <- controller.Update{Err: gone}
		f.eventually("the error of the source", func() bool { return f.Status().SourceErr == gone })
		f.servedBy("a", "b")

		b.Ready, b.Terminating = false, true
		f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{a, b, far}}
		f.eventually("b leaves", func() bool {
			return f.Status().Zones["a"] == controller.ZoneStatus{InService: 1, Other: 1, Expected: 2}
		})
		for range 20 { // 1 of 2 expected pods is up, so 70% of the requests stay in the zone
			_, body := f.get("/")
			require.Contains(t, []string{"a", "far"}, body)
		}
		traffic, err := f.Traffic(t.Context())
		require.NoError(t, err)
		byPod := map[string]uint64{}
		for _, p := range traffic {
			byPod[p.Pod] = p.Requests
		}
		require.NotZero(t, byPod["a"])
		require.NotZero(t, byPod["b"])

		require.EqualValues(t, 1, f.reloads.Load(), "only the first configuration needs a reload")

		require.NoError(t, syscall.Kill(f.supervisor.State().PID, syscall.SIGKILL))
		f.eventually("restart", func() bool { return f.supervisor.State().Starts == 2 })
		code, body := f.get("/")
		require.Equal(t, 200, code, body)
	})
}

// While no pod of any zone is ready, the terminating pods that still serve get the requests.
func TestAllPodsTerminate(t *testing.T) {
	versions(t, func(t *testing.T, haproxy string) {
		f := newFixture(t, haproxy)
		f.run()
		a, b, far, next := f.pod("a", "a", nil), f.pod("b", "a", nil), f.pod("far", "z", nil), f.pod("next", "z", nil)
		update := func(pods ...endpoints.Pod) { f.updates <- controller.Update{Known: true, Pods: pods} }
		terminating := func(p endpoints.Pod) endpoints.Pod { p.Ready, p.Terminating = false, true; return p }
		update(a, b, far)
		f.servedBy("a", "b")

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var failures []string
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				if code, body := f.get("/"); code != 200 {
					failures = append(failures, fmt.Sprint(code, " ", body))
				}
			}
		})

		a, b = terminating(a), terminating(b)
		update(a, b, far)
		f.servedBy("far")
		require.Empty(t, f.Status().Problems())

		far = terminating(far)
		update(a, b, far)
		f.servedBy("a", "b")
		f.answers("/ready", 200)
		want := map[string]controller.ZoneStatus{
			"a": {InService: 2, Terminating: 2, Expected: 2},
			"z": {InService: 1, Terminating: 1, Expected: 1},
		}
		f.eventually("the status", func() bool { return maps.Equal(f.Status().Zones, want) })
		require.Equal(t, []string{"pods: no pod of the service is ready, so its terminating pods get the requests"}, f.Status().Problems())
		require.NoError(t, f.Status().Ready())

		update(a, b, far, next)
		f.servedBy("next")
		f.eventually("no problem", func() bool { return len(f.Status().Problems()) == 0 })
		cancel()
		wg.Wait()
		require.Empty(t, failures)

		a.Serving, b.Serving, far.Serving = false, false, false
		update(a, b, far)
		f.answers("/", 503)
		f.eventually("not ready", func() bool { return f.Status().Ready() != nil })
	})
}

func TestDraining(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	f.run()
	f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{f.pod("a", "a", nil)}}
	f.answers("/ready", 200)
	f.SetDraining(true)
	f.answers("/ready", 503)
	f.connection(true)
	f.SetDraining(false)
	f.answers("/ready", 200)
	f.connection(false)
}

// A drain does not wait for a change that HAProxy refuses.
func TestDrainingWhileChangesFail(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	failure := errors.New("the check fails")
	var fails atomic.Bool
	f.Dir.Check = func(context.Context, haproxycfg.Valid) error {
		if fails.Load() {
			return failure
		}
		return nil
	}
	f.run()
	pod := f.pod("a", "a", nil)
	f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{pod}}
	f.answers("/ready", 200)
	fails.Store(true)
	f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{pod, f.pod("b", "a", nil)}}
	f.eventually("the failure", func() bool { return errors.Is(f.Status().ApplyErr, failure) })
	f.SetDraining(true)
	f.answers("/ready", 503)
	f.SetDraining(false)
	f.answers("/ready", 200)
	f.servedBy("a")
}

// Changes that come quickly are applied together.
func TestBurst(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	begun, sent := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(begun); <-sent })
	f.Dir.Check = func(context.Context, haproxycfg.Valid) error { first(); return nil }
	f.run()
	<-begun // the changes come during an attempt
	a, b := f.pod("a", "a", nil), f.pod("b", "a", nil)
	for range 100 {
		f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{a}}
		f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{b}}
	}
	close(sent)
	f.servedBy("b")
	require.LessOrEqual(t, f.Status().Applied, 3)
}

func TestPolicy(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	file := filepath.Join(f.dir, "policy")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	parse := func(file string, data []byte) (s frontproxy.Settings, err error) {
		_, err = fmt.Sscanf(string(data), "close %d", &s.CloseOneIn)
		return s, err
	}
	f.Policy = &controller.PolicyFile{Path: file, Parse: parse, LastGood: file + ".good"}
	write("close 1000000")
	f.run()
	f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{f.pod("a", "a", nil)}}
	f.servedBy("a")
	config := func() string {
		text, err := os.ReadFile(filepath.Join(f.dir, "haproxy.cfg"))
		require.NoError(t, err)
		return string(text)
	}
	require.Contains(t, config(), "rand(1000000)")

	write("nonsense")
	f.eventually("the fault is reported", func() bool { return f.Status().PolicyErr != nil })
	require.Contains(t, config(), "rand(1000000)")
	settings, ok, err := f.Policy.Read()
	require.True(t, ok)
	require.Error(t, err)
	require.Equal(t, 1000000, settings.CloseOneIn)
	f.servedBy("a")

	write("close 1")
	f.connection(true)
	f.eventually("no fault", func() bool { return f.Status().PolicyErr == nil })
	other := *f.Policy // the controller may still read its file
	other.Path, other.LastGood = file+".other", file+".other.good"
	require.NoError(t, os.WriteFile(other.Path, []byte("nonsense"), 0o600))
	_, ok, err = other.Read()
	require.False(t, ok)
	require.Error(t, err)
}

// TestFilesStayUntilTheSourceAnswers: the files of an earlier process stay in force, but the drain
// of that process does not.
func TestFilesStayUntilTheSourceAnswers(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	pod := f.pod("a", "a", nil)
	proxy := f.Proxy
	proxy.Draining = true
	config, _, err := proxy.Config([]frontproxy.Pod{{Addr: pod.Addr, Zone: "a"}}, 1, nil)
	require.NoError(t, err)
	_, err = (&deploy.Dir{Path: f.dir}).Apply(t.Context(), &config)
	require.NoError(t, err)
	f.run()
	f.servedBy("a")
	f.eventually("an attempt", func() bool { return f.Status().Version != haproxycfg.Version{} })
	f.answers("/ready", 200)
	f.connection(false)
	require.False(t, f.Status().Known)
	f.servedBy("a")
}

// A controller that restarts while pods of its zone are missing still expects them.
func TestExpectedPodsAfterARestart(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	haproxy, kill := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.supervisor.Run(haproxy) })
	t.Cleanup(func() { kill(); running.Wait() })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx) }()
	var pods []endpoints.Pod
	for i := range 4 {
		pods = append(pods, f.pod(fmt.Sprint(i), "a", nil))
	}
	f.updates <- controller.Update{Known: true, Pods: pods}
	f.eventually("four pods", func() bool { return f.Status().Zones["a"].InService == 4 })
	stop()
	<-ended

	file := filepath.Join(f.dir, "expected-pods.json")
	restart := func() {
		c := f.Controller
		f.Controller = &controller.Controller{Proxy: c.Proxy, Source: c.Source, Dir: c.Dir, Version: c.Version, FirstPodsWait: c.FirstPodsWait}
	}
	restart()
	f.run()
	f.updates <- controller.Update{Known: true, Pods: pods[:1]}
	f.eventually("one of four pods", func() bool { return f.Status().Zones["a"] == controller.ZoneStatus{InService: 1, Expected: 4} })
	require.NoError(t, f.Status().ExpectedErr)
	require.FileExists(t, file)
}

// A faulty file is reported and replaced.
func TestFaultyFileOfExpectedPods(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	file := filepath.Join(f.dir, "expected-pods.json")
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	f.run()
	f.eventually("the fault is reported", func() bool { return f.Status().ExpectedErr != nil })
	require.ErrorContains(t, f.Status().ExpectedErr, file)
	f.updates <- controller.Update{Known: true, Pods: []endpoints.Pod{f.pod("a", "a", nil)}}
	f.servedBy("a")
	f.eventually("no fault", func() bool { return f.Status().ExpectedErr == nil })
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"a":[{"pods":1,`)
}

// All pods break off every answer, and HAProxy repeats GET. HAProxy before 2.9 does not count
// repetitions, so the controller counts them.
func TestRetryBudgetOfHAProxy(t *testing.T) {
	f := newFixture(t, haproxytest.Binary(t))
	var hits atomic.Int64
	var pods []endpoints.Pod
	for i := range 4 {
		pods = append(pods, f.pod(fmt.Sprint(i), "a", func(w http.ResponseWriter, _ *http.Request) {
			hits.Add(1)
			panic(http.ErrAbortHandler)
		}))
	}
	f.Proxy.Settings = frontproxy.Settings{EjectErrors: -1, PanicBelow: -1, RetriesPerSecond: -1}
	f.run()
	f.updates <- controller.Update{Known: true, Pods: pods}
	f.answers("/", 502)
	hits.Store(0)
	// HAProxy exceeds the budget before the first sample and between two samples. Later budgets make
	// up for it, if the excess is not too old. So a busy machine may exceed the budget for a while.
	const requests = 1000
	for round := int64(1); ; round++ {
		require.LessOrEqual(t, round, int64(20))
		before := hits.Load()
		for range requests {
			f.get("/")
		}
		if total := hits.Load(); total-before <= requests*125/100 {
			require.GreaterOrEqual(t, total, round*requests*105/100)
			break
		}
	}
}

// TestConcurrentTraffic: several calls of Traffic count each request once, although an answer of
// HAProxy may arrive late.
func TestConcurrentTraffic(t *testing.T) {
	path := filepath.Join(haproxytest.Dir(t), "stats.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for total := 1; ; total++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer nc.Close()
				_, _ = io.Copy(io.Discard, nc) // read until the client has sent its command
				fmt.Fprintf(nc, "# pxname,svname,type,stot,addr,status\nlocal,s1,2,%d,10.0.0.1:80,UP\n\n", total)
			})
		}
	})
	defer served.Wait()
	defer l.Close()
	c := &controller.Controller{Dir: &deploy.Dir{Runtime: &deploy.Runtime{Stats: runtimeapi.Socket{Path: path}}}}
	const callers, calls = 8, 25
	var asked sync.WaitGroup
	for range callers {
		asked.Go(func() {
			for range calls {
				if _, err := c.Traffic(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	asked.Wait()
	traffic, err := c.Traffic(t.Context())
	require.NoError(t, err)
	require.Len(t, traffic, 1)
	require.EqualValues(t, callers*calls+1, traffic[0].Requests)
}

func TestPodsOfLeavesOutWarnings(t *testing.T) {
	ref := nodeselect.Ref{Namespace: "ns", Service: "web"}
	u := controller.PodsOf(endpoints.Services{}, ref, nodeselect.Problem{Message: "a warning", Warning: true}, nodeselect.Problem{Message: "a fault"})
	require.True(t, u.Known)
	require.ErrorContains(t, u.Err, "a fault")
	require.NotContains(t, u.Err.Error(), "a warning")
}

func TestTrafficWithoutHAProxy(t *testing.T) {
	c := &controller.Controller{Dir: &deploy.Dir{Runtime: &deploy.Runtime{Stats: runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "nobody")}}}}
	traffic, err := c.Traffic(t.Context())
	require.Error(t, err)
	require.Empty(t, traffic)
}
