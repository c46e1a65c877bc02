package live

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/internal/doubt"
)

func replayObjects(nodes int) nodeselect.Objects {
	return nodeselect.NewObjects(testNodes(1, nodes), []*corev1.Service{testService("s")})
}

// A Replay follows the rules of a Watcher, at the times of the caller.
func TestReplay(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := NewReplay(nodeselect.Selector{}, nil)
	r.SetRefs([]nodeselect.Ref{testRef})
	r.Fail(errors.New("refused"), start)
	s, ok := r.Update(start)
	require.True(t, ok)
	require.False(t, s.Synced)
	require.ErrorContains(t, s.Err, "refused")

	r.Fail(nil, start)
	r.List(replayObjects(9), start)
	s, ok = r.Update(start)
	require.True(t, ok)
	require.NoError(t, s.Err)
	require.Len(t, s.Selection.Targets[0].Nodes, 9)
	_, ok = r.Update(start.Add(time.Minute))
	require.False(t, ok, "nothing has changed")

	// The deletion of each node counts in a watch, but not in a list.
	r.List(replayObjects(3), start)
	s, _ = r.Update(start)
	require.Len(t, s.Objects.Nodes, 9)
	require.ErrorContains(t, s.Err, "lacks 6 of 9")
	_, ok = r.Update(start.Add(doubt.ConfirmAfter - time.Second))
	require.False(t, ok)
	s, _ = r.Update(start.Add(doubt.ConfirmAfter))
	require.NoError(t, s.Err)
	require.Len(t, s.Objects.Nodes, 3)
	start = start.Add(time.Hour)
	r.Watch(replayObjects(1), start)
	s, _ = r.Update(start)
	require.Len(t, s.Objects.Nodes, 1)
	require.Len(t, s.Selection.Targets[0].Nodes, 1)

	// An API server without data.
	r.List(nodeselect.Objects{}, start)
	s, _ = r.Update(start.Add(24 * time.Hour))
	require.Len(t, s.Objects.Nodes, 1)
	require.Error(t, s.Err)
}

// A node that is not ready is avoided when its time of grace has passed, without an event.
func TestReplayJudgesNodesAgain(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := NewReplay(nodeselect.Selector{Size: 2}, nil)
	r.SetRefs([]nodeselect.Ref{testRef})
	objects := replayObjects(3)
	r.List(objects, start)
	s, _ := r.Update(start)
	dead := s.Selection.Targets[0].Nodes[0].Name
	for i, n := range objects.Nodes {
		if n.Name == dead {
			n = n.DeepCopy()
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
			n.Status.Conditions[0].LastTransitionTime.Time = start
			n.CreationTimestamp.Time = start.Add(-time.Hour)
			objects.Nodes[i] = n
		}
	}
	r.Watch(objects, start)
	s, _ = r.Update(start.Add(nodeselect.DefaultGrace - time.Second))
	require.Empty(t, s.Selection.Findings)
	s, ok := r.Update(start.Add(nodeselect.DefaultGrace + time.Second))
	require.True(t, ok)
	require.Len(t, s.Selection.Findings, 1)
	require.Equal(t, dead, s.Selection.Findings[0].Node)
	require.Equal(t, nodeselect.Avoid, s.Selection.Findings[0].Verdict)
}

// The ready nodes of a Replay restrict services with externalTrafficPolicy Local.
func TestReplayReadyNodes(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	local := testService("s")
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	objects := nodeselect.NewObjects(testNodes(1, 3), []*corev1.Service{local})
	objects.ReadyNodes = map[string][]string{testRef.Key(): {objects.Nodes[0].Name, objects.Nodes[1].Name}}
	r := NewReplay(nodeselect.Selector{}, nil)
	r.SetRefs([]nodeselect.Ref{testRef})
	r.List(objects, start)
	s, _ := r.Update(start)
	require.Len(t, s.Selection.Targets[0].Nodes, 2)
	objects.ReadyNodes = map[string][]string{testRef.Key(): {objects.Nodes[2].Name}}
	r.Watch(objects, start)
	s, _ = r.Update(start)
	require.Len(t, s.Selection.Targets[0].Nodes, 1)
	_, ok := r.Update(start)
	require.False(t, ok)
}
