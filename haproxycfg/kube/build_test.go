package kube_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testNode(i int, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i), Labels: map[string]string{}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.0.%d", i)}}
	if change != nil {
		change(n)
	}
	return n
}

func testService(name string, nodePort int32, annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: name, Annotations: annotations},
		Spec: corev1.ServiceSpec{
			Type:  corev1.ServiceTypeNodePort,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: nodePort}},
		},
	}
}

func parseRoutes(t *testing.T, text string) routes.Table {
	t.Helper()
	table, problems := routes.Parse("routes.yaml", []byte(text))
	require.Empty(t, problems)
	return table
}

const twoClusters = `
routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
- host: www.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
`

func objects(change func(*corev1.Node), services ...*corev1.Service) nodeselect.Objects {
	var nodes []*corev1.Node
	for i := range 6 {
		nodes = append(nodes, testNode(i+1, change))
	}
	return nodeselect.NewObjects(nodes, services)
}

func TestBuild(t *testing.T) {
	agent := map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "30"}
	clusters := []kube.Cluster{
		{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, agent))},
		{Name: "eu-1", Objects: objects(func(n *corev1.Node) {
			switch n.Name {
			case "node-2":
				n.Labels[nodeselect.ExcludeLabel] = ""
			case "node-3":
				n.Status.Addresses = nil
			case "node-4":
				n.Spec.Taints = []corev1.Taint{{Key: nodeselect.TaintClusterAutoscaler}}
			}
		}, testService("tracks", 30000, agent), testService("web", 30001, nil))},
	}
	b := kube.Builder{Selector: nodeselect.Selector{Size: 2}}
	config, report := b.Build(parseRoutes(t, twoClusters), clusters, now)
	require.NoError(t, config.Validate())
	require.Empty(t, report.Problems)

	require.Equal(t, "eu-1", report.Clusters[0].Name)
	eu1 := report.Clusters[0]
	require.Equal(t, []int{6, 3, 1, 1, 1}, []int{eu1.Total, eu1.Eligible, eu1.Avoid, eu1.Excluded, eu1.Unusable})
	require.Equal(t, []string{"node-2", "node-3", "node-4"}, []string{eu1.Findings[0].Node, eu1.Findings[1].Node, eu1.Findings[2].Node})
	inUse := 0
	for _, n := range eu1.Nodes {
		require.NotContains(t, []string{"node-2", "node-3", "node-4"}, n.Name)
		inUse += n.Services
	}
	require.Equal(t, 2*2, inUse, "two services of two nodes")

	require.Len(t, report.Services, 3)
	for _, s := range report.Services {
		require.Len(t, s.Nodes, 2)
	}
	tracks := report.Services[2]
	require.Equal(t, routes.Ref{Cluster: "eu-2", Namespace: "media", Service: "tracks", Port: "http"}, tracks.Ref)
	require.Equal(t, []uint16{31000, 9801}, []uint16{tracks.NodePort, tracks.AgentPort})
	require.Equal(t, 30, tracks.WeightPercent)

	// The report names exactly the servers of the configuration.
	addrs := map[netip.AddrPort]bool{}
	for _, backend := range config.Backends {
		for _, s := range backend.Servers {
			addrs[s.Addr] = true
		}
	}
	for _, s := range report.Services {
		for _, c := range report.Clusters {
			for _, n := range c.Nodes {
				for _, name := range s.Nodes {
					if c.Name == s.Cluster && n.Name == name {
						require.True(t, addrs[netip.AddrPortFrom(n.Addr, s.NodePort)])
						delete(addrs, netip.AddrPortFrom(n.Addr, s.NodePort))
					}
				}
			}
		}
	}
	for left := range addrs {
		require.EqualValues(t, 9707, left.Port(), "only the servers of nodes remain")
	}
}

