package nodeagent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/testscale"
	"github.com/headgate/headgate/nodeselect"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// managed adds a manager that has written the fields at a time. Kubernetes keeps the time in
// seconds.
func managed(n *corev1.Node, manager, fields string, at time.Time) {
	n.ManagedFields = append(n.ManagedFields, metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
		Time: &metav1.Time{Time: at.Truncate(time.Second)}, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	})
}

func cordon(n *corev1.Node, at time.Time) {
	n.Spec.Unschedulable = true
	managed(n, "kubectl-cordon", `{"f:spec":{"f:unschedulable":{}}}`, at)
}

func TestTimesOfRequests(t *testing.T) {
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	taint := func(key string, added time.Time) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: added}}
	}
	tests := []struct {
		name   string
		signal nodeagent.Signal
		change func(*corev1.Node)
		want   time.Time
	}{
		{"cordoned, without a known time", nodeagent.Cordoned(), func(n *corev1.Node) { n.Spec.Unschedulable = true }, time.Time{}},
		{"cordoned, by its manager", nodeagent.Cordoned(), func(n *corev1.Node) {
			managed(n, "kubelet", `{"f:metadata":{"f:annotations":{}},"f:status":{"f:unschedulable":{}}}`, at(1))
			cordon(n, at(5))
		}, at(5)},
		{"cordoned, by the taint of the node controller", nodeagent.Cordoned(), func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = []corev1.Taint{taint("other", at(1)), taint(corev1.TaintNodeUnschedulable, at(6))}
		}, at(6)},
		{"cordoned, and its manager has written again later", nodeagent.Cordoned(), func(n *corev1.Node) {
			cordon(n, at(60))
			n.Spec.Taints = []corev1.Taint{taint(corev1.TaintNodeUnschedulable, at(6))}
		}, at(6)},
		{"cordoned, managed fields that do not parse", nodeagent.Cordoned(), func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			managed(n, "odd", `{"f:spec":"f:unschedulable"}`, at(1))
			managed(n, "broken", `{"f:unschedulable`, at(1))
			n.ManagedFields = append(n.ManagedFields, metav1.ManagedFieldsEntry{Manager: "empty"})
		}, time.Time{}},
		{"being deleted", nodeagent.Deleted(), func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: at(3)} }, at(3)},
		{"annotated", nodeagent.Annotated(nodeselect.Annotations{}), func(n *corev1.Node) {
			n.Annotations["headgate.dev/drain"] = "true"
			managed(n, "kubectl-annotate", `{"f:metadata":{"f:annotations":{"f:headgate.dev/drain":{}}}}`, at(4))
		}, at(4)},
		{"annotated, another prefix", nodeagent.Annotated(nodeselect.Annotations{Prefix: "example.com"}), func(n *corev1.Node) {
			n.Annotations["example.com/drain"] = "true"
			managed(n, "kubectl-annotate", `{"f:metadata":{"f:annotations":{"f:example.com/drain":{}}}}`, at(4))
		}, at(4)},
		{"labelled", nodeagent.Labelled("example.com/repair"), func(n *corev1.Node) {
			n.Labels["example.com/repair"] = "disk"
			managed(n, "repair", `{"f:metadata":{"f:labels":{".":{},"f:example.com/repair":{}}}}`, at(7))
			managed(n, "backup", `{"f:metadata":{"f:labels":{"f:example.com/repair":{}}}}`, at(9))
		}, at(7)},
		{"tainted, with a time", nodeagent.Tainted("a"), func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{taint("a", at(8))}
			managed(n, "autoscaler", `{"f:spec":{"f:taints":{}}}`, at(5))
		}, at(8)},
		{"tainted, without a time", nodeagent.Tainted("a"), func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "a"}}
			managed(n, "autoscaler", `{"f:spec":{"f:taints":{}}}`, at(5))
		}, at(5)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request, ok := tt.signal.Request(node("a", tt.change))
			require.True(t, ok)
			require.True(t, tt.want.Equal(request.Since), "%s, want %s", request.Since, tt.want)
			_, ok = tt.signal.Request(node("a", nil))
			require.False(t, ok)
		})
	}
}

