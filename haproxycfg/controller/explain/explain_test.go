package explain_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const declared = `routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http, weight: 100}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
- host: api.example.com
  path: /exact
  exact: true
  backends: [{cluster: eu-1, namespace: media, service: tracks, port: http}]
- host: "*.example.com"
  backends: [{cluster: eu-3, namespace: media, service: tracks, port: http}]
`

func tableOf(t testing.TB, text string) routes.Table {
	t.Helper()
	table, problems := routes.Parse("routes.yaml", []byte(text))
	require.Empty(t, problems)
	return table
}

func newNode(name, addr string, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
	for _, change := range changes {
		change(n)
	}
	return n
}

func notReady(n *corev1.Node) {
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}
}

func excluded(n *corev1.Node) { n.Labels = map[string]string{nodeselect.ExcludeLabel: ""} }

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func tracks(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "tracks", Annotations: map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "50"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// clusters returns eu-1 with nodes of every kind, and eu-2 with one node.
func clusters(changes ...func(*corev1.Service)) []kube.Cluster {
	services := []*corev1.Service{tracks(changes...)}
	return []kube.Cluster{
		{Name: "eu-1", Objects: nodeselect.NewObjects([]*corev1.Node{
			newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2", cordoned), newNode("c", "10.0.0.3", notReady),
			newNode("d", "10.0.0.4", excluded), newNode("e", "169.254.0.1"),
		}, services)},
		{Name: "eu-2", Objects: nodeselect.NewObjects([]*corev1.Node{newNode("z", "10.1.0.1")}, services)},
	}
}

var builder = kube.Builder{
	Edge:     edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}, Global: haproxycfg.Global{StatsSocket: "/run/stats.sock"}},
	Selector: nodeselect.Selector{Size: 1},
}

func input(t testing.TB, text string, clusters []kube.Cluster) explain.Input {
	table := tableOf(t, text)
	_, report := builder.Build(table, clusters, now)
	report.Applied = &kube.Applied{ID: "0123abcd", Time: now}
	return explain.Input{Time: now, Builder: builder, Table: table, Clusters: clusters, Report: report}
}

func explained(t testing.TB, in explain.Input, target string) (explain.Explanation, string) {
	t.Helper()
	parsed, err := explain.ParseTarget(target)
	require.NoError(t, err)
	e := explain.Explain(in, parsed)
	return e, string(e.AppendText(nil))
}

// TestExplainAgreesWithTheConfiguration: the backends, servers, weights and tracked servers in an
// Explanation are those of the whole configuration.
func TestExplainAgreesWithTheConfiguration(t *testing.T) {
	for _, text := range []string{declared, `routes:
- host: api.example.com
  path: /tracks
  shift: true
  check: {path: /health}
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http, weight: 100}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 0}
`} {
		in := input(t, text, clusters())
		if in.Table.Routes()[0].Shift {
			in.Builder.Edge.Shares = map[string]edge.Share{"api.example.com/tracks": {Cluster: "eu-2", Points: 2500}}
		}
		config, _ := in.Builder.Build(in.Table, in.Clusters, now)
		e, output := explained(t, in, "api.example.com/tracks/1")
		require.NotEmpty(t, e.Backends, output)
		got := map[string]int{}
		for _, s := range e.Services {
			for _, n := range s.Nodes {
				for _, x := range n.Servers {
					got[x.Backend+"/"+x.Name+" "+x.Track] = x.Weight
				}
			}
		}
		want := map[string]int{}
		for _, b := range e.Backends {
			for _, backend := range config.Backends {
				if backend.Name != b.Name {
					continue
				}
				require.Len(t, backend.Servers, b.Servers)
				for _, s := range backend.Servers {
					want[b.Name+"/"+s.Name()+" "+s.Track] = max(s.Weight, 0)
				}
			}
		}
		require.Equal(t, want, got, output)
	}
}

const preferring = `routes:
- host: api.example.com
  path: /tracks
  shift: true
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
  prefer:
  - {region: eu, clusters: [eu-1, eu-2]}
  - {region: us, clusters: [eu-2]}
  - {region: mars, clusters: [eu-2]}
  - {clusters: [eu-2, eu-1]}
`

