package edge_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// runtimeEdge is an HAProxy in master-worker mode that a deploy.Dir configures.
type runtimeEdge struct {
	*world
	edge    edge.Edge
	deploy  *deploy.Dir
	master  runtimeapi.Socket
	process bool // HAProxy runs
	crashed bool // HAProxy has been reloaded, but not by an Apply, since the last reload by an Apply
}

func newRuntimeEdge(t testing.TB) *runtimeEdge {
	w := newWorld(t)
	w.frontend = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	state := filepath.Join(w.dir, "state")
	require.NoError(t, os.WriteFile(state, []byte("1\n"), 0o600))
	f := &runtimeEdge{world: w, master: runtimeapi.Socket{Path: filepath.Join(w.dir, haproxytest.MasterSocket)}}
	f.edge = edge.Edge{
		HTTP: []haproxycfg.Bind{{Address: w.frontend}}, NodeAgentPort: uint16(w.nodeAgent), Closable: true,
		Global: haproxycfg.Global{StatsSocket: w.stats.Path, StateFile: state, Version: configtest.Version(t), MaxConn: 100},
	}
	reloader := deploy.Reloader{Master: f.master, StateFile: state, Config: filepath.Join(w.dir, haproxytest.ConfigFile)}
	f.deploy = &deploy.Dir{
		Path: w.dir, Check: deploy.Checker{Haproxy: haproxytest.Binary(t)}.Check,
		Reload: func(ctx context.Context) error {
			if !f.process {
				return nil // the first configuration, before HAProxy starts
			}
			return reloader.Reload(ctx)
		},
		Redirect: reloader.Redirect, SetMap: reloader.SetMap, ReplaceMaps: reloader.ReplaceMaps, CompareMaps: reloader.CompareMaps,
	}
	return f
}

// runtimeService returns an Upstream with servers on ports of 127.0.0.1. Nobody listens on these
// ports.
func runtimeService(name string, ports ...int) edge.Upstream {
	u := edge.Upstream{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: name, Port: "http"}, Servers: []netip.AddrPort{}}
	for _, port := range ports {
		u.Servers = append(u.Servers, netip.AddrPortFrom(node(1).Addr, uint16(port)))
	}
	return u
}

func runtimeRoute(host, path string, weights map[string]int) routes.Route {
	r := routes.Route{Host: host, Path: path}
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		r.Backends = append(r.Backends, routes.Backend{Ref: runtimeService(name).Ref, Weight: weights[name]})
	}
	return r
}

func to(name string) map[string]int { return map[string]int{name: 100} }

// apply applies a configuration, and starts HAProxy after the first one.
func (f *runtimeEdge) apply(upstreams []edge.Upstream, declared ...routes.Route) deploy.Effect {
	f.t.Helper()
	table, problems := routes.New(declared...)
	require.Empty(f.t, problems)
	config, faults := f.edge.Config(table, upstreams)
	require.Empty(f.t, faults)
	plan, err := f.deploy.Plan(config)
	require.NoError(f.t, err)
	reloads := plan.Reloads()
	_, err = plan.Apply(f.t.Context())
	require.NoError(f.t, err)
	switch reason := plan.Effect().Reload; {
	case reason == deploy.ReloadSocket:
	case reason == deploy.ReloadServers && f.crashed && !reloads: // Reloads did not ask HAProxy, see its comment
	default:
		require.Equal(f.t, reloads, reason != "", "%+v", plan.Effect())
	}
	f.crashed = f.crashed && plan.Effect().Reload == ""
	if !f.process {
		text, err := os.ReadFile(filepath.Join(f.dir, haproxytest.ConfigFile))
		require.NoError(f.t, err)
		haproxytest.StartMaster(f.t, f.dir, string(text))
		f.process = true
		f.deploy.Runtime = &deploy.Runtime{Stats: f.stats, Master: f.master, ChangedOnly: true, Wait: time.Millisecond}
	}
	return plan.Effect()
}

// worker returns the process ID of the worker that serves new connections.
func (f *runtimeEdge) worker() string {
	f.t.Helper()
	socket, err := (&deploy.Runtime{Master: f.master}).Worker(f.t.Context())
	require.NoError(f.t, err)
	return socket.Worker
}

