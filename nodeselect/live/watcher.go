package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/debounce"
	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
)

const (
	watcherQuiet   = 100 * time.Millisecond
	watcherMaxWait = time.Second

	// watcherRecheck is the time between two judgements of the nodes without an event. A verdict
	// may change with time alone: Ready avoids a node when its grace has passed.
	watcherRecheck = 30 * time.Second
)

// Watcher follows a live cluster and keeps the selection for a list of refs up to date. Set the
// fields before Run. The Watcher needs permission to list and watch nodes and services, and with
// LocalEndpoints also endpointslices of discovery.k8s.io.
type Watcher struct {
	// Config is the client-go configuration for the API server. Required.
	Config *rest.Config
	// Selector chooses the nodes. Its predicates get nodes as nodeselect.TrimNode returns them.
	Selector nodeselect.Selector
	// Current are the nodes that each service uses at the start; nil if unknown. They have the
	// meaning of current in Selector.Select.
	Current nodeselect.Subsets
	// Quiet is how long the cluster must be unchanged before the Watcher makes a Snapshot of the
	// changes so far. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is how long a change waits at most for its Snapshot while others follow. 0 means 1 s.
	MaxWait time.Duration
	// LocalEndpoints makes the Watcher follow EndpointSlices too. Services with
	// externalTrafficPolicy Local then get only nodes with a ready pod; see
	// nodeselect.Objects.ReadyNodes. The first Snapshot waits for the EndpointSlices for at most a
	// minute, and not at all if the API server forbids them. Until they can be read, such services
	// get nodes without regard to pods.
	LocalEndpoints bool
	// Logger logs when the API server stops answering and when it answers again. nil logs nothing.
	Logger *slog.Logger

	once    sync.Once
	queue   *queue
	started atomic.Bool
}

// Snapshot is the state of a cluster at one moment. Neither the Watcher nor the receiver may change
// it.
type Snapshot struct {
	// Synced is true once everything has been listed. Until then all fields but Err are empty.
	Synced bool
	// Objects are the nodes and services, trimmed as nodeselect.TrimNode and
	// nodeselect.Annotations.TrimService describe.
	Objects nodeselect.Objects
	// Refs are the refs of the last SetRefs that the Selection is for.
	Refs []nodeselect.Ref
	// Selection is the result of Selector.Select for Objects and Refs. The current nodes of a
	// service are those in the last Snapshot with that service, or in Watcher.Current.
	Selection nodeselect.Selection
	// Changed names the nodes and services that differ from the previous Snapshot.
	Changed nodeselect.Changed
	// Err is nil while the API server answers and its answers are plausible. Otherwise the error
	// states the reason and since when, and the other fields are the last good state.
	Err error
}

func (w *Watcher) init() {
	w.once.Do(func() { w.queue = newQueue() })
}

// start prepares Run. SetRefs may have been called before.
func (w *Watcher) start() error {
	w.init()
	if w.started.Swap(true) {
		return errors.New("nodeselect/live: Run was called twice") // the queue holds changes, not the whole cluster
	}
	if w.LocalEndpoints {
		w.queue.edit((*queue).followSlices)
	}
	return nil
}

// SetRefs sets the service ports for which the Watcher chooses nodes. It replaces those of earlier
// calls. Any goroutine may call it at any time. A Snapshot with these refs follows as soon as the
// cluster has been listed.
func (w *Watcher) SetRefs(refs []nodeselect.Ref) {
	w.init()
	refs = slices.Clone(refs)
	if refs == nil {
		refs = []nodeselect.Ref{} // nil would leave the refs of a Delta unchanged
	}
	w.queue.edit(func(q *queue) { q.delta.Refs, q.changed = refs, true })
}

