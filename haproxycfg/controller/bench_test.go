package controller

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// BenchmarkApplyOneNode measures an attempt after a node event, from the snapshot of the cluster to
// the synced files, without HAProxy. The cluster has 1,000 nodes and 2,000 services on 20 nodes
// each; in each attempt one node leaves or returns. One attempt in a hundred takes longer than
// p99-ms.
func BenchmarkApplyOneNode(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "routes.yaml")
	require.NoError(b, os.WriteFile(file, manifesttest.Routes(2000), 0o600))
	c := &Controller{
		Routes:  &RouteFiles{Names: []string{file}},
		Builder: kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}},
		Dir:     &deploy.Dir{Path: filepath.Join(dir, "out")},
	}
	declared, err := c.Routes.Read()
	require.NoError(b, err)
	nodes := manifesttest.Nodes(1000)
	tracker := nodeselect.NewTracker(c.Builder.NodeSelector(), nil)
	in := inputs{routes: declared, clusters: []cluster{{name: "eu-1", ClusterState: ClusterState{Synced: true}, since: time.Now()}}}
	delta := nodeselect.Delta{Nodes: map[string]*corev1.Node{}, Services: map[string]*corev1.Service{}, Refs: kube.Refs(declared.Table)["eu-1"]}
	for _, n := range nodes {
		delta.Nodes[n.Name] = n
	}
	for _, svc := range manifesttest.Services(2000) {
		delta.Services[svc.Namespace+"/"+svc.Name] = svc
	}
	a := newApplier(c, slog.New(slog.DiscardHandler))
	apply := func(d nodeselect.Delta) {
		selection, _ := tracker.Update(d, time.Now())
		k := &in.clusters[0]
		k.Objects, k.Selection = tracker.Objects(), &selection
		attempt := a.apply(b.Context(), in, time.Now(), never)
		require.NoError(b, attempt.Err)
		require.Equal(b, Written, attempt.Outcome)
	}
	apply(delta)
	var took []time.Duration
	away := false
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n := nodes[(i/2*37)%len(nodes)]
		d := nodeselect.Delta{Nodes: map[string]*corev1.Node{n.Name: n}}
		if away = !away; away {
			d.Nodes[n.Name] = nil
		}
		begin := time.Now()
		apply(d)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}