// agree requires that the running worker has the maps, backends, servers and certificates of the
// files.
func (f *runtimeEdge) agree() {
	f.t.Helper()
	worker, err := (&deploy.Runtime{Master: f.master}).Worker(f.t.Context())
	require.NoError(f.t, err)
	text, err := os.ReadFile(filepath.Join(f.dir, haproxytest.ConfigFile))
	require.NoError(f.t, err)
	files, err := filepath.Glob(filepath.Join(f.dir, "maps", "*.map"))
	require.NoError(f.t, err)
	checked := 0
	for _, file := range files {
		if !strings.Contains(string(text), file) || strings.HasPrefix(filepath.Base(file), edge.CertificateList+"-") {
			continue // the file belongs to the last good configuration, or to agreeCertificates
		}
		checked++
		want, err := os.ReadFile(file)
		require.NoError(f.t, err)
		entries, err := worker.Map(f.t.Context(), file)
		require.NoError(f.t, err)
		var lines []string
		for _, e := range entries {
			lines = append(lines, e.Key+" "+e.Value)
		}
		slices.Sort(lines)
		require.Equal(f.t, strings.Fields(string(want)), strings.Fields(strings.Join(lines, "\n")), file)
	}
	require.GreaterOrEqual(f.t, checked, 4, "exact, prefix, hosts and close")
	f.agreeCertificates(worker, string(text))
	var want, got, backends []string
	backend := ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) > 1 && words[0] == "backend" {
			backend = words[1]
			backends = append(backends, backend)
		}
		if len(words) > 2 && words[0] == "server" && words[len(words)-1] != "disabled" {
			weight := "1"
			if i := slices.Index(words, "weight"); i > 0 {
				weight = words[i+1]
			}
			want = append(want, backend+"/"+words[1]+" "+words[2]+" "+weight)
		}
	}
	actual, err := worker.Actual(f.t.Context())
	require.NoError(f.t, err)
	require.ElementsMatch(f.t, backends, actual.Backends)
	for _, s := range actual.Servers {
		row := fmt.Sprintf("%s/%s %s %d", s.Backend, s.Name, s.Addr, s.InitialWeight)
		if s.Agent&runtimeapi.CheckConfigured == 0 {
			row = fmt.Sprintf("%s/%s %s %d", s.Backend, s.Name, s.Addr, s.Weight)
		}
		if s.Admin&runtimeapi.ForcedMaint != 0 && !slices.Contains(want, row) {
			continue // HAProxy cannot delete the server yet, and sends it no requests
		}
		require.Zero(f.t, s.Admin&runtimeapi.ForcedMaint, "%+v", s)
		got = append(got, row)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(f.t, want, got)
}