func TestTrackerStates(t *testing.T) {
	nodes := func(change map[string]func(*corev1.Node)) nodeselect.Objects {
		var list []*corev1.Node
		for i := range 10 {
			name := fmt.Sprint("n", i)
			list = append(list, node(name, change[name]))
		}
		return nodeselect.NewObjects(list, []*corev1.Service{service("s", map[string]string{"headgate.dev/agent-port": "9801"})})
	}
	cordoned := func(second int) func(*corev1.Node) {
		return func(n *corev1.Node) { cordon(n, noon.Add(time.Duration(second)*time.Second)) }
	}
	excluded := func(n *corev1.Node) { n.Labels[nodeselect.ExcludeLabel] = "" }
	tracker := nodeagent.Tracker{Rules: nodeagent.Rules{Node: "n0", MaxDrain: 0.2}}
	steps := []struct {
		name    string
		at      time.Duration
		objects nodeselect.Objects
		own     []nodeagent.DrainRequest
		answer  string
		service string
		want    nodeagent.DrainStatus
	}{
		{"no request", 0, nodes(nil), nil, "up ready", "up ready 100%", nodeagent.DrainStatus{Limit: 2, Total: 10}},
		{
			"others drain", time.Second,
			nodes(map[string]func(*corev1.Node){"n1": cordoned(1), "n2": cordoned(1), "n3": cordoned(1)}), nil,
			"up ready", "up ready 100%",
			nodeagent.DrainStatus{Draining: 2, Waiting: 1, Limit: 2, Total: 10},
		},
		{
			"this one waits", 2 * time.Second,
			nodes(map[string]func(*corev1.Node){"n1": cordoned(1), "n2": cordoned(1), "n0": cordoned(2)}), nil,
			"up ready # cordoned; waits: 2 of 10 nodes drain, no more than 2 may (20%)",
			"up ready 100% # cordoned; waits: 2 of 10 nodes drain, no more than 2 may (20%)",
			nodeagent.DrainStatus{Requested: true, Reason: "cordoned", Since: noon.Add(2 * time.Second), Draining: 2, Waiting: 1, Limit: 2, Total: 10},
		},
		{
			"the others are held down", 3 * time.Second, nodes(map[string]func(*corev1.Node){"n0": cordoned(2)}), nil,
			"up ready # cordoned; waits: 2 of 10 nodes drain, no more than 2 may (20%)",
			"up ready 100% # cordoned; waits: 2 of 10 nodes drain, no more than 2 may (20%)",
			nodeagent.DrainStatus{Requested: true, Reason: "cordoned", Since: noon.Add(2 * time.Second), Draining: 2, Waiting: 1, Limit: 2, Total: 10},
		},
		{
			"a place is free", 13 * time.Second, nodes(map[string]func(*corev1.Node){"n0": cordoned(2)}), nil,
			"up drain # cordoned", "up drain 100% # cordoned",
			nodeagent.DrainStatus{Requested: true, Effective: true, Reason: "cordoned", Since: noon.Add(2 * time.Second), Draining: 1, Limit: 2, Total: 10},
		},
		{
			"and a file", 14 * time.Second, nodes(map[string]func(*corev1.Node){"n0": cordoned(2)}),
			[]nodeagent.DrainRequest{{Reason: "file /run/drain", Since: noon.Add(14 * time.Second)}},
			"up drain # cordoned, file /run/drain", "up drain 100% # cordoned, file /run/drain",
			nodeagent.DrainStatus{Requested: true, Effective: true, Reason: "cordoned, file /run/drain", Since: noon.Add(2 * time.Second), Draining: 1, Limit: 2, Total: 10},
		},
		{
			"held down", 20 * time.Second, nodes(nil), nil,
			"up drain # cordoned, file /run/drain; no more, held for 10s",
			"up drain 100% # cordoned, file /run/drain; no more, held for 10s",
			nodeagent.DrainStatus{Effective: true, Reason: "cordoned, file /run/drain", Since: noon.Add(2 * time.Second), HeldUntil: noon.Add(30 * time.Second), Draining: 1, Limit: 2, Total: 10},
		},
		{"no request again", 30 * time.Second, nodes(nil), nil, "up ready", "up ready 100%", nodeagent.DrainStatus{Limit: 2, Total: 10}},
		{
			"control planes do not count", 60 * time.Second,
			nodes(map[string]func(*corev1.Node){"n7": excluded, "n8": excluded, "n9": excluded, "n1": cordoned(50), "n0": cordoned(60)}), nil,
			"up ready # cordoned; waits: 1 of 7 nodes drains, no more than 1 may (20%)",
			"up ready 100% # cordoned; waits: 1 of 7 nodes drains, no more than 1 may (20%)",
			nodeagent.DrainStatus{Requested: true, Reason: "cordoned", Since: noon.Add(60 * time.Second), Draining: 1, Waiting: 1, Limit: 1, Total: 7},
		},
		{
			"a control plane drains at once", 61 * time.Second,
			nodes(map[string]func(*corev1.Node){"n1": cordoned(50), "n2": cordoned(50), "n0": excluded}), nil,
			`up drain # label node.kubernetes.io/exclude-from-external-load-balancers=""`,
			`up drain 100% # label node.kubernetes.io/exclude-from-external-load-balancers=""`,
			nodeagent.DrainStatus{
				Requested: true, Effective: true, Reason: `label node.kubernetes.io/exclude-from-external-load-balancers=""`,
				Since: noon.Add(60 * time.Second), Draining: 1, Waiting: 1, Limit: 1, Total: 9,
			},
		},
	}
	for _, s := range steps {
		now := noon.Add(s.at)
		state, err := tracker.State(now, s.objects, s.own...)
		require.NoError(t, err)
		require.Equal(t, s.answer, state.Node().String(), s.name)
		require.Equal(t, s.service, state.Answers[1].Reply.String(), s.name)
		require.Equal(t, s.want, state.Drain, s.name)
		if s.name == "the others are held down" {
			require.Equal(t, noon.Add(13*time.Second), tracker.Next())
		}
	}
	require.Equal(t, noon.Add(71*time.Second), tracker.Next(), "another node is held down until then")
}