// TestPreferences explains which cluster serves the clients of which region, and why.
func TestPreferences(t *testing.T) {
	in := input(t, preferring, clusters())
	in.Builder.Edge.Regions.Regions = []routes.Region{{Name: "eu"}, {Name: "us"}}
	e, text := explained(t, in, "api.example.com/tracks")
	require.Contains(t, text, "prefer: clients of the region eu: eu-1 (1 server, at least 1 must be usable), then eu-2 (1 server, at least 1 must be usable)\n")
	require.NotContains(t, text, "serves them", "HAProxy has not answered")
	require.Contains(t, text, `"mars" is not a region of the edge`)
	require.Len(t, e.Route.Prefer, 3)
	require.Len(t, e.Backends, 3, "all servers, and one backend for each cluster")
	near, far := e.Route.Prefer[1].Clusters[0], e.Route.Prefer[1].Clusters[1]
	require.Subset(t, e.AskBackends(), []string{near.Backend, far.Backend})
	for _, tt := range []struct{ near, far, eu, us string }{
		{"UP", "UP", "Now eu-1 serves them", "Now eu-2 serves them"},
		{"DRAIN (agent)", "UP", "Now eu-2 serves them", "Now eu-2 serves them"},
		{"DOWN", "DOWN", "Now no cluster has enough servers", "Now no cluster has enough servers"},
		{"", "UP", `usable\)\n`, "Now eu-2 serves them"},
	} {
		e, _ := explained(t, in, "api.example.com/tracks")
		var stats []runtimeapi.Stat
		for backend, status := range map[string]string{near.Backend: tt.near, far.Backend: tt.far} {
			if status != "" {
				stats = append(stats, runtimeapi.Stat{Proxy: backend, Server: "s", Status: status, Weight: 100})
			}
		}
		e.AddStats(stats)
		text := string(e.AppendText(nil))
		require.Regexp(t, "prefer: clients of the region eu: .*"+tt.eu, text)
		require.Regexp(t, "prefer: clients of the region us: .*"+tt.us, text)
	}
	in.Builder.Edge.Shares = map[string]edge.Share{"api.example.com/tracks": {Cluster: "eu-2", Points: 2500}}
	e, text = explained(t, in, "api.example.com/tracks")
	require.Empty(t, e.Route.Prefer, "a shift has precedence")
	require.Contains(t, text, "shift: 25% of the requests go to eu-2")
}

func TestExplainText(t *testing.T) {
	in := input(t, declared, clusters())
	in.Report.Changes = &kube.Changes{Time: now, Causes: []kube.Cause{{Cluster: "eu-1", Object: "Node a", What: "added"}}}
	e, text := explained(t, in, "https://API.example.com:8443/tracks/1?x=1")
	for _, part := range []string{
		"api.example.com/tracks/1\n  route: api.example.com/tracks, declared at routes.yaml:2, protocol http1\n",
		"in force: yes, configuration 0123abcd since 2026-05-01T12:00:00Z",
		"backend: " + e.Backends[0].Name + ": 2 servers, all requests",
		"last change: 2026-05-01T12:00:00Z: eu-1: Node a: added",
		"service eu-1/media/tracks:http: declared weight 100, 66.67% of the requests, node port 30080, agent port 9801, weight of its annotation 50%\n",
		"      server " + e.Backends[0].Name + "/10.0.0.", ":30080-9801, weight 100\n",
		"        has the health of nodes.eu-1/10.0.0.",
		"c 10.0.0.3: avoided: not ready", "d 10.0.0.4: excluded: label node.kubernetes.io", "    e: unusable: ",
		"service eu-2/media/tracks:http: declared weight 50, 33.33% of the requests",
	} {
		require.Contains(t, text, part)
	}
	require.Regexp(t, `not selected by the hash.*rank 2 of 2|1 node not selected by the hash, with their ranks:\n      [ab] \(2\)`, text)
	data, err := json.Marshal(e)
	require.NoError(t, err)
	var again explain.Explanation
	require.NoError(t, json.Unmarshal(data, &again))
	require.Equal(t, string(again.AppendText(nil)), text)
}