// TestRuntimeChanges contains a test for each cell of the table in README.md, for the haproxy on
// PATH.
func TestRuntimeChanges(t *testing.T) {
	t.Parallel()
	const socket = deploy.ReloadReason("")
	ports := haproxytest.Ports(t, 4)
	base := []edge.Upstream{runtimeService("web", ports[0], ports[3]), runtimeService("api", ports[1])}
	web, api := runtimeRoute("www.example.com", "/", to("web")), runtimeRoute("api.example.com", "/v1", to("api"))
	split := runtimeRoute("split.example.com", "/", map[string]int{"web": 90, "api": 10})
	weighted := func(host string, web, api int) routes.Route {
		return runtimeRoute(host, "/", map[string]int{"web": web, "api": api})
	}
	shared := newRuntimeEdge(t)
	backends := deploy.ReloadBackends // for a change of backends
	if shared.edge.Global.Version.AtLeast(3, 4) {
		backends = socket
	}
	limited := runtimeRoute("new.example.com", "/", to("web"))
	limited.Limits.Requests = 10
	slow := runtimeRoute("new.example.com", "/", to("web"))
	slow.Timeouts.Server = time.Minute
	for _, tt := range []struct {
		name      string
		upstreams []edge.Upstream
		declared  []routes.Route
		want      deploy.ReloadReason
	}{
		{"new host", base, []routes.Route{web, api, split, runtimeRoute("new.example.com", "/", to("web"))}, socket},
		{"new wildcard host", base, []routes.Route{web, api, split, runtimeRoute("*.example.com", "/", to("web"))}, socket},
		{"new path", base, []routes.Route{web, api, split, runtimeRoute("www.example.com", "/v1", to("api"))}, socket},
		{"route to another service", base, []routes.Route{runtimeRoute("www.example.com", "/", to("api")), api, split, runtimeRoute("old.example.com", "/", to("web"))}, socket},
		{"exact instead of prefix", base, []routes.Route{web, {Host: api.Host, Path: api.Path, Exact: true, Backends: api.Backends}, split}, socket},
		{"host gone", base, []routes.Route{web, split, runtimeRoute("other.example.com", "/", to("api"))}, socket},
		{"path that is no word", base, []routes.Route{web, api, split, runtimeRoute("www.example.com", "/a;b", to("api"))}, deploy.ReloadSocket},
		{"new service", append(slices.Clone(base), runtimeService("new", ports[2])), []routes.Route{web, api, split, runtimeRoute("new.example.com", "/", to("new"))}, backends},
		{"service gone", base, []routes.Route{runtimeRoute("www.example.com", "/", to("api")), api, split}, backends},
		{"new service with other settings", base, []routes.Route{web, api, split, slow}, deploy.ReloadBackends},
		{"new service with limits", base, []routes.Route{web, api, split, limited}, deploy.ReloadBackends},
		{"new server", []edge.Upstream{runtimeService("web", ports[0], ports[2], ports[3]), base[1]}, []routes.Route{web, api, split}, socket},
		{"server gone", []edge.Upstream{runtimeService("web", ports[0]), base[1]}, []routes.Route{web, api, split}, socket},
		{"new port of a server", []edge.Upstream{runtimeService("web", ports[0], ports[2]), base[1]}, []routes.Route{web, api, split}, socket},
		{"new weight of a split", base, []routes.Route{web, api, runtimeRoute("split.example.com", "/", map[string]int{"web": 50, "api": 50})}, socket},
		{"a weight becomes 0", base, []routes.Route{web, api, weighted("split.example.com", 100, 0)}, socket},
		{"second ratio of weights", base, []routes.Route{web, api, split, weighted("other.example.com", 50, 50)}, socket},
		{"weight of the only service", base, []routes.Route{runtimeRoute("www.example.com", "/", map[string]int{"web": 0}), api, split}, backends},
		{"third ratio of weights", base, []routes.Route{web, api, split, weighted("other.example.com", 50, 50), weighted("more.example.com", 30, 70)}, backends},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			f := shared
			if tt.want != socket {
				t.Parallel()
				f = newRuntimeEdge(t)
				f.deploy.Check = nil // to save time
			}
			f.apply(base, web, api, split)
			before := f.worker()
			e := f.apply(tt.upstreams, tt.declared...)
			require.Equal(t, tt.want, e.Reload, e.Detail)
			require.Equal(t, tt.want == socket, f.worker() == before, "the same worker")
			f.agree()
			if tt.want != socket {
				return // an old worker may accept a connection just after a reload
			}
			for _, r := range tt.declared {
				status, _ := newClient(t, f.frontend).get(strings.Replace(r.Host, "*", "any", 1), r.Path)
				require.Equal(t, 503, status, "%s: no server listens, but the route exists", r.Name())
			}
			status, _ := newClient(t, f.frontend).get("unknown.example.org", "/")
			require.Equal(t, 404, status)
		})
	}
}

// TestShiftWithoutAReload changes the share of a shift.
func TestShiftWithoutAReload(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 2)
	east, west := runtimeService("web", ports[0]), runtimeService("web", ports[1])
	west.Ref.Cluster = "eu-2"
	r := routes.Route{Host: "www.example.com", Path: "/", Shift: true, Backends: []routes.Backend{{Ref: east.Ref, Weight: 100}, {Ref: west.Ref}}}
	f := newRuntimeEdge(t)
	f.apply([]edge.Upstream{east, west}, r)
	before := f.worker()
	f.edge.Shares = map[string]edge.Share{r.Name(): {Cluster: "eu-2", Points: 2500}}
	require.Equal(t, deploy.Effect{Maps: 1}, f.apply([]edge.Upstream{east, west}, r))
	require.Equal(t, before, f.worker())
	f.agree()
}