func TestBuildDependsOnlyOnItsInput(t *testing.T) {
	table := parseRoutes(t, twoClusters)
	one := kube.Cluster{Name: "eu-1", Objects: objects(nil, testService("tracks", 30000, nil), testService("web", 30001, nil))}
	two := kube.Cluster{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, nil))}
	var b kube.Builder
	render := func(clusters ...kube.Cluster) (string, string) {
		config, report := b.Build(table, clusters, now)
		files, err := config.Render("")
		require.NoError(t, err)
		text, err := json.Marshal(report)
		require.NoError(t, err)
		return fmt.Sprint(files), string(text)
	}
	config1, report1 := render(one, two)
	config2, report2 := render(two, one)
	require.Equal(t, config1, config2)
	require.Equal(t, report1, report2)
}

func TestBuildServesWhatHasNoProblem(t *testing.T) {
	table := parseRoutes(t, twoClusters+`
- host: broken.example.com
  path: /missing
  backends: [{cluster: eu-1, namespace: media, service: missing, port: http}]
- host: broken.example.com
  path: /port
  backends: [{cluster: eu-1, namespace: media, service: web, port: https}]
- host: broken.example.com
  path: /cluster
  backends: [{cluster: us-1, namespace: media, service: web, port: http}]
- host: broken.example.com
  path: /again
  backends: [{cluster: us-1, namespace: media, service: web, port: http}]
- host: broken.example.com
  path: /and/again
  backends:
  - {cluster: us-1, namespace: media, service: web, port: http}
  - {cluster: us-1, namespace: media, service: other, port: http}
  - {cluster: eu-1, namespace: media, service: missing, port: http}
`)
	var b kube.Builder
	good := kube.Cluster{Name: "eu-1", Objects: objects(nil, testService("tracks", 30000, map[string]string{"headgate.dev/weight": "lots"}), testService("web", 30001, nil))}
	config, report := b.Build(table, []kube.Cluster{
		good,
		{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, nil))},
		{Name: "eu-1"},
	}, now)
	require.NoError(t, config.Validate())
	var got []string
	for _, p := range report.Problems {
		got = append(got, p.Error())
	}
	require.Equal(t, []string{
		`eu-1: the cluster is given twice; the first counts`,
		`eu-1: Service media/tracks: metadata.annotations[headgate.dev/weight]: "lots": want a weight in percent, 0 to 256; 100 is used`,
		`routes.yaml:12: eu-1: Service media/missing: there is no such service; another route names it too`,
		`routes.yaml:15: eu-1: Service media/web: spec.ports: no port "https"; the service has http (80)`,
		`routes.yaml:18: us-1: the cluster is not given; 2 more routes name it`,
	}, got)
	require.Len(t, report.Services, 3)

	report.AddRoutes([]routes.Problem{{File: "routes.yaml", Line: 1, Field: "routes[0].host", Message: "bad"}})
	report.AddManifests("eu-1", []nodeselect.Problem{{File: "a.yaml", Line: 3, Message: "no YAML"}})
	require.Equal(t, "a.yaml:3: eu-1: no YAML", report.Problems[2].Error())
	require.Equal(t, "routes.yaml:1: routes[0].host: bad", report.Problems[3].Error())
}

func TestNoServiceGetsThePortOfTheNodeAgent(t *testing.T) {
	table := parseRoutes(t, twoClusters[:strings.Index(twoClusters, "  - {cluster: eu-2")])
	cluster := kube.Cluster{Name: "eu-1", Objects: objects(nil, testService("tracks", 30000, map[string]string{"headgate.dev/agent-port": "9707"}))}
	_, report := kube.Builder{}.Build(table, []kube.Cluster{cluster}, now)
	require.Len(t, report.Problems, 1)
	require.Contains(t, report.Problems[0].Message, "reserved")
	require.Zero(t, report.Services[0].AgentPort)

	other := kube.Builder{Edge: edge.Edge{NodeAgentPort: 7000}}
	_, report = other.Build(table, []kube.Cluster{cluster}, now)
	require.Empty(t, report.Problems)
	require.EqualValues(t, 9707, report.Services[0].AgentPort)
}

