package nodeselect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/nodeselect"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// clusterOf returns n old nodes that are ready, and the further nodes.
func clusterOf(n int, further ...*corev1.Node) []*corev1.Node {
	nodes := further
	for i := range n {
		nodes = append(nodes, newNode(fmt.Sprintf("old%03d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250+1),
			created(now.Add(-100*time.Hour)), ready(corev1.ConditionTrue, now.Add(-99*time.Hour))))
	}
	return nodes
}

// A scale-up changes subsets when the new nodes are ready, and not before.
func TestNewNodesGetNoPlacesBeforeTheyAreReady(t *testing.T) {
	newNodes := func(status corev1.ConditionStatus) (nodes []*corev1.Node) {
		for i := range 30 {
			nodes = append(nodes, newNode(fmt.Sprintf("new%03d", i), fmt.Sprintf("10.2.0.%d", i+1),
				created(now.Add(-65*time.Second)), ready(status, now.Add(-time.Minute))))
		}
		return nodes
	}
	s := nodeselect.Selector{Size: 8}
	before := s.Pool(clusterOf(30), now)
	unready := s.Pool(clusterOf(30, newNodes(corev1.ConditionFalse)...), now)
	afterwards := s.Pool(clusterOf(30, newNodes(corev1.ConditionTrue)...), now)
	entered := 0
	for i := range 100 {
		key := fmt.Sprintf("shop/s%d", i)
		require.Equal(t, before.Pick(key, nil), unready.Pick(key, nil))
		for _, n := range afterwards.Pick(key, nil) {
			if strings.HasPrefix(n.Name, "new") {
				entered++
			}
		}
	}
	require.InDelta(t, 400, entered, 80, "half of the 800 places")
	require.Len(t, unready.Findings(), 30)
}

// In a new cluster, no node has ever been ready. An empty subset would serve nobody.
func TestNodesThatWereNeverReadyAreBetterThanNone(t *testing.T) {
	n := newNode("a", "10.0.0.1", created(now), ready(corev1.ConditionFalse, now))
	require.Len(t, nodeselect.Selector{}.Pool([]*corev1.Node{n}, now).Pick("shop/web", nil), 1)
}

func TestExcludeLabelsAndTaints(t *testing.T) {
	labels, err := nodeselect.ParseMatches([]string{"kubernetes.io/os=windows", "edge"})
	require.NoError(t, err)
	taints, err := nodeselect.ParseMatches([]string{"dedicated=batch", "gpu"})
	require.NoError(t, err)
	withValue := func(key, value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Value: value}} }
	}
	predicates := []nodeselect.Predicate{nodeselect.ExcludeLabels(labels...), nodeselect.ExcludeTaints(taints...)}
	for _, tt := range []struct {
		change func(*corev1.Node)
		reason string
	}{
		{label("kubernetes.io/os", "windows"), `label kubernetes.io/os="windows"`},
		{label("kubernetes.io/os", "linux"), ""},
		{label("edge", ""), `label edge=""`},
		{label("edge", "yes"), `label edge="yes"`},
		{label("edge", "false"), ""},
		{label("other", "x"), ""},
		{withValue("dedicated", "batch"), "taint dedicated"},
		{withValue("dedicated", "web"), ""},
		{withValue("gpu", "false"), "taint gpu"},
	} {
		findings := nodeselect.Selector{Predicates: predicates}.Pool([]*corev1.Node{newNode("a", "10.0.0.1", tt.change)}, now).Findings()
		if tt.reason == "" {
			require.Empty(t, findings)
			continue
		}
		require.Equal(t, []nodeselect.Finding{{Node: "a", Verdict: nodeselect.Excluded, Reason: tt.reason}}, findings)
	}
}

func TestParseMatchRefuses(t *testing.T) {
	for _, text := range []string{"", "=", "=x", "a b", "a/b/c", "a=b c", "a=" + strings.Repeat("x", 64)} {
		_, err := nodeselect.ParseMatch(text)
		require.ErrorContains(t, err, "nodeselect: ", text)
		_, err = nodeselect.ParseMatches([]string{"a", text})
		require.Error(t, err)
	}
}

// FuzzParseMatch checks that the key and the value of a Match, put together, are the parsed text.
func FuzzParseMatch(f *testing.F) {
	f.Add("kubernetes.io/os=windows")
	f.Add("edge")
	f.Add("edge=")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := nodeselect.ParseMatch(text)
		if err != nil {
			return
		}
		require.NotEmpty(t, m.Key)
		require.Equal(t, strings.TrimSuffix(text, "="), strings.TrimSuffix(m.Key+"="+m.Value, "="))
	})
}
