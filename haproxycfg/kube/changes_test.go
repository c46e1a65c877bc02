package kube_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

func TestCauses(t *testing.T) {
	base := func() kube.Input {
		eu1, eu2 := twoClusterObjects()
		return kube.Input{Table: parseRoutes(t, twoClusters), Clusters: []kube.Cluster{eu1, eu2}}
	}
	node := func(change func(*corev1.Node)) func(*kube.Input) {
		return func(in *kube.Input) { change(in.Clusters[0].Objects.Nodes[0]) }
	}
	service := func(change func(*corev1.Service)) func(*kube.Input) {
		return func(in *kube.Input) { change(in.Clusters[0].Objects.Services[0]) }
	}
	nodes := func(change func([]*corev1.Node) []*corev1.Node) func(*kube.Input) {
		return func(in *kube.Input) {
			o := &in.Clusters[0].Objects
			*o = nodeselect.NewObjects(change(o.Nodes), o.Services)
		}
	}
	services := func(change func([]*corev1.Service) []*corev1.Service) func(*kube.Input) {
		return func(in *kube.Input) {
			o := &in.Clusters[0].Objects
			*o = nodeselect.NewObjects(o.Nodes, change(o.Services))
		}
	}
	tests := []struct {
		name   string
		change func(*kube.Input)
		want   []string
	}{
		{"nothing", func(*kube.Input) {}, nil},
		{"a heartbeat", node(func(n *corev1.Node) {
			n.ResourceVersion = "2"
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Time{Time: now}}}
		}), nil},
		{"not ready", node(func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.Time{Time: now}}}
		}), []string{"eu-1: Node node-1: status.conditions[Ready]"}},
		{"labels, address and taints", node(func(n *corev1.Node) {
			n.Labels["x"] = "y"
			n.Status.Addresses[0].Address = "10.0.9.9"
			n.Spec.Taints = []corev1.Taint{{Key: "k"}}
		}), []string{"eu-1: Node node-1: metadata.labels, spec.taints, status.addresses"}},
		{"cordon", node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), []string{"eu-1: Node node-1: spec.unschedulable"}},
		{"deletion", node(func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: now} }), []string{"eu-1: Node node-1: metadata.deletionTimestamp"}},
		{"provider", node(func(n *corev1.Node) { n.Spec.ProviderID = "x" }), []string{"eu-1: Node node-1: spec.providerID"}},
		{"nodes come and go", nodes(func(all []*corev1.Node) []*corev1.Node { return append(all[1:], testNode(0, nil), testNode(9, nil)) }), []string{
			"eu-1: Node node-0: added", "eu-1: Node node-1: removed", "eu-1: Node node-9: added",
		}},
		{"the last node goes", nodes(func(all []*corev1.Node) []*corev1.Node { return all[:5] }), []string{"eu-1: Node node-6: removed"}},
		{"weight", service(func(s *corev1.Service) { s.Annotations = map[string]string{"headgate.dev/weight": "1"} }), []string{"eu-1: Service media/tracks: metadata.annotations"}},
		{"ports", service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 1 }), []string{"eu-1: Service media/tracks: spec.ports"}},
		{"what nothing depends on", service(func(s *corev1.Service) {
			s.Labels = map[string]string{"a": "b"}
			s.Spec.Selector = s.Labels
		}), nil},
		{"target port", service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("x") }), []string{"eu-1: Service media/tracks: spec.ports"}},
		{"type and policy", service(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}), []string{"eu-1: Service media/tracks: spec.type, spec.externalTrafficPolicy"}},
		{"services come and go", services(func(all []*corev1.Service) []*corev1.Service {
			return append(all[1:], testService("a", 1, nil), testService("x", 2, nil))
		}), []string{"eu-1: Service media/a: added", "eu-1: Service media/tracks: removed", "eu-1: Service media/x: added"}},
		{"a cluster is lost", func(in *kube.Input) { in.Clusters[1].Connectivity.State = kube.LastKnown }, []string{"eu-2: does not answer"}},
		{"clusters", func(in *kube.Input) { in.Clusters[1].Name = "eu-3" }, []string{"eu-2: removed", "eu-3: added"}},
		{"routes", func(in *kube.Input) {
			in.Table = parseRoutes(t, `
routes:
- host: api.example.com
  path: /tracks
  timeouts: {server: 3s}
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 7}
- host: new.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
`)
		}, []string{"Route api.example.com/tracks: backends, timeouts", "Route new.example.com/: added", "Route www.example.com/: removed"}},
	}
	tests = append(tests, []struct {
		name   string
		change func(*kube.Input)
		want   []string
	}{
		{"regions", func(in *kube.Input) { in.Regions.Regions = []routes.Region{{Name: "eu"}} }, []string{"Regions: changed"}},
		{"prefer", func(in *kube.Input) {
			r := in.Table.Routes()[0]
			r.Shift, r.Prefer = true, []routes.Preference{{Clusters: []string{"eu-1"}}}
			changed, problems := routes.New(r)
			require.Empty(t, problems)
			rest := in.Table.Without(func(x *routes.Route) bool { return x.Compare(r) == 0 })
			in.Table, _ = routes.Merge(changed, rest)
		}, []string{"Route api.example.com/tracks: shift, prefer"}},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := base()
			tt.change(&after)
			var got []string
			for _, c := range kube.Causes(base(), after) {
				got = append(got, c.String())
			}
			require.Equal(t, tt.want, got)
		})
	}
	t.Run("pods move", func(t *testing.T) {
		ready := func(m map[string][]string) kube.Input {
			in := base()
			in.Clusters[0].Objects.ReadyNodes = m
			return in
		}
		before := ready(map[string][]string{"media/gone": {"node-1"}, "media/same": {"node-1"}, "media/web": {"node-1"}})
		after := ready(map[string][]string{"media/come": {"node-2"}, "media/same": {"node-1"}, "media/web": {"node-1", "node-2"}})
		service := func(name string) kube.Cause {
			return kube.Cause{Cluster: "eu-1", Object: "Service media/" + name, What: "nodes with ready pods"}
		}
		require.Equal(t, []kube.Cause{service("come"), service("gone"), service("web")}, kube.Causes(before, after))
	})
	t.Run("a cluster is back", func(t *testing.T) {
		before, after := base(), base()
		before.Clusters[0] = kube.Report{}.LastKnown("eu-1", now, "")
		before.Clusters[1].Connectivity.State = kube.LastKnown
		require.Equal(t, []kube.Cause{{Cluster: "eu-1", What: "answers"}, {Cluster: "eu-2", What: "answers again"}}, kube.Causes(before, after),
			"and not every node of it")
	})
}