func TestSubsetsOfAReport(t *testing.T) {
	table := parseRoutes(t, twoClusters)
	clusters := []kube.Cluster{
		{Name: "eu-1", Objects: objects(nil, testService("tracks", 30000, nil), testService("web", 30001, nil))},
		{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, nil))},
	}
	b := kube.Builder{Selector: nodeselect.Selector{Size: 2}}
	_, report := b.Build(table, clusters, now)
	text, err := json.Marshal(report)
	require.NoError(t, err)
	var kept kube.Report
	require.NoError(t, json.Unmarshal(text, &kept))

	var refs []nodeselect.Ref
	for _, service := range []string{"tracks", "web"} {
		refs = append(refs, nodeselect.Ref{Namespace: "media", Service: service, Port: "http"})
	}
	want := b.Selector.Select(clusters[0].Objects, refs, now, nil).Subsets()
	require.Equal(t, want, kept.Subsets("eu-1"))
	require.Empty(t, kept.Subsets("nowhere"))
}

// TestAppProtocol declares each protocol for service ports with each appProtocol. The declaration
// decides, and Build warns if both differ.
func TestAppProtocol(t *testing.T) {
	const h2c, grpc, plain = "declare protocol: h2c or grpc", "declare protocol: grpc", "HAProxy sends HTTP without TLS, which the port may not understand"
	for _, tt := range []struct{ app, http1, h2c, grpc string }{
		{"", "", "", ""},
		{"http", "", "", ""},
		{"HTTP", "", "", ""},
		{"kubernetes.io/ws", "", "", ""},
		{"kubernetes.io/h2c", h2c, "", ""},
		{"http2", h2c, "", ""},
		{"grpc", grpc, grpc, ""},
		{"https", plain, plain, plain},
		{"kubernetes.io/wss", plain, plain, plain},
		{"redis", plain, plain, plain},
	} {
		for protocol, want := range map[string]string{"http1": tt.http1, "h2c": tt.h2c, "grpc": tt.grpc} {
			t.Run(tt.app+" "+protocol, func(t *testing.T) {
				svc := testService("web", 30001, nil)
				svc.Spec.Ports[0].AppProtocol = &tt.app
				table := parseRoutes(t, "routes:\n- host: a.example.com\n  protocol: "+protocol+"\n  backends: [{cluster: eu-1, namespace: media, service: web, port: http}]\n")
				live := nodeselect.Annotations{}.TrimService(svc)
				for _, s := range []*corev1.Service{svc, live} {
					config, report := kube.Builder{}.Build(table, []kube.Cluster{{Name: "eu-1", Objects: objects(nil, s)}}, now)
					require.Len(t, config.Backends[0].Servers, 6)
					var got []string
					for _, p := range report.Problems {
						require.True(t, p.Warning)
						got = append(got, p.Error())
					}
					if want == "" {
						require.Empty(t, got)
						continue
					}
					require.Equal(t, []string{fmt.Sprintf(
						"routes.yaml:2: protocol: the appProtocol of eu-1/media/web:http is %q, but the protocol of the route is %s: %s", tt.app, protocol, want)}, got)
				}
			})
		}
	}
}

// TestPreferencesCountAsRoutes: HAProxy has a map entry for each preference, so the limit of routes
// counts preferences too.
func TestPreferencesCountAsRoutes(t *testing.T) {
	eu1, eu2 := twoClusterObjects()
	const text = `routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
  prefer: [{clusters: [eu-1]}, {region: eu, clusters: [eu-2]}]
`
	for limit, admitted := range map[int]bool{2: false, 3: true} {
		b := kube.Builder{EdgeLimits: kube.Limits{Routes: limit}}
		b.Edge.HTTP = []haproxycfg.Bind{{Address: ":80"}}
		b.Edge.Regions.Regions = []routes.Region{{Name: "eu"}}
		config, report := b.Build(parseRoutes(t, text), []kube.Cluster{eu1, eu2}, now)
		served := slices.ContainsFunc(config.Maps, func(m haproxycfg.Map) bool { return m.Name == edge.PreferMap && len(m.Entries) == 2 })
		require.Equal(t, admitted, served, limit)
		require.Equal(t, !admitted, slices.ContainsFunc(report.Problems, func(p kube.Problem) bool { return strings.Contains(p.Message, "2 routes") }), "%v", report.Problems)
	}
}