// A deleted node drains without a limit, because it is no longer part of the cluster. The limit
// applies only to the other nodes.
func TestTrackerWithoutItsNode(t *testing.T) {
	tracker := nodeagent.Tracker{Rules: nodeagent.Rules{Node: "a"}}
	both := nodeselect.NewObjects([]*corev1.Node{node("a", nil), node("b", nil)}, nil)
	state, err := tracker.State(noon, both)
	require.NoError(t, err)
	require.Equal(t, "up ready", state.Node().String())

	state, err = tracker.State(noon.Add(time.Second), nodeselect.NewObjects([]*corev1.Node{node("b", nil)}, nil))
	require.ErrorIs(t, err, nodeagent.ErrNoNode)
	require.ErrorContains(t, err, "there are b")
	require.Equal(t, "up drain # node is gone", state.Node().String())
	require.Equal(t, 1, state.Drain.Total)
	require.Zero(t, state.Drain.Draining)

	state, err = tracker.State(noon.Add(2*time.Second), both)
	require.NoError(t, err)
	require.Equal(t, "up drain # node is gone; no more, held for 10s", state.Node().String())
}

func TestLimitsOfSmallClusters(t *testing.T) {
	tests := []struct {
		nodes    int
		share    float64
		draining int // if all nodes are cordoned
	}{{1, 0, 0}, {1, 1, 1}, {2, 0, 1}, {3, 0, 1}, {3, 0.9, 2}, {3, 1, 3}, {7, 0, 2}}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d nodes, %v", tt.nodes, tt.share), func(t *testing.T) {
			var nodes []*corev1.Node
			for i := range tt.nodes {
				nodes = append(nodes, node(fmt.Sprint("n", i), func(n *corev1.Node) { cordon(n, noon) }))
			}
			draining := 0
			for _, n := range nodes {
				s, err := nodeagent.Rules{Node: n.Name, MaxDrain: tt.share}.State(nodeselect.NewObjects(nodes, nil))
				require.NoError(t, err)
				require.Equal(t, tt.draining, s.Drain.Draining)
				require.Equal(t, tt.nodes-tt.draining, s.Drain.Waiting)
				if s.Node().Admin == agentcheck.Drain {
					draining++
				}
			}
			require.Equal(t, tt.draining, draining)
		})
	}
}