// Run follows the cluster until ctx ends, and returns the error of ctx. All goroutines that Run
// started have ended when it returns. If Config is unusable, or if Run is called a second time, Run
// returns another error at once.
//
// Run calls changed from its own goroutine. The first call comes when everything has been listed,
// or with Err and without Synced when the API server does not answer. Further calls follow each
// change of the Selection or the Objects, each change of Err, and each SetRefs. Run collects
// changes for Quiet, at most for MaxWait, and also while changed runs.
//
// If the API server does not answer, the last good state remains and Err is set. The same holds for
// a list that lacks more than half of the nodes, services or EndpointSlices of the list before: an
// API server with an empty store, or a wrong server behind a proxy, must not take all servers away
// at once. The missing objects remain for five minutes in which the API server answers. After an
// empty list the five minutes begin only when objects appear; the Service and EndpointSlice that
// the API server creates for itself do not count. Deletions that Run watches take effect at once,
// however many there are. The first list is not compared with anything.
func (w *Watcher) Run(ctx context.Context, changed func(Snapshot)) error {
	clients, err := kubewatch.NewClients(w.Config)
	if err != nil {
		return fmt.Errorf("nodeselect/live: Config cannot be used: %w", err)
	}
	if err := w.start(); err != nil {
		return err
	}
	var sources sync.WaitGroup
	defer sources.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := w.queue
	sources.Go(func() {
		kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: trimNode}.
			Run(ctx, q.nodes, q.health(kindNodes))
	})
	sources.Go(func() {
		kubewatch.Source[*corev1.Service]{Client: clients.Core, Resource: "services", Transform: w.trimService}.
			Run(ctx, q.services, q.health(kindServices))
	})
	if w.LocalEndpoints {
		sources.Go(func() {
			kubewatch.Source[*discoveryv1.EndpointSlice]{
				Client: clients.Discovery, Resource: "endpointslices", Labels: endpointSlices, Transform: trimSlice,
			}.Run(ctx, q.slices, q.health(kindSlices))
		})
	}
	return w.follow(ctx, changed)
}

func trimNode(n *corev1.Node) (*corev1.Node, bool) { return nodeselect.TrimNode(n), true }

func (w *Watcher) trimService(s *corev1.Service) (*corev1.Service, bool) {
	return w.Selector.Annotations.TrimService(s), true
}

// follow turns the changes in the queue into Snapshots until ctx ends.
func (w *Watcher) follow(ctx context.Context, changed func(Snapshot)) error {
	f := follower{
		queue: w.queue, tracker: nodeselect.NewTracker(w.Selector, w.Current),
		changed: changed, log: cmp.Or(w.Logger, slog.New(slog.DiscardHandler)),
	}
	burst := debounce.New(cmp.Or(w.Quiet, watcherQuiet), cmp.Or(w.MaxWait, watcherMaxWait))
	defer burst.Stop()
	recheck := time.NewTicker(watcherRecheck)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.queue.arrived:
			burst.Notify()
		case <-burst.C:
			f.update()
		case <-recheck.C:
			w.queue.confirmDeletes(time.Now())
			f.update()
		}
	}
}

// follower is the state of follow.
type follower struct {
	queue   *queue
	tracker *nodeselect.Tracker
	changed func(Snapshot)
	log     *slog.Logger

	synced bool
	reason string // text of the last Err, "" for nil
}

// update applies the changes in the queue to the Tracker, and calls changed if they matter.
func (f *follower) update() {
	b := f.queue.take(time.Now())
	reason := ""
	if b.err != nil {
		reason = b.err.Error()
	}
	errChanged := reason != f.reason
	f.reason = reason
	switch {
	case errChanged && b.err != nil:
		f.log.Warn("the API server does not answer, or its answer is not plausible", "err", b.err)
	case errChanged:
		f.log.Info("the API server answers again")
	}
	if !b.synced {
		if errChanged && b.err != nil {
			f.changed(Snapshot{Err: b.err})
		}
		return
	}
	first := !f.synced
	f.synced = true
	selection, changed := f.tracker.Update(b.delta, time.Now())
	if !first && !errChanged && changed.IsZero() && b.delta.Refs == nil {
		return
	}
	objects := f.tracker.Objects()
	if first {
		f.log.Info("the cluster has been listed", "nodes", len(objects.Nodes), "services", len(objects.Services))
	}
	f.changed(Snapshot{
		Synced: true, Objects: objects, Refs: f.tracker.Refs(),
		Selection: selection, Changed: changed, Err: b.err,
	})
}
