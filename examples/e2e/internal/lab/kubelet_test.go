//go:build linux

package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestChooseNode(t *testing.T) {
	node := func(name string, unschedulable bool, ready corev1.ConditionStatus) corev1.Node {
		return corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: unschedulable},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	pod := func(app, on string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "media", Labels: map[string]string{AppLabel: app}}, Spec: corev1.PodSpec{NodeName: on},
		}
	}
	nodes := []corev1.Node{
		node("a", false, corev1.ConditionTrue), node("b", false, corev1.ConditionTrue),
		node("cordoned", true, corev1.ConditionTrue), node("down", false, corev1.ConditionFalse),
	}
	tracks := pod("tracks", "")
	require.Equal(t, "a", chooseNode(&tracks, nodes, nil))
	require.Equal(t, "b", chooseNode(&tracks, nodes, []corev1.Pod{pod("tracks", "a"), pod("web", "b")}))
	require.Empty(t, chooseNode(&tracks, nodes[2:], nil))

	daemon := tracks
	daemon.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"down"}},
		}}},
	}}}
	require.Equal(t, "down", chooseNode(&daemon, nodes, nil))
	require.Empty(t, chooseNode(&daemon, nodes[:2], nil))
}