func TestNoRoute(t *testing.T) {
	in := input(t, declared, clusters())
	in.Report.Problems = append(in.Report.Problems, kube.Problem{File: "routes.yaml", Line: 9, Message: `"other.test" is wrong`})
	for target, want := range map[string]string{
		"api.example.com/other":    "api.example.com has 2 paths, and none of them covers /other: /exact (exact), /tracks; *.example.com does not count",
		"api.example.com/exact/":   "none of them covers /exact/",
		"other.test":               "no route declares other.test",
		"api.example.com/a/../b":   "HAProxy answers 400",
		"a.b.example.com/tracks":   "no route declares a.b.example.com",
		"api.example.com/a%2e%2e/": "none of them covers",
	} {
		e, text := explained(t, in, target)
		require.Nil(t, e.Route, target)
		require.Contains(t, e.NoRoute, want, target)
		require.Contains(t, text, "route: none. HAProxy answers 40")
		require.Equal(t, target == "other.test", len(e.Problems) == 1, "%v", e.Problems)
	}
	e, _ := explained(t, in, "www.example.com/x")
	require.Equal(t, "*.example.com/", e.Route.Name)
	e, _ = explained(t, in, "*.example.com/x")
	require.Equal(t, "*.example.com/", e.Route.Name)
}

// TestMissing: for each reason why a service has no servers, the Explanation names the reason.
func TestMissing(t *testing.T) {
	is := func(f func(*corev1.Service)) []kube.Cluster { return clusters(f) }
	for want, k := range map[string][]kube.Cluster{
		"the cluster is not given":                                           {},
		"the cluster has never answered: refused":                            {{Name: "eu-1", Connectivity: kube.Connectivity{State: kube.Never, Reason: "refused"}}},
		"the last known state of the cluster does not have the service port": {{Name: "eu-1", Selection: &nodeselect.Selection{}, Connectivity: kube.Connectivity{State: kube.LastKnown}}},
		"there is no such service":                                           is(func(s *corev1.Service) { s.Name = "other" }),
		"ClusterIP has no node ports":                                        is(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }),
		"port http (80) has no node port":                                    is(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }),
		`no port "http"`:                                                     is(func(s *corev1.Service) { s.Spec.Ports[0].Name = "web" }),
		"no node of the cluster can be used":                                 {{Name: "eu-1", Objects: nodeselect.NewObjects([]*corev1.Node{newNode("e", "169.254.0.1")}, []*corev1.Service{tracks()})}},
	} {
		e, text := explained(t, input(t, declared, k), "api.example.com/exact")
		require.Contains(t, e.Services[0].Missing, want)
		require.Contains(t, text, "no servers: ")
	}
	// The service is in the cluster but not in the configuration in force.
	in := input(t, declared, nil)
	in.Clusters = clusters()
	e, _ := explained(t, in, "api.example.com/exact")
	require.Contains(t, e.Services[0].Missing, "is new, and the change is not in force yet")
}

// TestLastKnown: while a cluster does not answer and its objects are unknown, the Explanation has
// the nodes and reasons of the report.
func TestLastKnown(t *testing.T) {
	in := input(t, declared, clusters())
	for i := range in.Report.Clusters {
		in.Report.Clusters[i].Connectivity = kube.Connectivity{State: kube.LastKnown, Since: now, Reason: "timeout"}
	}
	in.Clusters = nil
	e, text := explained(t, in, "api.example.com/exact")
	s := e.Services[0]
	require.Len(t, s.Nodes, 1)
	require.Len(t, s.Nodes[0].Servers, 1)
	require.Equal(t, 1, s.Unknown)
	require.Len(t, s.Unused, 3)
	require.Contains(t, text, "cluster eu-1 does not answer, and its last known state is in force, since 2026-05-01T12:00:00Z: timeout")
	require.Contains(t, text, "d: excluded: label")
	require.Contains(t, text, "1 further node for an unknown reason")

	// A node in use may have a finding.
	in.Report.Clusters[0].Findings = append([]nodeselect.Finding{{Node: s.Nodes[0].Node, Verdict: nodeselect.Avoid, Reason: "not ready"}}, in.Report.Clusters[0].Findings...)
	_, text = explained(t, in, "api.example.com/exact")
	require.Contains(t, text, "the objects of the cluster are unknown: not ready")
}

