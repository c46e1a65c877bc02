package nodeagent_test

import (
	"cmp"
	"hash/fnv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/nodeselect"
)

func node(name string, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}}
	if change != nil {
		change(n)
	}
	return n
}

func service(name string, annotations map[string]string, nodePorts ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: name, Annotations: annotations}}
	s.Spec.Type = corev1.ServiceTypeNodePort
	if nodePorts == nil {
		h := fnv.New32()
		h.Write([]byte(name))
		nodePorts = []int32{31000 + int32(h.Sum32()%1000)}
	}
	for _, p := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{NodePort: p})
	}
	return s
}

func TestAnswerForTheNode(t *testing.T) {
	tests := []struct {
		name   string
		change func(*corev1.Node)
		want   string
	}{
		{"no signal", nil, "up ready"},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, "up drain # cordoned"},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, "up drain # being deleted"},
		{"annotated", func(n *corev1.Node) { n.Annotations["headgate.dev/drain"] = "true" }, "up drain # annotated"},
		{"annotated false", func(n *corev1.Node) { n.Annotations["headgate.dev/drain"] = "false" }, "up ready"},
		{"annotated badly", func(n *corev1.Node) { n.Annotations["headgate.dev/drain"] = "soon" }, "up ready"},
		{"excluded", func(n *corev1.Node) { n.Labels[nodeselect.ExcludeLabel] = "" }, `up drain # label node.kubernetes.io/exclude-from-external-load-balancers=""`},
		{"label that reads as false", func(n *corev1.Node) { n.Labels[nodeselect.ExcludeLabel] = "false" }, "up ready"},
		{"taint of an autoscaler", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "other"}, {Key: nodeselect.TaintClusterAutoscaler}}
		}, "up drain # taint ToBeDeletedByClusterAutoscaler"},
		{"two reasons", func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Annotations["headgate.dev/drain"] = "1"
		}, "up drain # cordoned, annotated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := nodeagent.Rules{Node: "a"}.State(nodeselect.NewObjects([]*corev1.Node{node("a", tt.change), node("b", nil)}, nil))
			require.NoError(t, err)
			require.Equal(t, tt.want, s.Node().String())
		})
	}
}

