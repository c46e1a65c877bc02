//go:build unix

package controller

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

const (
	benchRoutes   = 10_000
	benchServices = 1000
	benchClusters = 3
	benchNodes    = 1000 // of each cluster
)

// benchFleet is a Controller and its HAProxy in front of 3 clusters with 1,000 nodes each. 10,000
// routes lead to 1,000 services, and each service is on 20 nodes of one cluster. The nodes have
// addresses of this machine. The service "here" answers requests with its name, and so does the
// service "there".
type benchFleet struct {
	dir, file   string
	address     string // of HAProxy
	entries     []string
	here, there int // the indexes of the services with a program
	c           *Controller
	checks      atomic.Bool // whether haproxy -c checks configurations
	sources     []*benchCluster
	attempts    chan Attempt
	client      http.Client
	stop        func() // ends Controller.Run
}

// benchCluster is a ClusterSource that publishes the states that it gets from its channel.
type benchCluster struct {
	tracker *nodeselect.Tracker
	nodes   []*corev1.Node
	state   ClusterState // the first one
	states  chan ClusterState
}

func (*benchCluster) SetRefs([]nodeselect.Ref) {}

func (s *benchCluster) Read(context.Context, Start) (ClusterState, error) { return <-s.states, nil }

func (s *benchCluster) Follow(ctx context.Context, _ Start, publish func(ClusterState)) error {
	for {
		select {
		case state := <-s.states:
			publish(state)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// update returns the state of the cluster after a change.
func (s *benchCluster) update(d nodeselect.Delta) ClusterState {
	selection, _ := s.tracker.Update(d, time.Now())
	return ClusterState{Synced: true, Objects: s.tracker.Objects(), Selection: &selection}
}

// benchEntry returns an entry of the file with routes. It leads to service number n.
func benchEntry(host string, n int, more string) string {
	namespace, name := manifesttest.ServiceName(n)
	return fmt.Sprintf("- host: %s\n  path: /api\n  backends:\n  - {cluster: eu-%d, namespace: %s, service: %s, port: http}\n%s",
		host, n%benchClusters+1, namespace, name, more)
}

func newBenchFleet(b *testing.B) *benchFleet {
	dir := haproxytest.Dir(b)
	f := &benchFleet{
		dir: dir, file: filepath.Join(b.TempDir(), "routes.yaml"), here: 0, there: benchClusters,
		address:  fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(b, 1)[0]),
		attempts: make(chan Attempt, 100),
	}
	transport := &http.Transport{DisableKeepAlives: true} // the old worker may serve a kept connection after a reload
	b.Cleanup(transport.CloseIdleConnections)
	f.client = http.Client{Transport: transport, Timeout: time.Minute}

	services := manifesttest.Services(benchServices)
	for _, svc := range services {
		delete(svc.Annotations, "headgate.dev/agent-port") // 20,000 agents need more descriptors than many systems allow
	}
	for name, n := range map[string]int{"here": f.here, "there": f.there} {
		services[n].Spec.Ports[0].NodePort = int32(listen(b, name))
	}
	for i := range benchRoutes {
		f.entries = append(f.entries, benchEntry(fmt.Sprintf("s%d.example.com", i), i%benchServices, ""))
	}
	f.write(b, f.entries)

	master := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket)}
	reloader := deploy.Reloader{Master: master}
	running := false
	f.c = &Controller{
		Routes: &RouteFiles{Names: []string{f.file}},
		Builder: kube.Builder{
			Selector: nodeselect.Selector{Size: 20, Address: nodeselect.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
			Edge: edge.Edge{
				HTTP: []haproxycfg.Bind{{Address: f.address}},
				Global: haproxycfg.Global{
					StatsSocket: filepath.Join(dir, haproxytest.StatsSocket), Version: configtest.Version(b), MaxConn: 100,
				},
				CheckInterval: time.Hour, AgentInterval: time.Hour, // the nodes have no agents
			},
		},
		Dir: &deploy.Dir{
			Path: dir,
			Reload: func(ctx context.Context) error {
				if !running {
					return nil
				}
				return reloader.Reload(ctx)
			},
			ReplaceMaps: reloader.ReplaceMaps, CompareMaps: reloader.CompareMaps,
		},
		Limit:       func(*Change) error { return nil },
		MinInterval: time.Millisecond, MaxInterval: time.Millisecond, MaxOldWorkers: -1,
		Attempted: func(a Attempt) { f.attempts <- a },
	}
	check := deploy.Checker{Haproxy: haproxytest.Binary(b)}.Check
	f.c.Dir.Check = func(ctx context.Context, config haproxycfg.Valid) error {
		if !f.checks.Load() {
			return nil
		}
		return check(ctx, config)
	}
	declared, err := f.c.Routes.Read()
	require.NoError(b, err)
	require.Empty(b, declared.Problems)
	for i := range benchClusters {
		name := fmt.Sprintf("eu-%d", i+1)
		s := &benchCluster{tracker: nodeselect.NewTracker(f.c.Builder.NodeSelector(), nil), nodes: manifesttest.Nodes(benchNodes), states: make(chan ClusterState, 1)}
		delta := nodeselect.Delta{Nodes: map[string]*corev1.Node{}, Services: map[string]*corev1.Service{}, Refs: kube.Refs(declared.Table)[name]}
		for j, n := range s.nodes {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("127.%d.%d.%d", i+1, j/200, j%200+1)}}
			delta.Nodes[n.Name] = n
		}
		for _, svc := range services {
			delta.Services[svc.Namespace+"/"+svc.Name] = svc
		}
		s.state = s.update(delta)
		s.states <- s.state
		f.sources = append(f.sources, s)
		f.c.Clusters = append(f.c.Clusters, Cluster{Name: name, Source: s})
	}

	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- f.c.Run(ctx) }()
	f.stop = sync.OnceFunc(func() { cancel(); require.NoError(b, <-done) })
	b.Cleanup(f.stop)
	require.Equal(b, Written, f.next(b).Outcome)
	haproxytest.StartMaster(b, dir, f.config(b))
	running = true
	f.await(b, "s0.example.com", "here")
	return f
}