// TestNotInForce: the Explanation says what differs between HAProxy, the configuration and the
// latest declarations.
func TestNotInForce(t *testing.T) {
	in := input(t, declared, clusters())
	in.Report.Refused = &kube.Changes{Time: now, ID: "beef", Reason: "30% of the servers", Causes: []kube.Cause{{What: "w"}}}
	in.Allow = func(id string) string { return "to apply it: force " + id }
	latest := tableOf(t, `routes:
- host: api.example.com
  path: /tracks
  backends: [{cluster: eu-2, namespace: media, service: tracks, port: http}]
- host: api.example.com
  path: /new
  backends: [{cluster: eu-2, namespace: media, service: tracks, port: http}]
- host: api.example.com
  path: /tracks/long
  backends: [{cluster: eu-2, namespace: media, service: tracks, port: http}]
`)
	in.Latest = &latest
	for target, want := range map[string]string{
		"api.example.com/tracks":      "the latest declaration at routes.yaml:2 has other services or weights",
		"api.example.com/new":         "the latest declarations have the route api.example.com/new at routes.yaml:5",
		"api.example.com/tracks/long": "lead this to the route api.example.com/tracks/long at routes.yaml:8",
		"api.example.com/exact":       "the latest declarations have no route for this",
	} {
		_, text := explained(t, in, target)
		require.Contains(t, text, want)
		require.Contains(t, text, "refused change: 2026-05-01T12:00:00Z: 30% of the servers: w\n    to apply it: force beef\n")
	}
	in.Latest = nil
	in.Backend = func(string, string, bool) (string, bool) { return "", false }
	e, text := explained(t, in, "api.example.com/tracks")
	require.False(t, e.InForce)
	require.Contains(t, text, "HAProxy's files do not contain the route yet")
	in.Backend = func(string, string, bool) (string, bool) { return "longer", true }
	e, _ = explained(t, in, "api.example.com/tracks")
	require.Equal(t, "longer", e.Backends[0].Name)
	require.Equal(t, "longer", e.Services[0].Nodes[0].Servers[0].Backend)
	in.Planned = true
	e, text = explained(t, in, "api.example.com/tracks")
	require.NotEqual(t, "longer", e.Backends[0].Name)
	require.Nil(t, e.Applied)
	require.Contains(t, text, "HAProxy's files lead the route to the backend longer now")

	// A node whose address has changed keeps the server of the old address until the change is in
	// force.
	in = input(t, declared, clusters())
	in.Clusters[1].Objects = nodeselect.NewObjects([]*corev1.Node{newNode("z", "10.1.0.9")}, in.Clusters[1].Objects.Services)
	e, text = explained(t, in, "api.example.com/tracks")
	require.Equal(t, "10.1.0.1", e.Services[1].Nodes[0].Addr.String())
	require.Contains(t, text, "its address is now 10.1.0.9, and the change is not in force yet")
}

func TestSameAddress(t *testing.T) {
	k := clusters()
	k[1].Objects = nodeselect.NewObjects([]*corev1.Node{newNode("a", "10.0.0.1")}, k[1].Objects.Services)
	k[0].Objects.Nodes = k[0].Objects.Nodes[:1]
	e, text := explained(t, input(t, declared, k), "api.example.com/tracks")
	require.Len(t, e.Services[0].Nodes[0].Servers, 1)
	require.Empty(t, e.Services[1].Nodes[0].Servers)
	require.Contains(t, text, "no server: another service of the route has the same address and port")
	require.Contains(t, text, "another service of the route is at 10.0.0.1:30080 too")
}