// TestAgentsAgree cordons and uncordons random nodes of random clusters, and runs the agents of all
// nodes. The number of draining nodes must never exceed the limit. A node that drains must continue
// while it is cordoned. All agents must report the same counts. The restart of an agent must not
// change its answer.
func TestAgentsAgree(t *testing.T) {
	for seed := range uint64(testscale.Of(20)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rules := nodeagent.Rules{MaxDrain: []float64{0.1, 0.3, 0.5, 0.8, 1}[rng.IntN(5)]}
		restarts := rng.IntN(2) == 0
		if restarts || rng.IntN(3) == 0 {
			rules.HoldDown = -1 // a restart forgets only the hold-down
		}
		var nodes []*corev1.Node
		agents := map[string]*nodeagent.Tracker{}
		for i := range 1 + rng.IntN(12) {
			n := node(fmt.Sprint("n", i), nil)
			nodes = append(nodes, n)
		}
		start := func(name string) {
			r := rules
			r.Node = name
			agents[name] = &nodeagent.Tracker{Rules: r}
		}
		for _, n := range nodes {
			start(n.Name)
		}
		now := noon
		granted := map[string]bool{}
		for step := range 80 {
			now = now.Add([]time.Duration{10 * time.Millisecond, 300 * time.Millisecond, time.Second, 7 * time.Second, 40 * time.Second}[rng.IntN(5)])
			// Only an agent that starts later would notice a node that changes twice between two
			// steps. So each node changes at most once.
			for _, i := range rng.Perm(len(nodes))[:rng.IntN(1+min(2, len(nodes)))] {
				n := nodes[i].DeepCopy() // like an object from a watch
				n.ManagedFields = nil
				switch {
				case n.Spec.Unschedulable && rng.IntN(2) == 0:
					n.Spec.Unschedulable = false
				default:
					if !n.Spec.Unschedulable {
						granted[n.Name] = false
					}
					at := now
					if n.Spec.Unschedulable {
						at = nodes[i].ManagedFields[0].Time.Time
					}
					cordon(n, at)
				}
				nodes[i] = n
			}
			objects := nodeselect.NewObjects(nodes, nil)
			order := rng.Perm(len(nodes))
			var first nodeagent.DrainStatus
			draining := 0
			for k, i := range order {
				n := nodes[i]
				if restarts && rng.IntN(10) == 0 {
					start(n.Name)
				}
				s, err := agents[n.Name].State(now, objects)
				if err != nil {
					require.NoError(t, err)
				}
				d := s.Drain
				if d.Effective {
					draining++
				}
				if k == 0 {
					first = d
				}
				where := func() string { return fmt.Sprintf("seed %d, step %d, %s: %+v", seed, step, n.Name, d) }
				switch {
				case [4]int{first.Draining, first.Waiting, first.Limit, first.Total} != [4]int{d.Draining, d.Waiting, d.Limit, d.Total}:
					require.FailNow(t, "agents do not agree", where())
				case n.Spec.Unschedulable != d.Requested:
					require.FailNow(t, "a cordon has no effect", where())
				case granted[n.Name] && n.Spec.Unschedulable && !d.Effective:
					require.FailNow(t, "a drain ends too early", where())
				}
				// Within the same second, another node may take its place.
				granted[n.Name] = d.Effective && d.Requested && now.Sub(d.Since) >= time.Second
			}
			require.LessOrEqual(t, draining, first.Limit, "seed %d", seed)
			require.Equal(t, first.Draining, draining, "seed %d", seed)
			require.False(t, first.Waiting > 0 && draining < first.Limit, "seed %d: a node waits though there is room", seed)
			if rules.MaxDrain < 1 {
				require.Less(t, draining, len(nodes), "all drain")
			}
		}
	}
}

// A Watcher sees other nodes by these selectors.
func TestDefaultSignalsSelect(t *testing.T) {
	var selectors []string
	for _, s := range nodeagent.DefaultSignals(nodeselect.Annotations{}) {
		if s.Fields+s.Labels != "" {
			selectors = append(selectors, s.Fields+s.Labels)
		}
	}
	slices.Sort(selectors)
	require.Equal(t, []string{nodeselect.ExcludeLabel, "spec.unschedulable=true"}, selectors)
}
