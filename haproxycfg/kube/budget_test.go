package kube_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// budgetTable contains routes that share a backend, routes of two clusters, routes that name one
// port by name and by number, and routes with checks.
const budgetTable = `
routes:
- host: a.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
- host: b.example.com
  path: /same
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
- host: b.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
- host: c.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
  timeouts: {server: 5s}
- host: d.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
  - {cluster: eu-1, namespace: media, service: web, port: "80"}
- host: e.example.com
  backends:
  - {cluster: eu-2, namespace: media, service: web, port: http}
  check: {path: /up, interval: 300ms}
- host: f.example.com
  backends:
  - {cluster: eu-2, namespace: media, service: missing, port: http}
`

// TestBudgetOfAlternatives builds the three variants of the configuration and counts their checks,
// without a formula.
func TestBudgetOfAlternatives(t *testing.T) {
	table := parseRoutes(t, budgetTable)
	var declared []routes.Route
	for _, r := range table.Routes() {
		if r.Check == nil {
			r.Check = &routes.Check{}
		}
		declared = append(declared, r)
	}
	checked := tableOf(t, declared...)
	agent := map[string]string{"headgate.dev/agent-port": "9801"}
	mark := func(marked int, change func(*corev1.Node)) func(*corev1.Node) {
		left := marked
		return func(n *corev1.Node) {
			if left--; left >= 0 {
				change(n)
			}
		}
	}
	excluded := func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = "" }
	avoided := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: nodeselect.TaintClusterAutoscaler}} }
	unreachable := func(n *corev1.Node) { n.Status.Addresses = nil }
	clustersOf := func(change func() func(*corev1.Node)) []kube.Cluster {
		return []kube.Cluster{
			{Name: "eu-1", Objects: objects(change(), testService("tracks", 30000, agent), testService("web", 30001, nil))},
			{Name: "eu-2", Objects: objects(nil, testService("tracks", 30000, nil), testService("web", 30001, map[string]string{"headgate.dev/agent-port": "9802"}))},
		}
	}
	for name, clusters := range map[string][]kube.Cluster{
		"all nodes":    clustersOf(func() func(*corev1.Node) { return nil }),
		"some avoided": clustersOf(func() func(*corev1.Node) { return mark(2, avoided) }),
		"some out":     clustersOf(func() func(*corev1.Node) { return mark(2, excluded) }),
		"all out":      clustersOf(func() func(*corev1.Node) { return excluded }),
		"some gone":    clustersOf(func() func(*corev1.Node) { return mark(1, unreachable) }),
		"all gone":     clustersOf(func() func(*corev1.Node) { return unreachable }),
		"no cluster":   nil,
	} {
		for health := range edge.KubeProxyOnly + 1 {
			for _, e := range []edge.Edge{{}, {CheckInterval: 700 * time.Millisecond, AgentInterval: 1100 * time.Millisecond}} {
				e.NodeHealth = health
				t.Run(fmt.Sprint(name, "/health=", health, "/", e.CheckInterval), func(t *testing.T) {
					few := kube.Builder{Edge: e, Selector: nodeselect.Selector{Size: 2}}
					all := kube.Builder{Edge: e, Selector: nodeselect.Selector{Size: 1000}}
					count := func(b kube.Builder, table routes.Table) haproxycfg.CheckBudget {
						config, _ := b.Build(table, clusters, now)
						return config.CheckBudget()
					}
					_, report := few.Build(table, clusters, now)
					for _, c := range []struct {
						name string
						want haproxycfg.CheckBudget
						got  kube.Checks
					}{
						{"now", count(few, table), report.Budget.Now},
						{"without subsets", count(all, table), report.Budget.WithoutSubsets},
						{"without track", count(few, checked), report.Budget.WithoutTrack},
						{"without either", count(all, checked), report.Budget.WithoutSubsetsAndTrack},
					} {
						require.Equal(t, c.want.HealthServers, c.got.HealthServers, c.name)
						require.Equal(t, c.want.AgentServers, c.got.AgentServers, c.name)
						require.InDelta(t, c.want.Health, c.got.Health, 0.001, c.name)
						require.InDelta(t, c.want.Agent, c.got.Agent, 0.001, c.name)
						require.InDelta(t, c.want.Total, c.got.Total, 0.002, c.name)
						require.InDelta(t, c.got.Total, c.got.AllTerminators, 1e-9, c.name)
					}
				})
			}
		}
	}
}