// listen starts a program that answers each request with the text. It returns the port, which is
// the same on all addresses of this machine.
func listen(b *testing.B, text string) (port int) {
	l, err := net.Listen("tcp", ":0")
	require.NoError(b, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	b.Cleanup(server.Close)
	return l.Addr().(*net.TCPAddr).Port
}

func (f *benchFleet) config(b *testing.B) string {
	text, err := os.ReadFile(filepath.Join(f.dir, haproxytest.ConfigFile))
	require.NoError(b, err)
	return string(text)
}

// write replaces the file with routes, as an editor or kubelet does. It returns the time just
// before the new content is at its place.
func (f *benchFleet) write(b *testing.B, entries []string) time.Time {
	require.NoError(b, os.WriteFile(f.file+".new", []byte("routes:\n"+strings.Join(entries, "")), 0o600))
	event := time.Now()
	require.NoError(b, os.Rename(f.file+".new", f.file))
	return event
}

// next returns the next attempt.
func (f *benchFleet) next(b *testing.B) Attempt {
	select {
	case a := <-f.attempts:
		require.NoError(b, a.Err)
		return a
	case <-time.After(time.Minute):
		require.FailNow(b, "no attempt within a minute")
		return Attempt{}
	}
}

// await sends requests to HAProxy until the answer has the text, and returns the time of this
// answer.
func (f *benchFleet) await(b *testing.B, host, text string) time.Time {
	deadline := time.Now().Add(time.Minute)
	for {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+f.address+"/api", nil)
		require.NoError(b, err)
		request.Host = host
		response, err := f.client.Do(request)
		require.NoError(b, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(b, err)
		require.NoError(b, response.Body.Close())
		now := time.Now()
		if strings.TrimSpace(string(body)) == text {
			return now
		}
		require.Less(b, now, deadline, "%s answers %d %s", host, response.StatusCode, body)
		time.Sleep(time.Millisecond) // leave the processors to HAProxy and the Controller
	}
}

// benchTimes collects the times from events to effects.
type benchTimes []time.Duration

func (t benchTimes) report(b *testing.B) {
	slices.Sort(t)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // a loop contains more than the time until the effect
	b.ReportMetric(ms(t[len(t)/2]), "p50-ms")
	b.ReportMetric(ms(t[(len(t)*99+99)/100-1]), "p99-ms")
	b.ReportMetric(ms(t[len(t)-1]), "max-ms")
	const goal = 150 * time.Millisecond // the p99 of a change over the socket should be below it
	at, _ := slices.BinarySearch(t, goal+1)
	b.ReportMetric(float64(len(t)-at), "over-150ms")
}

// BenchmarkTimeToEffect measures the time from an event to its effect. The event is a rename that
// replaces the file with 10,000 routes. The effect is the answer to a request: a client sends one
// request each millisecond, on a new connection, until it gets the new answer.
//
// way=socket changes one route: it adds a host, leads the host to another service, and removes it.
// HAProxy gets these changes over its socket. way=reload changes the time-out of one route, so
// HAProxy is reloaded after a check by haproxy -c. way=haproxy-start starts an HAProxy with the same
// configuration until its socket answers, and way=haproxy-c lets haproxy -c check the configuration.
func BenchmarkTimeToEffect(b *testing.B) {
	const absent = "404 not found"
	f := newBenchFleet(b)
	b.Run("routes=10000/way=socket", func(b *testing.B) {
		middle, host := benchRoutes/2, "new.example.com"
		var times benchTimes
		for i := 0; b.Loop(); i++ {
			time.Sleep(200 * time.Millisecond) // the event comes after a quiet time
			entries, want := slices.Clone(f.entries), absent
			switch i % 3 {
			case 0:
				entries, want = slices.Insert(entries, middle, benchEntry(host, f.here, "")), "here"
			case 1:
				entries, want = slices.Insert(entries, middle, benchEntry(host, f.there, "")), "there"
			}
			event := f.write(b, entries)
			times = append(times, f.await(b, host, want).Sub(event))
			attempt := f.next(b)
			for ; attempt.Outcome == Unchanged; attempt = f.next(b) { // Run repeats its attempt every 30 s
			}
			require.Equal(b, Written, attempt.Outcome)
			require.Empty(b, attempt.Effect.Reload, attempt.Effect.Detail)
		}
		times.report(b)
	})
	b.Run("routes=10000/way=reload", func(b *testing.B) {
		f.checks.Store(true)
		var times benchTimes
		for i := 0; b.Loop(); i++ {
			time.Sleep(200 * time.Millisecond)
			// A route with another time-out has a backend of its own. So the new host leads to a new
			// backend.
			host := fmt.Sprintf("new%d.example.com", i)
			entries := append(slices.Clone(f.entries), benchEntry(host, f.here, "  timeouts: {server: 7s}\n"))
			event := f.write(b, entries)
			times = append(times, f.await(b, host, "here").Sub(event))
			attempt := f.next(b)
			for ; attempt.Outcome == Unchanged; attempt = f.next(b) {
			}
			require.Equal(b, Written, attempt.Outcome)
			require.NotEmpty(b, attempt.Effect.Reload)
			f.write(b, f.entries)
			for attempt = f.next(b); attempt.Outcome == Unchanged; attempt = f.next(b) {
			}
		}
		times.report(b)
	})
	b.Run("routes=10000/way=haproxy-start", func(b *testing.B) {
		dir := haproxytest.Dir(b)
		config := strings.ReplaceAll(f.config(b), f.address, fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(b, 1)[0]))
		config = strings.ReplaceAll(config, filepath.Join(f.dir, haproxytest.StatsSocket), filepath.Join(dir, haproxytest.StatsSocket))
		require.NoError(b, os.WriteFile(filepath.Join(dir, haproxytest.ConfigFile), []byte(config), 0o600))
		var times benchTimes
		for b.Loop() {
			begin := time.Now()
			p, err := haproxyproc.Start(b.Context(), haproxyproc.Options{
				Path: haproxytest.Binary(b), Config: filepath.Join(dir, haproxytest.ConfigFile), Dir: dir,
				StatsSocket: filepath.Join(dir, haproxytest.StatsSocket), ReadyTimeout: time.Minute,
			})
			require.NoError(b, err)
			times = append(times, time.Since(begin))
			p.Stop()
		}
		times.report(b)
	})
	b.Run("routes=10000/way=haproxy-c", func(b *testing.B) {
		var times benchTimes
		for b.Loop() {
			begin := time.Now()
			out, err := exec.CommandContext(b.Context(), haproxytest.Binary(b), "-c", "-f", filepath.Join(f.dir, haproxytest.ConfigFile)).CombinedOutput()
			require.NoError(b, err, "%s", out)
			times = append(times, time.Since(begin))
		}
		times.report(b)
	})
}

