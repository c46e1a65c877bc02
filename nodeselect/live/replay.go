package live

import (
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
)

// Replay shows what a Watcher would do, without an API server and a clock: the caller says how the
// API server answers and when. So a program can replay an outage of hours in a moment.
//
// The times must not decrease. A Replay is not safe for concurrent use, and does not change the
// objects that it receives.
type Replay struct {
	follower
	annotations nodeselect.Annotations
	latest      *Snapshot
}

// NewReplay returns a Replay whose API server has not answered yet. selector and current mean the
// same as Watcher.Selector and Watcher.Current.
func NewReplay(selector nodeselect.Selector, current nodeselect.Subsets) *Replay {
	r := &Replay{annotations: selector.Annotations}
	r.follower = follower{
		queue: newQueue(), tracker: nodeselect.NewTracker(selector, current), log: slog.New(slog.DiscardHandler),
		changed: func(s Snapshot) { r.latest = &s },
	}
	return r
}

// SetRefs does the same as Watcher.SetRefs.
func (r *Replay) SetRefs(refs []nodeselect.Ref) { r.queue.setRefs(refs) }

// List tells the Replay that the API server has sent complete lists of nodes and services, as at
// the start and after an outage. If more than half of the known objects are missing in the lists,
// the Replay keeps the missing objects for some minutes; see Watcher.Run.
//
// If objects.ReadyNodes is nil, the Replay acts like a Watcher without LocalEndpoints.
func (r *Replay) List(objects nodeselect.Objects, now time.Time) {
	nodes, services := r.trim(objects)
	r.queue.edit(func(q *queue) {
		q.nodes.replace(nodes, now)
		q.services.replace(services, now)
		q.setReadyNodes(objects.ReadyNodes)
	})
}

// Watch tells the Replay that a watch has reported changes, after which the API server has exactly
// the nodes and services in objects. The Replay believes all events, even the deletion of every
// object. Call List before the first Watch.
func (r *Replay) Watch(objects nodeselect.Objects, now time.Time) {
	nodes, services := r.trim(objects)
	r.queue.edit(func(q *queue) {
		watch(q.nodes, nodes, now)
		watch(q.services, services, now)
		q.setReadyNodes(objects.ReadyNodes)
	})
}

// watch changes the objects of s to those of the argument "list", as the events of a watch would:
// it sets each object of "list", and removes the objects of s that "list" lacks.
func watch[T object](s *store[T], list []T, now time.Time) {
	gone := make(map[string]bool, len(s.objects))
	for key := range s.objects {
		gone[key] = true
	}
	for _, t := range list {
		s.set(t, now)
		delete(gone, keyOf(t.GetNamespace(), t.GetName()))
	}
	for key := range gone {
		s.remove(key)
	}
}

func (r *Replay) trim(objects nodeselect.Objects) (nodes []*corev1.Node, services []*corev1.Service) {
	for _, n := range objects.Nodes {
		nodes = append(nodes, nodeselect.TrimNode(n))
	}
	for _, s := range objects.Services {
		services = append(services, r.annotations.TrimService(s))
	}
	return nodes, services
}

// Fail tells the Replay that from now on, requests to the API server fail with err. If err is nil,
// requests succeed again; the caller then calls List, because an API server sends complete lists
// after an outage.
func (r *Replay) Fail(err error, now time.Time) {
	r.queue.edit(func(q *queue) {
		q.changed = true
		for kind, resource := range []string{kindNodes: "nodes", kindServices: "services"} {
			if err == nil {
				q.failing[kind] = nil
				q.stores[kind].answered(now)
				continue
			}
			q.failing[kind] = &kubewatch.Error{Resource: resource, Since: now, Err: err}
		}
	})
}

// Update applies all answers since the last Update, and computes the verdicts of the nodes at the
// time "now". It returns a Snapshot and true whenever a Watcher would call its function "changed":
// after each burst of changes, and every RecheckInterval.
func (r *Replay) Update(now time.Time) (Snapshot, bool) {
	r.queue.confirmDeletes(now)
	r.latest = nil
	r.update(now)
	if r.latest == nil {
		return Snapshot{}, false
	}
	return *r.latest, true
}

// setReadyNodes passes to the Tracker the services whose list of nodes with a ready pod has changed
// since the last call. ready contains the present lists; if it is nil, setReadyNodes changes
// nothing.
func (q *queue) setReadyNodes(ready map[string][]string) {
	if ready == nil {
		return
	}
	if q.delta.ReadyNodes == nil {
		q.delta.ReadyNodes = map[string][]string{}
	}
	for key := range q.readyNodes {
		if _, ok := ready[key]; !ok {
			q.delta.ReadyNodes[key] = nil
			delete(q.readyNodes, key)
		}
	}
	for key, nodes := range ready {
		if was, ok := q.readyNodes[key]; !ok || !slices.Equal(was, nodes) {
			q.delta.ReadyNodes[key] = nodes
			set(&q.readyNodes, key, nodes)
		}
	}
	q.changed = true
}