func TestStats(t *testing.T) {
	in := input(t, declared, clusters())
	e, _ := explained(t, in, "api.example.com/tracks")
	require.Equal(t, []string{e.Backends[0].Name, "nodes.eu-1", "nodes.eu-2"}, e.AskBackends())
	s := e.Services[0].Nodes[0].Servers[0]
	_, node, _ := cut(s.Track)
	e.AddStats([]runtimeapi.Stat{
		{Proxy: s.Backend, Server: s.Name, Status: "DRAIN (agent)", Weight: 50, AgentStatus: "L7OK", LastAgent: "drain\x1b[2J", Sessions: 3, Tracked: s.Track},
		{Proxy: "nodes.eu-1", Server: node, Status: "UP", Weight: 1, CheckStatus: "L4OK"},
	})
	text := string(e.AppendText(nil))
	require.Contains(t, text, `; now DRAIN (agent), weight 50, agent L7OK ("drain\x1b[2J"), 3 sessions`)
	require.Contains(t, text, "has the health of "+s.Track+"; now UP, weight 1, check L4OK, 0 sessions")
	require.Nil(t, e.Services[1].Nodes[0].Servers[0].Now)
	e.AddError("there is no\nsocket")
	require.Contains(t, string(e.AppendText(nil)), "state of the servers in HAProxy: unknown: there is no\uFFFDsocket\n")
}

func cut(track string) (backend, server string, ok bool) {
	for i := range len(track) {
		if track[i] == '/' {
			return track[:i], track[i+1:], true
		}
	}
	return "", "", false
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"api.example.com":               "api.example.com/",
		"API.example.com.:80/a%2Fb?c#d": "api.example.com/a%2Fb",
		"HTTPS://bücher.example/":       "xn--bcher-kva.example/",
		"*.example.com/a/":              "*.example.com/a/",
		"http://api.example.com?q":      "api.example.com/",
		"":                              "want HOST/PATH",
		"/tracks":                       "want HOST/PATH",
		"10.0.0.1/":                     "IP address",
		"a.example/b c":                 `byte 2 of the path is ' '`,
		"a.example/é":                   "percent-encoding",
		"a..b/":                         "empty label",
		"ftp://a.example/":              "want http://, https:// or no scheme",
		string(make([]byte, 9<<10)):     "more than 8192 bytes",
	} {
		target, err := explain.ParseTarget(text)
		if err != nil {
			require.ErrorContains(t, err, want, "%.40q", text)
			continue
		}
		require.Equal(t, want, target.String(), text)
	}
	_, err := explain.NewTarget("a.example", "b")
	require.ErrorContains(t, err, "does not begin with a slash")
	_, err = explain.NewTarget("a.example", "/b?c")
	require.ErrorContains(t, err, "a query or a fragment")
}

func FuzzParseTarget(f *testing.F) {
	f.Add("api.example.com/tracks")
	table, _ := routes.Parse("routes.yaml", []byte(declared))
	in := explain.Input{Table: table, Builder: builder}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := explain.ParseTarget(text)
		if err != nil {
			return
		}
		again, err := explain.ParseTarget(target.String())
		if err != nil || again != target {
			t.Fatalf("%q becomes %+v, and then %+v, %v", text, target, again, err)
		}
		e := explain.Explain(in, target)
		if (e.Route == nil) != (e.NoRoute != "") {
			t.Fatalf("%+v", e)
		}
	})
}

func BenchmarkExplain(b *testing.B) {
	const services = 10_000
	declared := make([]routes.Route, services)
	for i := range declared {
		namespace, name := manifesttest.ServiceName(i)
		declared[i] = routes.Route{
			Host: fmt.Sprintf("s%06d.example.com", i), Path: "/api",
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: namespace, Service: name, Port: "http"}, Weight: 100}},
		}
	}
	table, problems := routes.New(declared...)
	require.Empty(b, problems)
	k := []kube.Cluster{{Name: "eu-1", Objects: nodeselect.NewObjects(manifesttest.Nodes(1000), manifesttest.Services(services))}}
	builder := builder
	builder.Selector.Size = 20
	builder.EdgeLimits = kube.Limits{Servers: 1 << 20}
	_, report := builder.Build(table, k, now)
	in := explain.Input{Time: now, Builder: builder, Table: table, Clusters: k, Report: report}
	b.Run("routes=10000/nodes=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e := explain.Explain(in, explain.Target{Host: "s005000.example.com", Path: "/api/x"})
			if len(e.Services) != 1 || len(e.Services[0].Nodes) != 20 || len(e.Services[0].Unused) != 980 {
				b.Fatal(e.NoRoute, len(e.Services))
			}
		}
	})
}