// BenchmarkStagesOfAChange measures the processor time that this process needs for each stage of a
// change of one route of 10,000. The stage "rest" is everything that the Controller does after the
// effect, without haproxy -c.
func BenchmarkStagesOfAChange(b *testing.B) {
	f := newBenchFleet(b)
	f.stop()
	stages := map[string]time.Duration{}
	var last time.Duration
	begin := func() { last = cpuTime(b) }
	end := func(stage string) {
		now := cpuTime(b)
		stages[stage] += now - last
		last = now
	}
	replace := f.c.Dir.ReplaceMaps
	f.c.Dir.ReplaceMaps = func(ctx context.Context, maps []runtimeapi.MapContent) error {
		end("files")
		err := replace(ctx, maps)
		end("socket")
		return err
	}
	in := inputs{clusters: make([]cluster, len(f.sources))}
	for i, s := range f.sources {
		in.clusters[i] = cluster{name: f.c.Clusters[i].Name, ClusterState: s.state}
	}
	var parser routes.Parser
	a := newApplier(f.c, f.c.logger())
	change := func(i int) Attempt {
		entries := f.entries
		if i%2 == 0 {
			entries = slices.Insert(slices.Clone(entries), benchRoutes/2, benchEntry("new.example.com", f.here, ""))
		}
		f.write(b, entries)
		begin()
		data, err := os.ReadFile(f.file)
		require.NoError(b, err)
		table, problems := parser.Parse(f.file, data)
		require.Empty(b, problems)
		in.routes = Declarations{Table: table}
		f.c.setRefs(Declarations{Table: table})
		end("parse")
		by, err := f.c.orders()
		require.NoError(b, err)
		built, err := f.c.build(in, by, a.report, time.Now())
		require.NoError(b, err)
		end("build")
		plan, err := f.c.Dir.Plan(built.Config)
		require.NoError(b, err)
		end("render")
		plan.Losses(nil)
		end("losses")
		attempt := a.apply(b.Context(), in, time.Now(), never)
		end("rest")
		require.NoError(b, attempt.Err)
		require.Empty(b, attempt.Effect.Reload)
		return attempt
	}
	change(0)
	change(1)
	clear(stages)
	for i := 0; b.Loop(); i++ {
		require.Equal(b, Written, change(i).Outcome)
	}
	// "files" contains the stages of the plan too, because apply plans again.
	stages["files"] -= stages["build"] + stages["render"] + stages["losses"]
	total := time.Duration(0)
	for stage, d := range stages {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), stage+"-cpu-ms")
		if stage != "rest" {
			total += d
		}
	}
	b.ReportMetric(float64(total.Microseconds())/1000/float64(b.N), "effect-cpu-ms")
	b.ReportMetric(0, "ns/op")
}

// cpuTime returns the processor time that this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
