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

	// watcherRecheck is how often nodes are judged without any event. What a predicate
	// says of a node may change by the clock alone, as Ready's verdict does when its
	// grace is over.
	watcherRecheck = 30 * time.Second
)

// Watcher follows a live cluster, and keeps the selection of what is declared up to
// date. Set its fields before Run. It needs permission to list and watch nodes and
// services, and endpointslices of discovery.k8s.io with LocalEndpoints.
type Watcher struct {
	// Config says how to reach the API server, as client-go's loaders give it.
	Config *rest.Config
	// Selector chooses the nodes. Its predicates see of a node what Parse gives, without
	// the messages and heartbeats of conditions and the annotation of kubectl apply.
	Selector nodeselect.Selector
	// Current are the subsets in use at the start, nil if none are known.
	Current nodeselect.Subsets
	// Quiet is for how long nothing must happen before a change is taken for complete;
	// 0 is 100 ms.
	Quiet time.Duration
	// MaxWait is how long the first of many changes waits at most; 0 is 1 s.
	MaxWait time.Duration
	// LocalEndpoints makes the Watcher follow EndpointSlices too, so that services with
	// externalTrafficPolicy Local get nodes with a ready pod; see Objects.ReadyNodes.
	// Run waits for them at first, but not if reading them is refused, nor for longer
	// than a minute: until they can be read, such services are treated as without it.
	LocalEndpoints bool
	// Logger is told of the cluster's coming and going; nil is silent.
	Logger *slog.Logger

	once  sync.Once
	inbox *inbox
	ran   atomic.Bool
}

// Snapshot is a cluster at a moment. It is not changed later, and must not be by who
// gets it.
type Snapshot struct {
	// Synced is true when the cluster has been seen whole, once. Until then everything
	// but Err is empty.
	Synced bool
	// Objects are what this package reads of nodes and services, and nothing else.
	Objects nodeselect.Objects
	// Refs are what Selection is for, as SetRefs gave them.
	Refs []nodeselect.Ref
	// Selection is that of Selector.Select for Objects and Refs, with the subset that
	// each declared service had last, if only in Watcher.Current, as the current one.
	Selection nodeselect.Selection
	// Changed names what is different from the Snapshot before.
	Changed nodeselect.Changed
	// Err is nil while the API server answers. Else it says since when and why it does
	// not, or what it said that is not believed, and the rest is the last good state.
	Err error
}

func (w *Watcher) init() {
	w.once.Do(func() { w.inbox = newInbox() })
}

// start gets ready for Run, when the fields are set: SetRefs may have come before.
func (w *Watcher) start() error {
	w.init()
	if w.ran.Swap(true) {
		return errors.New("nodeselect/live: the Watcher has run already") // what it has seen is in no Tracker
	}
	if w.LocalEndpoints {
		w.inbox.put((*inbox).followSlices)
	}
	return nil
}

// SetRefs sets what is declared. It may be called at any time, from any goroutine; the
// last call counts. A Snapshot with these Refs follows, if the cluster has been seen.
func (w *Watcher) SetRefs(refs []nodeselect.Ref) {
	w.init()
	refs = slices.Clone(refs)
	if refs == nil {
		refs = []nodeselect.Ref{}
	}
	w.inbox.put(func(in *inbox) { in.delta.Refs, in.news = refs, true })
}

// Run follows the cluster until ctx ends, and returns the error of ctx then. What it
// started has ended by that time. It returns another error, at once, if Config cannot
// be used, or if it is called again: a Watcher runs once.
//
// changed is called from the goroutine of Run: first when everything has been listed,
// or when that turns out impossible for now, with Err and without Synced; then
// after each change that matters, when the API server stops to answer or answers again,
// and after SetRefs. Changes are collected for Quiet, and MaxWait at most. While changed
// runs they are collected as well.
//
// An API server that is away changes nothing but Err: the last good state stays. Nor is
// a list believed that lacks more than half of the nodes, services or EndpointSlices
// that were there: that is what a server with an empty store, or a wrong one behind a
// proxy, looks like. What is missing is kept for five minutes in which the API server
// answers, and for good as long as the list is empty but for what an API server makes of
// itself, and Err says so. Objects that are deleted while they are watched are gone at
// once, however many; and a Watcher that starts anew believes what it is told.
func (w *Watcher) Run(ctx context.Context, changed func(Snapshot)) error {
	clients, err := kubewatch.NewClients(w.Config)
	if err != nil {
		return fmt.Errorf("nodeselect/live: the configuration of the cluster cannot be used: %w", err)
	}
	if err := w.start(); err != nil {
		return err
	}
	var sources sync.WaitGroup
	defer sources.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := w.inbox
	sources.Go(func() {
		kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: trimNode}.
			Run(ctx, in.nodes, in.health(kindNodes))
	})
	sources.Go(func() {
		kubewatch.Source[*corev1.Service]{Client: clients.Core, Resource: "services", Transform: w.trimService}.
			Run(ctx, in.services, in.health(kindServices))
	})
	if w.LocalEndpoints {
		sources.Go(func() {
			kubewatch.Source[*discoveryv1.EndpointSlice]{
				Client: clients.Discovery, Resource: "endpointslices", Labels: slicesOfServices, Transform: stripSlice,
			}.Run(ctx, in.slices, in.health(kindSlices))
		})
	}
	return w.follow(ctx, changed)
}

func trimNode(n *corev1.Node) (*corev1.Node, bool) { return nodeselect.TrimNode(n), true }

func (w *Watcher) trimService(s *corev1.Service) (*corev1.Service, bool) {
	return w.Selector.Annotations.TrimService(s), true
}

// follow makes Snapshots of what is in the inbox.
func (w *Watcher) follow(ctx context.Context, changed func(Snapshot)) error {
	f := follower{
		inbox: w.inbox, tracker: nodeselect.NewTracker(w.Selector, w.Current),
		changed: changed, log: w.Logger,
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	burst := debounce.New(cmp.Or(w.Quiet, watcherQuiet), cmp.Or(w.MaxWait, watcherMaxWait))
	defer burst.Stop()
	tick := time.NewTicker(watcherRecheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.inbox.arrived:
			burst.Notify()
		case <-burst.C:
			f.look()
		case <-tick.C:
			w.inbox.believe(time.Now())
			f.look()
		}
	}
}

// follower is the state of follow.
type follower struct {
	inbox   *inbox
	tracker *nodeselect.Tracker
	changed func(Snapshot)
	log     *slog.Logger

	synced bool
	reason string // of the last Err
}

// look takes what has arrived, and passes on what matters of it.
func (f *follower) look() {
	delta, synced, err := f.inbox.take(time.Now())
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	news := reason != f.reason
	if news {
		f.reason = reason
		if err != nil {
			f.log.Warn("the cluster cannot be followed", "err", err)
		} else {
			f.log.Info("the API server answers again")
		}
	}
	if !synced {
		if news && err != nil {
			f.changed(Snapshot{Err: err})
		}
		return
	}
	first := !f.synced
	f.synced = true
	selection, changed := f.tracker.Update(delta, time.Now())
	if !first && !news && changed.IsZero() && delta.Refs == nil {
		return
	}
	objects := f.tracker.Objects()
	if first {
		f.log.Info("the cluster has been listed", "nodes", len(objects.Nodes), "services", len(objects.Services))
	}
	f.changed(Snapshot{
		Synced: true, Objects: objects, Refs: f.tracker.Refs(),
		Selection: selection, Changed: changed, Err: err,
	})
}