// TestRandomChanges applies random changes of routes, services, servers and certificates, also of
// several kinds together. After each change, the worker has the maps, backends, servers and
// certificates of the files. After some changes, the test also reloads HAProxy. The new worker must
// then have the same maps, backends, servers and certificates.
//
// The test makes 16 changes. With HEADGATE_RELOADS, it makes four times that number.
func TestRandomChanges(t *testing.T) {
	t.Parallel()
	changes := 16
	if text := os.Getenv("HEADGATE_RELOADS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		changes = 4 * n
	}
	random := rand.New(rand.NewPCG(1, 2))
	ports := haproxytest.Ports(t, 3)
	services := []string{"web", "api", "img"}
	upstreams := []edge.Upstream{
		runtimeService("web", ports[0]), runtimeService("api", ports[1]), onNodes("img", ports[0], ports[1], 1, 2),
		runtimeService("own0", ports[0], ports[1]), runtimeService("own1", ports[2]),
	}
	weights := [2]int{100, 10} // of two routes to the services web and img
	declared := map[string]string{"h0.example.com": "web", "h1.example.com": "api", "h2.example.com": "img"}
	f := newRuntimeEdge(t)
	f.deploy.Check = nil // to save time
	f.withHTTPS()
	f.edge.SpareNodes = 1
	f.edge.Certificates = []haproxycfg.Certificate{renewed(t, 0, "fixed.example.com"), renewed(t, 0, "*.example.com")}
	apply := func() deploy.Effect {
		var all []routes.Route
		for i, name := range services { // so that the backends of these services stay
			all = append(all, runtimeRoute("fixed.example.com", "/"+strconv.Itoa(i), to(name)))
		}
		for i, weight := range weights {
			all = append(all, runtimeRoute("split.example.com", "/"+strconv.Itoa(i), map[string]int{"web": 100, "img": weight}))
		}
		for host, name := range declared {
			path := "/"
			if strings.HasSuffix(host, "1.example.com") {
				path = "/p"
			}
			r := runtimeRoute(host, path, to(name))
			r.Exact = path != "/" && len(declared)%2 == 0
			all = append(all, r)
		}
		return f.apply(upstreams, all...)
	}
	apply()
	socket, reloads, changed, added, changedBackends := 0, 0, 0, 0, 0
	for i := range changes {
		want := deploy.ReloadReason("")
		certificates := slices.Clone(f.edge.Certificates)
		switch n := random.IntN(20); {
		case n >= 16: // a service appears or disappears, sometimes together with the servers of another one
			host := fmt.Sprintf("own%d.example.com", random.IntN(4))
			if _, ok := declared[host]; ok {
				delete(declared, host)
			} else {
				declared[host] = "own" + strconv.Itoa(random.IntN(2))
			}
			if n == 19 {
				upstreams[0] = runtimeService("web", ports[:1+random.IntN(len(ports))]...)
			}
			if !f.addsBackends() {
				want = deploy.ReloadBackends
			}
			changedBackends++
		case n < 2: // servers of a service, sometimes together with the next kind of change
			k := random.IntN(2)
			upstreams[k] = runtimeService(services[k], ports[:1+random.IntN(len(ports))]...)
			if n == 0 {
				declared[fmt.Sprintf("h%d.example.com", random.IntN(30))] = services[k]
			}
		case n < 4: // the node port or the nodes of a service
			nodes := random.Perm(6)[:1+random.IntN(2)]
			for i := range nodes {
				nodes[i]++
			}
			upstreams[2] = onNodes("img", ports[random.IntN(2)], ports[1], nodes...)
			want = deploy.ReloadServers // for a new node, if there is no spare server
		case n == 4: // the weights of a route
			weights[random.IntN(2)] = []int{0, 10, 50, 100}[random.IntN(4)]
		case n >= 12: // a new certificate, a renewed one, or one less, sometimes together with a new host
			if k := random.IntN(len(certificates) + 1); k == 0 && len(certificates) > 2 && n == 12 {
				certificates = slices.Delete(certificates, 2, 3)
			} else if k < len(certificates) {
				certificates[k] = renewed(t, 5000*random.IntN(2), certificates[k].Names...)
			} else {
				added++ // a second certificate for the same host could need a reload
				certificates = append(certificates, renewed(t, 0, fmt.Sprintf("c%d.example.com", added)))
			}
			if n == 15 {
				declared[fmt.Sprintf("c%d.example.com", random.IntN(10))] = services[random.IntN(len(services))]
			}
			f.edge.Certificates = certificates
		case n < 8 && len(declared) > 1:
			hosts := slices.Sorted(maps.Keys(declared))
			host := hosts[random.IntN(len(hosts))]
			delete(declared, host)
			if strings.HasPrefix(host, "own") && !f.addsBackends() {
				want = deploy.ReloadBackends // for the last host of its service
			}
		default:
			declared[fmt.Sprintf("h%d.example.com", random.IntN(30))] = services[random.IntN(len(services))]
		}
		before := f.worker()
		e := apply()
		require.Contains(t, []deploy.ReloadReason{"", want}, e.Reload, "change %d: %s", i, e.Detail)
		require.Equal(t, e.Reload == "", f.worker() == before, "change %d", i)
		f.agree()
		if e.Reload != "" {
			reloads++
		} else if e.OverSocket() {
			socket++
			changed += e.Certificates
			if random.IntN(6) == 0 { // as after a crash of HAProxy
				require.NoError(t, f.deploy.Reload(t.Context()))
				f.crashed = true
				f.agree()
			}
		}
	}
	require.NotZero(t, socket)
	require.NotZero(t, changed)
	require.NotZero(t, changedBackends)
	t.Logf("%d changes over the socket, with %d certificates and %d of services, and %d by a reload", socket, changed, changedBackends, reloads)
}
