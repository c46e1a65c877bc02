package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
)

// RecheckInterval is the longest time between two computations of the verdicts of all nodes. A
// verdict says whether subsets may contain a node. It can change without a change of the node: the
// predicate Ready returns Avoid for a node that has not been ready for the grace time.
const RecheckInterval = 30 * time.Second

// Watcher follows a live cluster and chooses the nodes for a list of service ports. Set the fields
// before Run. It needs permission to list and watch nodes and services and, with LocalEndpoints,
// endpointslices of discovery.k8s.io.
type Watcher struct {
	// Config is the client-go configuration for the API server. Required.
	Config *rest.Config
	// Selector chooses the nodes. Its predicates get nodes in the form that nodeselect.TrimNode
	// returns, with only some of their fields.
	Selector nodeselect.Selector
	// Current has the nodes that each service uses when Run starts. nil means unknown. The Watcher
	// passes Current to Selector.Select as the argument "current".
	Current nodeselect.Subsets
	// Quiet is how long the Watcher waits after a change for further changes, before it makes a
	// Snapshot of all of them. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is the longest time from a change to the Snapshot that contains it, if other changes
	// keep coming. 0 means 1 s.
	MaxWait time.Duration
	// LocalEndpoints makes the Watcher follow EndpointSlices too: services with
	// externalTrafficPolicy Local get only nodes with a ready pod; see
	// nodeselect.Objects.ReadyNodes.
	//
	// The first Snapshot waits at most a minute for the EndpointSlices, and not at all if the API
	// server forbids to read them. Until they are read, pods do not affect the choice of nodes.
	LocalEndpoints bool
	// Logger gets a line when the API server stops answering, and another line when it answers
	// again. nil means no log.
	Logger *slog.Logger

	once    sync.Once
	queue   *queue
	started atomic.Bool
}

// Snapshot is the state of a cluster at one moment. Several Snapshots share data, so the receiver
// must not change a Snapshot.
type Snapshot struct {
	// Synced is true when all necessary lists have arrived. Before that, all fields except Err are
	// empty.
	Synced bool
	// Objects are the nodes and services, with only some of their fields; see nodeselect.TrimNode
	// and nodeselect.Annotations.TrimService.
	Objects nodeselect.Objects
	// Refs are the service ports for which Selection was made. They come from the last call of
	// SetRefs before this Snapshot.
	Refs []nodeselect.Ref
	// Selection contains the nodes that Selector.Select chooses for Refs from Objects. To keep
	// subsets stable, Select starts from the last subset of each service: the subset in the latest
	// Snapshot that contains the service. If there is no such Snapshot, Select starts from the
	// subset in Watcher.Current.
	Selection nodeselect.Selection
	// Changed names the nodes and services that are different in this Snapshot and the previous
	// one.
	Changed nodeselect.Changed
	// Err is nil while the API server answers and its answers are plausible. Otherwise Err states
	// what is wrong and since when, and the other fields are the last good state.
	Err error
}

func (w *Watcher) init() {
	w.once.Do(func() { w.queue = newQueue() })
}

// start prepares Run. It returns an error if Run was called before. If SetRefs was called before
// Run, the queue already has the refs of that call, and start keeps them.
func (w *Watcher) start() error {
	w.init()
	if w.started.Swap(true) {
		return errors.New("nodeselect/live: Run was called twice") // the queue holds only changes, so a second Run would lack the objects that the first Run has read
	}
	if w.LocalEndpoints {
		w.queue.edit(func(q *queue) {
			q.pods.count = w.Selector.LocalWeights
			q.followSlices()
		})
	}
	return nil
}

// SetRefs replaces the service ports for which the Watcher chooses nodes. It is safe for concurrent
// use. A Snapshot for these ports follows soon, or when the first lists of the cluster have
// arrived.
func (w *Watcher) SetRefs(refs []nodeselect.Ref) {
	w.init()
	w.queue.setRefs(refs)
}

// Run follows the cluster until ctx ends, and returns the error of ctx after all its goroutines
// have ended. An unusable Config or a second call of Run is an error at once.
//
// All calls of the function "changed" come from the goroutine that calls Run. The first call with
// Synced true passes the first lists. If the API server does not answer, earlier calls pass Err,
// with Synced false. A call follows each SetRefs, and each change of the Selection, the Objects or
// Err. Run merges the changes that arrive during a call, or within Quiet and MaxWait.
//
// If the API server does not answer, Run keeps the last good state and sets Err. It does the same
// for a doubtful list: a list that lacks more than half of the known nodes, services or
// EndpointSlices. Such a list may come from an API server that has lost its store, or from the
// wrong server behind a proxy. Run accepts every first list, and all deletions in a watch.
//
// Run removes the missing objects after five minutes in which the API server answers. After an
// empty list, these five minutes begin when the API server has an object again. The Service and the
// EndpointSlice that each API server creates for itself do not count.
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
		trim := trimSlice
		if w.Selector.LocalWeights {
			trim = trimCountedSlice
		}
		sources.Go(func() {
			kubewatch.Source[*discoveryv1.EndpointSlice]{
				Client: clients.Discovery, Resource: "endpointslices", Labels: endpointSlices, Transform: trim,
			}.Run(ctx, q.slices, q.health(kindSlices))
		})
	}
	return w.follow(ctx, changed)
}

func trimNode(n *corev1.Node) (*corev1.Node, bool) { return nodeselect.TrimNode(n), true }

func (w *Watcher) trimService(s *corev1.Service) (*corev1.Service, bool) {
	return w.Selector.Annotations.TrimService(s), true
}

// follow makes a Snapshot after each burst of changes in the queue, and passes it to the function
// "changed", until ctx ends.
func (w *Watcher) follow(ctx context.Context, changed func(Snapshot)) error {
	f := follower{
		queue: w.queue, tracker: nodeselect.NewTracker(w.Selector, w.Current),
		changed: changed, log: cmp.Or(w.Logger, slog.New(slog.DiscardHandler)),
	}
	burst := debounce.New(cmp.Or(w.Quiet, watcherQuiet), cmp.Or(w.MaxWait, watcherMaxWait))
	defer burst.Stop()
	recheck := time.Tick(RecheckInterval)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.queue.arrived:
			burst.Notify()
		case <-burst.C:
			f.update(time.Now())
		case <-recheck:
			w.queue.confirmDeletes(time.Now())
			f.update(time.Now())
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

// update passes the changes in the queue to the Tracker, which computes the verdict of each node at
// the time now. If the Selection, the objects or the error have changed, update passes a new
// Snapshot to the function in "changed".
func (f *follower) update(now time.Time) {
	b := f.queue.take(now)
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
	selection, changed := f.tracker.Update(b.delta, now)
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
