package live

import (
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
)

// Replay does what a Watcher does, but without an API server and without a clock: the caller passes
// the answers of the API server, and the time of each of them. So a program can find out what a
// Watcher would do in an outage that lasts for hours. The same calls always give the same Snapshots.
//
// The times must not decrease. Only one goroutine at a time may use a Replay. The Replay does not
// change the objects that it receives.
type Replay struct {
	follower
	annotations nodeselect.Annotations
	latest      *Snapshot
}

// NewReplay returns a Replay that has received no answer. selector and current mean the same as
// Watcher.Selector and Watcher.Current.
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

// List passes a complete list of the nodes and of the services to the Replay, as an API server
// sends it at the start and after an outage. If the lists lack more than half of the known objects,
// the Replay doubts the lists; see Watcher.Run. objects.ReadyNodes are the nodes with a ready pod,
// by service. nil stands for a Watcher without LocalEndpoints, which does not read pods.
func (r *Replay) List(objects nodeselect.Objects, now time.Time) {
	nodes, services := r.trim(objects)
	r.queue.edit(func(q *queue) {
		q.nodes.replace(nodes, now)
		q.services.replace(services, now)
		q.setReadyNodes(objects.ReadyNodes)
	})
}

// Watch passes events of the API server to the Replay: the additions, changes and deletions after
// which the API server has the nodes and services in objects, and no others. The Replay believes
// all events, also the deletion of each object. Call List before the first Watch.
func (r *Replay) Watch(objects nodeselect.Objects, now time.Time) {
	nodes, services := r.trim(objects)
	r.queue.edit(func(q *queue) {
		watch(q.nodes, nodes, now)
		watch(q.services, services, now)
		q.setReadyNodes(objects.ReadyNodes)
	})
}

// watch changes the store as if a watch had reported all differences between its objects and list:
// it sets each object of list, and removes the objects that list lacks.
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

// Fail means that requests to the API server fail with err. If err is nil, the API server answers
// again; it then sends a List.
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

// Update applies all answers since the last Update, and judges the nodes at the time now. If a
// Watcher would call its function changed now, Update returns the Snapshot and true. A Watcher does
// this after each burst of changes, and every RecheckInterval.
func (r *Replay) Update(now time.Time) (Snapshot, bool) {
	r.queue.confirmDeletes(now)
	r.latest = nil
	r.update(now)
	if r.latest == nil {
		return Snapshot{}, false
	}
	return *r.latest, true
}

// setReadyNodes passes the nodes with a ready pod to the Tracker, for each service for which they
// have changed. nil changes nothing.
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