func TestBudgetOfSeveralTerminators(t *testing.T) {
	table := parseRoutes(t, twoClusters)
	clusters := []kube.Cluster{
		{Name: "eu-1", Objects: objects(nil, testService("tracks", 30000, nil), testService("web", 30001, nil))},
		{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, nil))},
	}
	one, none, four := kube.Builder{Terminators: 1}, kube.Builder{}, kube.Builder{Terminators: 4}
	_, want := one.Build(table, clusters, now)
	_, got := none.Build(table, clusters, now)
	require.Equal(t, want.Budget, got.Budget)
	_, got = four.Build(table, clusters, now)
	require.Equal(t, want.Budget.Now.CheckBudget, got.Budget.Now.CheckBudget, "of one terminator")
	require.InDelta(t, 4*want.Budget.Now.Total, got.Budget.Now.AllTerminators, 1e-9)

	text, err := json.Marshal(got.Budget)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"terminators": 4,
		"now": {"healthCheckedServers": 12, "agentCheckedServers": 12, "healthChecksPerSecond": 6, "agentChecksPerSecond": 6, "checksPerSecond": 12, "checksPerSecondOfAllTerminators": 48},
		"withoutSubsets": {"healthCheckedServers": 12, "agentCheckedServers": 12, "healthChecksPerSecond": 6, "agentChecksPerSecond": 6, "checksPerSecond": 12, "checksPerSecondOfAllTerminators": 48},
		"withoutTrack": {"healthCheckedServers": 18, "agentCheckedServers": 18, "healthChecksPerSecond": 9, "agentChecksPerSecond": 9, "checksPerSecond": 18, "checksPerSecondOfAllTerminators": 72},
		"withoutSubsetsAndTrack": {"healthCheckedServers": 18, "agentCheckedServers": 18, "healthChecksPerSecond": 9, "agentChecksPerSecond": 9, "checksPerSecond": 18, "checksPerSecondOfAllTerminators": 72}
	}`, string(text))
}

// TestBudgetFormula compares Build with the formula of the package comment.
func TestBudgetFormula(t *testing.T) {
	for _, fleet := range []struct {
		terminators, nodes, services, size, agents int
		health, agent                              time.Duration
	}{
		{1, 1, 1, 1, 0, 0, 0},
		{1, 50, 40, 20, 0, 0, 0},
		{4, 50, 40, 20, 40, 0, 0},
		{4, 50, 40, 20, 7, time.Second, 5 * time.Second},
		{3, 60, 2, 5, 1, 400 * time.Millisecond, 300 * time.Millisecond}, // most nodes are not in use
		{2, 10, 30, 20, 11, 0, 0},                                        // subsets that contain all nodes
	} {
		t.Run(fmt.Sprintf("%+v", fleet), func(t *testing.T) {
			var declared []routes.Route
			var services []*corev1.Service
			for i := range fleet.services {
				name := fmt.Sprintf("s-%03d", i)
				var annotations map[string]string
				if i < fleet.agents {
					annotations = map[string]string{"headgate.dev/agent-port": fmt.Sprint(11000 + i)}
				}
				services = append(services, testService(name, int32(30000+i), annotations))
				declared = append(declared, routes.Route{
					Host: name + ".example.com", Path: "/",
					Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: name, Port: "http"}, Weight: 100}},
				})
			}
			var nodes []*corev1.Node
			for i := range fleet.nodes {
				nodes = append(nodes, testNode(i+1, nil))
			}
			_, report := kube.Builder{
				Edge:        edge.Edge{CheckInterval: fleet.health, AgentInterval: fleet.agent},
				Selector:    nodeselect.Selector{Size: fleet.size},
				Terminators: fleet.terminators,
			}.Build(tableOf(t, declared...), []kube.Cluster{{Name: "eu-1", Objects: nodeselect.NewObjects(nodes, services)}}, now)
			require.Empty(t, report.Problems)

			f := func(n int) float64 { return float64(n) }
			T, N, n, S, A := f(fleet.terminators), f(fleet.nodes), f(len(report.Clusters[0].Nodes)), f(fleet.services), f(fleet.agents)
			k := min(f(fleet.size), N)
			h, a := cmp.Or(fleet.health, 2*time.Second).Seconds(), cmp.Or(fleet.agent, 2*time.Second).Seconds()
			for _, c := range []struct {
				name          string
				got           kube.Checks
				health, agent float64
			}{
				{"as built", report.Budget.Now, T / h * n, T / a * (n + A*k)},
				{"without subsets", report.Budget.WithoutSubsets, T / h * N, T / a * (N + A*N)},
				{"without track", report.Budget.WithoutTrack, T / h * S * k, T / a * S * k},
				{"without either", report.Budget.WithoutSubsetsAndTrack, T / h * S * N, T / a * S * N},
			} {
				require.InDelta(t, c.health, T*c.got.Health, 0.01, c.name)
				require.InDelta(t, c.agent, T*c.got.Agent, 0.01, c.name)
				require.InDelta(t, c.health+c.agent, c.got.AllTerminators, 0.01, c.name)
			}
		})
	}
}
