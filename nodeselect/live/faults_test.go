package live_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
)

// followed returns a server with four nodes and a service, and the snapshots of a Watcher of it.
func followed(t *testing.T, prepare func(*kubewatchtest.Server)) (*kubewatchtest.Server, <-chan live.Snapshot) {
	server := kubewatchtest.New(t)
	for _, n := range numbered(4) {
		server.Set(n)
	}
	server.Set(newService("tracks", 30080))
	prepare(server)
	w := &live.Watcher{Config: server.Config(), Quiet: time.Millisecond}
	w.SetRefs([]nodeselect.Ref{{Namespace: "media", Service: "tracks"}})
	return server, watched(t, w)
}

func nothing(*kubewatchtest.Server) {}

func healthy(s live.Snapshot) bool { return s.Synced && s.Err == nil }

// After somebody restores the store from a backup, objects have lower resource versions than
// before. The Watcher must use the older state.
func TestResourceVersionsThatGoBackwards(t *testing.T) {
	t.Parallel()
	server, snapshots := followed(t, nothing)
	first := until(t, snapshots, "list", healthy)
	restore := server.Backup()
	server.Delete(first.Objects.Nodes[0])
	server.Set(numbered(5)[4], newService("tracks", 30090))
	until(t, snapshots, "changes", func(s live.Snapshot) bool {
		return healthy(s) && s.Objects.Node(first.Objects.Nodes[0].Name) == nil && len(s.Objects.Nodes) == 4 && s.Selection.Targets[0].NodePort == 30090
	})
	restore()
	last := until(t, snapshots, "state of the backup", func(s live.Snapshot) bool {
		return healthy(s) && len(s.Selection.Targets) == 1 && s.Selection.Targets[0].NodePort == 30080 && s.Objects.Node(first.Objects.Nodes[0].Name) != nil
	})
	require.Equal(t, names(first.Selection.Targets[0].Nodes), names(last.Selection.Targets[0].Nodes))
}

// While the API server is away, somebody deletes a node, and another machine gets its name. No
// event reports the deletion.
func TestNodeReplacedDuringAnOutage(t *testing.T) {
	t.Parallel()
	server, snapshots := followed(t, nothing)
	first := until(t, snapshots, "list", healthy)
	old := first.Objects.Nodes[1]
	server.Down()
	until(t, snapshots, "error", func(s live.Snapshot) bool { return s.Err != nil })
	server.Delete(old, first.Objects.Nodes[2])
	replaced := old.DeepCopy()
	replaced.UID = types.UID("another")
	replaced.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.9.9.9"}}
	server.Set(replaced)
	server.Up()
	s := until(t, snapshots, "state after the outage", func(s live.Snapshot) bool { return healthy(s) && len(s.Objects.Nodes) == 3 })
	require.Equal(t, "10.9.9.9", s.Selection.Targets[0].Nodes[1].Addr.String())
	require.Nil(t, s.Objects.Node(first.Objects.Nodes[2].Name))
}

// An account may lose the permission for one resource only, or never have had it.
func TestOneForbiddenResource(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"nodes", "services"} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			server, snapshots := followed(t, func(s *kubewatchtest.Server) { s.Forbid(resource, true) })
			s := until(t, snapshots, "error", func(s live.Snapshot) bool { return s.Err != nil })
			require.False(t, s.Synced, "half a cluster is no cluster")
			require.True(t, apierrors.IsForbidden(s.Err))
			require.ErrorContains(t, s.Err, resource)
			server.Forbid(resource, false)
			until(t, snapshots, "first state", healthy)

			server.Forbid(resource, true)
			s = until(t, snapshots, "second error", func(s live.Snapshot) bool { return s.Err != nil })
			require.True(t, apierrors.IsForbidden(s.Err))
			require.Len(t, s.Selection.Targets[0].Nodes, 4, "the last good state")
			server.Forbid(resource, false)
			until(t, snapshots, "end of the error", healthy)
		})
	}
}

// A store may be restored from a backup that has no objects. Only the objects that the API server
// creates itself are there.
func TestStoreRestoredFromAnEmptyBackup(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	own := newService("kubernetes", 0, func(s *corev1.Service) { s.Namespace, s.Spec.Type = "default", corev1.ServiceTypeClusterIP })
	server.Set(own)
	restore := server.Backup()
	for _, n := range numbered(4) {
		server.Set(n)
	}
	server.Set(newService("tracks", 30080))
	w := &live.Watcher{Config: server.Config(), Quiet: time.Millisecond}
	w.SetRefs([]nodeselect.Ref{{Namespace: "media", Service: "tracks"}})
	snapshots := watched(t, w)
	until(t, snapshots, "list", healthy)
	restore()
	s := until(t, snapshots, "doubt", func(s live.Snapshot) bool { return s.Err != nil && len(s.Objects.Services) == 2 })
	require.Len(t, s.Objects.Nodes, 4)
	require.Len(t, s.Selection.Targets[0].Nodes, 4, "every server stays")

	for _, n := range numbered(4) {
		server.Set(n)
	}
	server.Set(newService("tracks", 30080))
	until(t, snapshots, "end of the doubt", healthy)
}