func TestState(t *testing.T) {
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tests := []struct {
		name     string
		node     *corev1.Node
		services []*corev1.Service
		rules    nodeagent.Rules
		want     map[uint16]string
		problems []string
	}{
		{
			name: "a node alone",
			node: node("a", nil),
			want: map[uint16]string{9707: "up ready"},
		},
		{
			name: "weights of services",
			node: node("a", nil),
			services: []*corev1.Service{
				service("plain", nil, 30000),
				service("default", map[string]string{"headgate.dev/agent-port": "9801"}, 30001),
				service("half", map[string]string{"headgate.dev/agent-port": "9802", "headgate.dev/weight": "50"}, 30002),
				service("double", map[string]string{"headgate.dev/agent-port": "9803", "headgate.dev/weight": "200"}, 30003),
				service("none", map[string]string{"headgate.dev/agent-port": "9804", "headgate.dev/weight": "0"}, 30004),
				service("held", map[string]string{"headgate.dev/agent-port": "9805", "headgate.dev/drain": "true"}, 30005),
			},
			want: map[uint16]string{
				9707: "up ready", 9801: "up ready 100%", 9802: "up ready 50%", 9803: "up ready 200%",
				9804: "up ready 0%", 9805: "up drain 100% # service is annotated",
			},
		},
		{
			name:     "a drained node drains its services and keeps their weight",
			node:     node("a", cordoned),
			services: []*corev1.Service{service("half", map[string]string{"headgate.dev/agent-port": "9802", "headgate.dev/weight": "50"})},
			want:     map[uint16]string{9707: "up drain # cordoned", 9802: "up drain 50% # cordoned"},
		},
		{
			name: "invalid annotations are problems and do not affect other Services",
			node: node("a", func(n *corev1.Node) { n.Annotations["headgate.dev/drain"] = "soon" }),
			services: []*corev1.Service{
				service("bad-port", map[string]string{"headgate.dev/agent-port": "99999"}),
				service("bad-weight", map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "half"}),
				service("reserved", map[string]string{"headgate.dev/agent-port": "9707"}),
				service("metrics", map[string]string{"headgate.dev/agent-port": "9708"}),
				service("node-port", map[string]string{"headgate.dev/agent-port": "30006"}),
				service("other", nil, 30006),
				service("good", map[string]string{"headgate.dev/agent-port": "9802"}),
			},
			rules: nodeagent.Rules{Reserved: []uint16{9708}},
			want:  map[uint16]string{9707: "up ready", 9801: "up ready 100%", 9802: "up ready 100%"},
			problems: []string{
				`Node a: metadata.annotations[headgate.dev/drain]: "soon": want true or false`,
				`Service media/bad-port: metadata.annotations[headgate.dev/agent-port]: "99999": want a port, 1 to 65535`,
				`Service media/metrics: metadata.annotations[headgate.dev/agent-port]: "9708": the service has no agent, because it is reserved`,
				`Service media/node-port: metadata.annotations[headgate.dev/agent-port]: "30006": the service has no agent, because it is a node port of Service media/other`,
				`Service media/reserved: metadata.annotations[headgate.dev/agent-port]: "9707": the service has no agent, because it is reserved`,
				`Service media/bad-weight: metadata.annotations[headgate.dev/weight]: "half": want a weight in percent, 0 to 256`,
			},
		},
		{
			name: "the oldest service gets a port that several ask for",
			node: node("a", nil),
			services: []*corev1.Service{
				service("aaa", map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "1"}),
				aged(service("old", map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "2"}), -time.Hour),
			},
			want:     map[uint16]string{9707: "up ready", 9801: "up ready 2%"},
			problems: []string{`Service media/aaa: metadata.annotations[headgate.dev/agent-port]: "9801": the service has no agent, because it is the agent port of Service media/old`},
		},
		{
			name:     "other prefix, port and signals",
			node:     node("a", cordoned),
			services: []*corev1.Service{service("s", map[string]string{"example.com/agent-port": "9801", "example.com/weight": "7"})},
			rules:    nodeagent.Rules{Port: 7000, Annotations: nodeselect.Annotations{Prefix: "example.com"}, Signals: []nodeagent.Signal{}},
			want:     map[uint16]string{7000: "up ready", 9801: "up ready 7%"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rules.Node = "a"
			s, err := tt.rules.State(nodeselect.NewObjects([]*corev1.Node{node("b", nil), tt.node}, tt.services))
			require.NoError(t, err)
			got := map[uint16]string{}
			for i, a := range s.Answers {
				got[a.Port] = a.Reply.String()
				if a.Service == "" {
					require.Equal(t, cmp.Or(tt.rules.Port, nodeagent.DefaultPort), a.Port)
					require.Equal(t, s.Node(), a.Reply)
				}
				if i > 0 {
					require.Less(t, s.Answers[i-1].Port, a.Port)
				}
			}
			require.Equal(t, tt.want, got)
			var problems []string
			for _, p := range s.Problems {
				problems = append(problems, p.Error())
			}
			require.Equal(t, tt.problems, problems)
		})
	}
}

func aged(s *corev1.Service, by time.Duration) *corev1.Service {
	s.CreationTimestamp = metav1.NewTime(s.CreationTimestamp.Add(by))
	return s
}

func TestStateWithoutTheNode(t *testing.T) {
	s, err := nodeagent.Rules{Node: "gone"}.State(nodeselect.NewObjects([]*corev1.Node{node("a", nil)}, []*corev1.Service{
		service("s", map[string]string{"headgate.dev/agent-port": "9801"}),
	}))
	require.ErrorIs(t, err, nodeagent.ErrNoNode)
	require.ErrorContains(t, err, `"gone"`)
	require.Equal(t, "up drain # node is gone", s.Node().String())
	require.Len(t, s.Answers, 2)
	require.Equal(t, "up drain 100% # node is gone", s.Answers[1].Reply.String())
}