func TestChanges(t *testing.T) {
	b := kube.Builder{Selector: nodeselect.Selector{Size: 6}}
	eu1, eu2 := twoClusterObjects()
	table := parseRoutes(t, twoClusters)
	_, before := b.Build(table, []kube.Cluster{eu1, eu2}, now)
	require.Empty(t, kube.NewChanges(now, before, before, deploy.ServerCounts{}, nil).Services)

	nodes := append([]*corev1.Node{}, eu1.Objects.Nodes[1:]...) // without node-1
	moved := testNode(3, nil)
	moved.Status.Addresses[0].Address = "10.0.7.7"
	nodes[1] = moved
	eu1.Objects = nodeselect.NewObjects(append(nodes, testNode(7, nil)), []*corev1.Service{
		testService("tracks", 30005, nil), testService("web", 30001, nil), testService("new", 30009, nil),
	})
	table = parseRoutes(t, `
routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
- host: www.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: new, port: http}
  - {cluster: eu-1, namespace: media, service: web, port: http}
`)
	_, after := b.Build(table, []kube.Cluster{eu1, eu2}, now)
	changes := kube.NewChanges(now, kept(t, before), after, deploy.ServerCounts{Added: 3}, make([]kube.Cause, kube.MaxCauses+2))
	require.Equal(t, deploy.ServerCounts{Added: 3}, changes.Servers)
	require.Len(t, changes.Causes, kube.MaxCauses)
	require.Equal(t, 2, changes.MoreCauses)
	var got []kube.ServiceChange
	for _, s := range changes.Services {
		s.Ref.Namespace, s.Ref.Port = "", ""
		got = append(got, s)
	}
	enter, leave := []string{"node-3", "node-7"}, []string{"node-1", "node-3"}
	name := func(cluster, service string) (s kube.ServiceChange) {
		s.Cluster, s.Service = cluster, service
		return s
	}
	want := []kube.ServiceChange{name("eu-1", "new"), name("eu-1", "tracks"), name("eu-1", "web"), name("eu-2", "tracks")}
	want[0].Added, want[0].Enter = true, after.Services[0].Nodes
	want[1].Enter, want[1].Leave, want[1].Ports = enter, leave, []string{"nodePort 30000 to 30005", "agentPort 9801 to 0"}
	want[2].Enter, want[2].Leave = enter, leave
	want[3].Removed, want[3].Leave = true, before.Services[2].Nodes
	require.Equal(t, want, got)
	require.Equal(t, &changes, kept(t, kube.Report{Changes: &changes}).Changes)
}

func TestSummary(t *testing.T) {
	causes := []kube.Cause{{Cluster: "eu-1", Object: "Node a", What: "added"}, {Object: "Route x/", What: "removed"}, {Cluster: "eu-2", What: "does not answer"}}
	c := kube.NewChanges(time.Time{}, kube.Report{}, kube.Report{}, deploy.ServerCounts{}, causes)
	require.Equal(t, "eu-1: Node a: added; Route x/: removed; eu-2: does not answer", c.Summary(3))
	require.Equal(t, "eu-1: Node a: added; and 2 more", c.Summary(1))
	c.MoreCauses = 5
	require.Equal(t, "eu-1: Node a: added; Route x/: removed; eu-2: does not answer; and 5 more", c.Summary(4))
	require.Empty(t, kube.Changes{}.Summary(3))
}
