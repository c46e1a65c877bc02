package kube_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// scale returns a table with one route for each service, and a cluster before and after a change.
// In the change, one node disappears, and another node replaces it in each subset.
func scale(tb testing.TB, nodes, services int) (table routes.Table, before, after []kube.Cluster) {
	tb.Helper()
	declared := make([]routes.Route, services)
	for i := range services {
		namespace, name := manifesttest.ServiceName(i)
		declared[i] = routes.Route{
			Host: fmt.Sprintf("s%06d.example.com", i), Path: "/api",
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: namespace, Service: name, Port: "http"}, Weight: 100}},
		}
	}
	table = tableOf(tb, declared...)
	all := manifesttest.Nodes(nodes)
	objects := manifesttest.Services(services)
	one := func(nodes []*corev1.Node) []kube.Cluster {
		return []kube.Cluster{{Name: "eu-1", Objects: nodeselect.NewObjects(nodes, objects)}}
	}
	return table, one(all), one(append(append([]*corev1.Node{}, all[:nodes/2]...), all[nodes/2+1:]...))
}

var scaleBuilder = kube.Builder{
	Edge: edge.Edge{
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		Global: haproxycfg.Global{StatsSocket: "/run/haproxy/stats.sock", StateFile: "/var/lib/haproxy/state", Descriptors: 1 << 20},
	},
}

func BenchmarkBuild(b *testing.B) {
	for _, services := range []int{500, 2000} {
		b.Run("services="+strconv.Itoa(services)+"/nodes=1000", func(b *testing.B) {
			table, clusters, _ := scale(b, 1000, services)
			b.ReportAllocs()
			for b.Loop() {
				if config, report := scaleBuilder.Build(table, clusters, now); len(config.Backends) != services+2 || len(report.Problems) > 0 {
					b.Fatal(report.Problems)
				}
			}
		})
	}
}

// BenchmarkNodeEvent measures the time from a change of a node to the new configuration and report
// on disk. In this time, it builds the configuration, computes the changes, and writes and syncs
// the files.
func BenchmarkNodeEvent(b *testing.B) {
	for _, services := range []int{500, 2000} {
		b.Run("services="+strconv.Itoa(services)+"/nodes=1000", func(b *testing.B) {
			table, before, after := scale(b, 1000, services)
			dir := deploy.Dir{Path: b.TempDir()}
			states := [2][]kube.Cluster{before, after}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				config, report := scaleBuilder.Build(table, states[i%2], now)
				plan, err := dir.Plan(config)
				require.NoError(b, err)
				text, err := json.Marshal(report)
				require.NoError(b, err)
				changed, err := plan.Apply(b.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: text})
				require.NoError(b, err)
				require.True(b, changed)
			}
		})
	}
}

// BenchmarkReport measures the JSON of a report.
func BenchmarkReport(b *testing.B) {
	table, clusters, _ := scale(b, 1000, 2000)
	_, report := scaleBuilder.Build(table, clusters, now)
	for name, marshal := range map[string]func() ([]byte, error){
		"compact": func() ([]byte, error) { return json.Marshal(report) },
		"indent":  func() ([]byte, error) { return json.MarshalIndent(report, "", " ") },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				text, err := marshal()
				require.NoError(b, err)
				b.SetBytes(int64(len(text)))
			}
		})
	}
}

func tableOf(tb testing.TB, declared ...routes.Route) routes.Table {
	tb.Helper()
	table, problems := routes.New(declared...)
	require.Empty(tb, problems)
	return table
}
