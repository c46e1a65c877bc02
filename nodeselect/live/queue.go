package live

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/headgate/headgate/nodeselect"
)

// The kinds of objects, as indexes.
const (
	kindNodes = iota
	kindServices
	kindSlices
	kinds
)

// queue collects the changes of a cluster until the Watcher's goroutine takes them. Each source
// writes to the queue from its own goroutine.
type queue struct {
	inbox

	delta   nodeselect.Delta
	failing [kinds]error // why the API server does not answer for a kind; nil if it does
	synced  bool         // the API server has sent all lists that the first Snapshot needs
	waiting time.Time    // since when only the list of EndpointSlices is missing; zero before

	nodes    *store[*corev1.Node]
	services *store[*corev1.Service]
	slices   *store[*discoveryv1.EndpointSlice] // nil without Watcher.LocalEndpoints
	stores   [kinds]confirmer                   // the same stores; the element of EndpointSlices is nil without Watcher.LocalEndpoints
	pods     pods

	readyNodes map[string][]string // the last argument of setReadyNodes; only a Replay calls it
}

// confirmer has those methods of a store that do not depend on the kind of its objects.
type confirmer interface {
	err() error
	answered(now time.Time)
	confirmDeletes(now time.Time)
}

func newQueue() *queue {
	q := &queue{inbox: inbox{arrived: make(chan struct{}, 1)}}
	q.nodes = newStore("nodes", q, func(name string, n *corev1.Node) {
		set(&q.delta.Nodes, name, n)
		q.changed = true
	})
	q.services = newStore("services", q, func(key string, s *corev1.Service) {
		set(&q.delta.Services, key, s)
		q.changed = true
		q.pods.setService(key, s)
	})
	q.stores[kindNodes], q.stores[kindServices] = q.nodes, q.services
	q.pods.changed = func(key string, nodes []string) {
		set(&q.delta.ReadyNodes, key, nodes)
		q.changed = true
	}
	return q
}

// followSlices adds the store of EndpointSlices. Call it before any source writes to the queue.
func (q *queue) followSlices() {
	q.slices = newStore("endpointslices", q, q.pods.setSlice)
	q.slices.listedFirst = func() {
		q.delta.ReadyNodes = map[string][]string{} // not nil, even if no pod is ready
		q.pods.setListed()
	}
	q.stores[kindSlices] = q.slices
}

// The function "set" sets an element of a map. If the map is nil, set first makes it.
func set[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

// setRefs sets the service ports for which the Tracker chooses nodes.
func (q *queue) setRefs(refs []nodeselect.Ref) {
	refs = slices.Clone(refs)
	if refs == nil {
		refs = []nodeselect.Ref{} // nil would leave the refs of a Delta unchanged
	}
	q.edit(func(q *queue) { q.delta.Refs, q.changed = refs, true })
}

// edit calls the function f with q while it holds the lock of the inbox. If f sets q.changed, edit
// wakes the reader of the queue; see inbox.edit.
func (q *queue) edit(f func(*queue)) { q.inbox.edit(func() { f(q) }) }

// health returns the health function for one kind of object. The returned function stores the error
// with which the API server fails for this kind. See kubewatch.Source.Run.
func (q *queue) health(kind int) func(error) {
	return func(err error) {
		q.edit(func(q *queue) {
			q.failing[kind], q.changed = err, true
			if err == nil && q.stores[kind] != nil {
				q.stores[kind].answered(time.Now())
			}
		})
	}
}

// batch is what the queue has collected.
type batch struct {
	delta  nodeselect.Delta // zero value unless synced
	synced bool
	err    error // for Snapshot.Err
}

// The method "take" removes the collected changes from the queue and returns them. If the API
// server has not yet sent a first complete list of each kind of object, take returns no changes,
// and they stay in the queue.
func (q *queue) take(now time.Time) batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all errorList
	for _, err := range q.failing {
		if err != nil {
			all = append(all, err)
		}
	}
	for _, s := range q.stores {
		if s != nil && s.err() != nil {
			all = append(all, s.err())
		}
	}
	var b batch
	if len(all) > 0 {
		b.err = fmt.Errorf("nodeselect/live: %w", all)
	}
	q.synced = q.synced || q.complete(now)
	if b.synced = q.synced; b.synced {
		b.delta, q.delta = q.delta, nodeselect.Delta{}
	}
	return b
}

// slicesWait is how long the first Snapshot waits for EndpointSlices if requests for them fail. An
// API server may fail for a moment while it starts. Without EndpointSlices, the Watcher would
// choose nodes without pods for services with externalTrafficPolicy Local.
const slicesWait = 10 * time.Second

// complete reports whether the Watcher can make the first Snapshot: the lists of nodes, services
// and, if it follows them, EndpointSlices have arrived. complete does not wait for EndpointSlices
// any longer if the API server refuses them, or if requests for them have failed for slicesWait.
func (q *queue) complete(now time.Time) bool {
	if !q.nodes.listed || !q.services.listed {
		return false
	}
	if q.slices == nil || q.slices.listed {
		return true
	}
	if q.waiting.IsZero() {
		q.waiting = now
	}
	err := q.failing[kindSlices]
	return err != nil && (isPermanent(err) || now.Sub(q.waiting) >= slicesWait)
}

// isPermanent reports whether the API server has refused the request, so that waiting does not
// help.
func isPermanent(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

// confirmDeletes removes the objects that have been missing for doubt.ConfirmAfter. It skips a kind
// of object for which the API server does not answer: such an object may exist, but the server
// cannot show it.
func (q *queue) confirmDeletes(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for kind, s := range q.stores {
		if s != nil && q.failing[kind] == nil {
			s.confirmDeletes(now)
		}
	}
}

// errorList joins errors in one line.
type errorList []error

func (l errorList) Error() string {
	texts := make([]string, len(l))
	for i := range l {
		texts[i] = l[i].Error()
	}
	return strings.Join(texts, "; ")
}

func (l errorList) Unwrap() []error { return l }
