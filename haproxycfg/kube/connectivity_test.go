package kube_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/nodeselect"
)

var agentAnnotation = map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "30"}

func twoClusterObjects() (eu1, eu2 kube.Cluster) {
	return kube.Cluster{Name: "eu-1", Objects: objects(func(n *corev1.Node) {
			if n.Name == "node-2" {
				n.Labels[nodeselect.ExcludeLabel] = ""
			}
		}, testService("tracks", 30000, agentAnnotation), testService("web", 30001, nil))},
		kube.Cluster{Name: "eu-2", Objects: objects(nil, testService("tracks", 31000, nil))}
}

func render(t *testing.T, config *haproxycfg.Config) string {
	t.Helper()
	files, err := config.Render("")
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range files {
		text.WriteString(f.Name + "\n" + string(f.Data))
	}
	return text.String()
}

// kept writes a report as JSON, reads the JSON, and returns the report that it has read.
func kept(t *testing.T, report kube.Report) (again kube.Report) {
	t.Helper()
	text, err := json.Marshal(report)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &again))
	return again
}

// TestUnreachableClusterKeepsItsServers: a cluster stops answering, or has never answered since the
// process started. In both cases the configuration and all counts stay the same.
func TestUnreachableClusterKeepsItsServers(t *testing.T) {
	table := parseRoutes(t, twoClusters)
	b := kube.Builder{Selector: nodeselect.Selector{Size: 2}}
	eu1, eu2 := twoClusterObjects()
	want, before := b.Build(table, []kube.Cluster{eu1, eu2}, now)
	require.Empty(t, before.Problems)

	last := kept(t, before).LastKnown("eu-1", now, "connection refused")
	require.Equal(t, kube.LastKnown, last.Connectivity.State)
	config, report := b.Build(table, []kube.Cluster{last, eu2}, now.Add(time.Hour))
	require.Equal(t, render(t, want), render(t, config))
	require.Equal(t, before.Services, report.Services)
	require.Equal(t, before.Budget, report.Budget)
	require.Equal(t, "eu-1: does not answer, since 2026-01-02T03:04:05Z (connection refused): its last known state is in force", report.Problems[0].Error())
	require.Len(t, report.Problems, 1)
	require.True(t, report.Problems[0].Warning)
	cluster := report.Clusters[0]
	require.Equal(t, last.Connectivity, cluster.Connectivity)
	cluster.Connectivity = kube.Connectivity{}
	require.Equal(t, before.Clusters[0], cluster, "everything else is unchanged")

	// After a second restart, the report of the first one is enough.
	again := kept(t, report).LastKnown("eu-1", now.Add(2*time.Hour), "timeout")
	require.Equal(t, kube.Connectivity{State: kube.LastKnown, Since: now, Reason: "timeout"}, again.Connectivity)
	config, _ = b.Build(table, []kube.Cluster{again, eu2}, now.Add(2*time.Hour))
	require.Equal(t, render(t, want), render(t, config))

	eu1.Connectivity = kube.Connectivity{State: kube.LastKnown, Since: now}
	config, report = b.Build(table, []kube.Cluster{eu1, eu2}, now)
	require.Equal(t, render(t, want), render(t, config))
	require.Len(t, report.Problems, 1)
}

func TestClusterThatNeverAnswered(t *testing.T) {
	table := parseRoutes(t, twoClusters)
	_, eu2 := twoClusterObjects()
	var b kube.Builder
	never := kube.Report{}.LastKnown("eu-1", now, "no such host")
	require.Equal(t, kube.Connectivity{State: kube.Never, Since: now, Reason: "no such host"}, never.Connectivity)
	config, report := b.Build(table, []kube.Cluster{never, eu2}, now)
	require.NoError(t, config.Validate())
	require.Len(t, report.Problems, 1, "once, not for each route")
	require.Equal(t, "routes.yaml:3: eu-1: has not answered yet, since 2026-01-02T03:04:05Z (no such host): nothing of it is served; another route names it too", report.Problems[0].Error())
	require.False(t, report.Problems[0].Warning)
	require.Len(t, report.Services, 1, "eu-2 is served")

	// The state stays Never, since the same time.
	later := kept(t, report).LastKnown("eu-1", now.Add(time.Hour), "no route to host")
	require.Equal(t, kube.Connectivity{State: kube.Never, Since: now, Reason: "no route to host"}, later.Connectivity)
}

func TestServiceThatTheLastReportDoesNotContain(t *testing.T) {
	b := kube.Builder{}
	eu1, eu2 := twoClusterObjects()
	_, report := b.Build(parseRoutes(t, twoClusters), []kube.Cluster{eu1, eu2}, now)
	table := parseRoutes(t, twoClusters+`
- host: new.example.com
  backends: [{cluster: eu-1, namespace: media, service: new, port: http}]
`)
	_, report = b.Build(table, []kube.Cluster{report.LastKnown("eu-1", now, "gone"), eu2}, now)
	require.Len(t, report.Problems, 2)
	require.Equal(t, "routes.yaml:12: eu-1: Service media/new: its last known state does not have it", report.Problems[1].Error())
}

// TestExistingSelection: Build uses a selection that a watcher has made. The routes may have
// changed since then. Build adds the services that only the new routes name, and leaves out the
// services that the new routes do not name.
func TestExistingSelection(t *testing.T) {
	b := kube.Builder{Selector: nodeselect.Selector{Size: 2}}
	table := parseRoutes(t, twoClusters)
	eu1, eu2 := twoClusterObjects()
	want, wanted := b.Build(table, []kube.Cluster{eu1, eu2}, now)
	refs := kube.Refs(table)["eu-1"]
	require.Len(t, refs, 2)
	other := nodeselect.Ref{Namespace: "media", Service: "old", Port: "http"}
	for _, made := range [][]nodeselect.Ref{refs, refs[:1], refs[1:], nil, {other}, append([]nodeselect.Ref{other}, refs...)} {
		s := b.NodeSelector().Select(eu1.Objects, made, now, nil)
		s.Problems = nil // A watcher no longer reports the old service.
		eu1.Selection = &s
		config, report := b.Build(table, []kube.Cluster{eu1, eu2}, now)
		require.Equal(t, render(t, want), render(t, config), "made for %v", made)
		require.Equal(t, wanted, report)
	}

	s := b.NodeSelector().Select(eu1.Objects, refs, now, nil)
	s.Targets[0].Nodes = s.Targets[0].Nodes[:1]
	eu1.Selection = &s
	_, report := b.Build(table, []kube.Cluster{eu1, eu2}, now)
	require.Len(t, report.Services[0].Nodes, 1, "Build keeps the selection")
}
