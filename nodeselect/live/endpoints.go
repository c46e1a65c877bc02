package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/debounce"
	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// EndpointsWatcher follows the pods of one service, of all services of a namespace, or of all
// services of a cluster. It needs permission to list and watch endpointslices of discovery.k8s.io.
// If Namespace is set, it needs this permission only in Namespace.
type EndpointsWatcher struct {
	// Config is the client-go configuration for the API server. Required.
	Config *rest.Config
	// Namespace is the namespace of the services. "" means all namespaces.
	Namespace string
	// Service is the name of the only service whose EndpointSlices the API server sends; then
	// Namespace is required. "" means all services.
	Service string
	// Address says which addresses of pods are usable, and which family is preferred; see
	// endpoints.Group.
	Address nodeselect.AddressPolicy
	// Quiet is how long the EndpointsWatcher waits after a change for further changes, before it
	// makes a snapshot of all of them. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is the longest time from a change to the snapshot that contains it, if other changes
	// keep coming. 0 means 1 s.
	MaxWait time.Duration
	// Logger gets a line when the API server stops answering, and another line when it answers
	// again. nil means no log.
	Logger *slog.Logger
}

// EndpointsSnapshot is the state of the followed services at one moment. Several snapshots share
// data, so the receiver must not change a snapshot. Any number of goroutines may read it.
type EndpointsSnapshot struct {
	// Synced is true when the first list has arrived. Before that, all fields except Err and Since
	// are empty.
	Synced bool
	// Services contains the EndpointSlices of each service. Its method Pods returns the pods of a
	// service port.
	Services endpoints.Services
	// Changed names the services that differ from the previous snapshot, as "namespace/name",
	// sorted. In the first snapshot with Synced true, Changed names all services.
	Changed []string
	// Err is nil while the API server answers and its answers are plausible. Otherwise Err states
	// the fault, and Services is the last good state.
	Err error
	// Since is the time at which the fault in Err began. It is zero if Err is nil.
	Since time.Time
}

// Age returns how old Services is: 0 if Err is nil, and otherwise the time since Err began. The
// true age can be up to two minutes longer, because Run needs this time to detect a dead connection
// that nobody has closed.
func (s EndpointsSnapshot) Age(now time.Time) time.Duration {
	if s.Err == nil {
		return 0
	}
	return max(now.Sub(s.Since), 0)
}

// Run follows the services until ctx ends, and returns the error of ctx after all its goroutines
// have ended. An unusable field of w is an error at once. Run may be called several times.
//
// All calls of the function "changed" come from the goroutine that calls Run. The first call with
// Synced true passes the first list. If the API server does not answer, earlier calls pass Err,
// with Synced false. A call follows each change of the EndpointSlices or of Err. Run merges the
// changes that arrive during a call, or within Quiet and MaxWait.
//
// If the API server does not answer, Run keeps the last good state and sets Err. It does the same
// for a doubtful list (see endpoints.Tracker), and removes the missing pods after five minutes in
// which the API server answers. Run accepts deletions in a watch at once.
//
// If somebody deletes the only followed Service while the API server does not answer, the next list
// is empty. The pods then stay, with Err, until the service has an EndpointSlice again or Run ends.
func (w EndpointsWatcher) Run(ctx context.Context, changed func(EndpointsSnapshot)) error {
	source, err := w.source()
	if err != nil {
		return err
	}
	var sources sync.WaitGroup
	defer sources.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	box := &endpointsInbox{inbox: inbox{arrived: make(chan struct{}, 1)}, tracker: endpoints.NewTracker(w.Address)}
	sources.Go(func() { source.Run(ctx, box, box.health) })

	f := endpointsFollower{inbox: box, changed: changed, log: cmp.Or(w.Logger, slog.New(slog.DiscardHandler))}
	burst := debounce.New(cmp.Or(w.Quiet, watcherQuiet), cmp.Or(w.MaxWait, watcherMaxWait))
	defer burst.Stop()
	recheck := time.Tick(RecheckInterval)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-box.arrived:
			burst.Notify()
		case <-burst.C:
			f.update()
		case <-recheck:
			box.confirm(time.Now())
			f.update()
		}
	}
}

func (w EndpointsWatcher) source() (kubewatch.Source[*discoveryv1.EndpointSlice], error) {
	s := kubewatch.Source[*discoveryv1.EndpointSlice]{
		Resource: "endpointslices", Namespace: w.Namespace, Labels: discoveryv1.LabelServiceName,
		Transform: func(s *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
			return endpoints.TrimSlice(s), true
		},
	}
	if w.Service != "" {
		if w.Namespace == "" {
			return s, errors.New("nodeselect/live: Service is set and Namespace is not")
		}
		selector, err := labels.ValidatedSelectorFromSet(labels.Set{discoveryv1.LabelServiceName: w.Service})
		if err != nil {
			return s, fmt.Errorf("nodeselect/live: Service cannot be used: %w", err)
		}
		s.Labels = selector.String()
	}
	clients, err := kubewatch.NewClients(w.Config)
	if err != nil {
		return s, fmt.Errorf("nodeselect/live: Config cannot be used: %w", err)
	}
	s.Client = clients.Discovery
	return s, nil
}

// endpointsInbox is the kubewatch.Sink of the EndpointSlices.
type endpointsInbox struct {
	inbox
	tracker *endpoints.Tracker
	listed  bool
	failing error // why the API server does not answer; nil if it does
}

// Replace applies a complete list.
func (b *endpointsInbox) Replace(list []*discoveryv1.EndpointSlice) {
	b.edit(func() {
		b.tracker.Replace(list, time.Now())
		b.listed, b.changed = true, true
	})
}

// Set applies a new or changed EndpointSlice.
func (b *endpointsInbox) Set(s *discoveryv1.EndpointSlice) {
	b.edit(func() {
		b.tracker.Set(s, time.Now())
		b.changed = true
	})
}

// Delete applies the deletion of an EndpointSlice.
func (b *endpointsInbox) Delete(namespace, name string) {
	b.edit(func() {
		b.tracker.Delete(namespace, name)
		b.changed = true
	})
}

func (b *endpointsInbox) health(err error) {
	b.edit(func() {
		b.failing, b.changed = err, true
		if err == nil {
			b.tracker.Answered(time.Now())
		}
	})
}

// confirm removes the endpoints that a doubtful list lacks (see package doubt), if the API server
// has answered for the time doubt.ConfirmAfter without reporting these endpoints. While the API
// server does not answer, confirm does nothing.
func (b *endpointsInbox) confirm(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing == nil {
		b.tracker.Confirm(now)
	}
}

// take returns a snapshot of the services with all changes that have arrived so far.
func (b *endpointsInbox) take() EndpointsSnapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := EndpointsSnapshot{Synced: b.listed}
	var all errorList
	if b.failing != nil {
		all = append(all, b.failing)
		if failure, ok := errors.AsType[*kubewatch.Error](b.failing); ok {
			s.Since = failure.Since
		}
	}
	if err := b.tracker.Err(); err != nil {
		all = append(all, err)
		if since := b.tracker.Since(); s.Since.IsZero() || since.Before(s.Since) {
			s.Since = since
		}
	}
	if len(all) > 0 {
		s.Err = fmt.Errorf("nodeselect/live: %w", all)
	}
	if b.listed {
		s.Services, s.Changed = b.tracker.Services(), b.tracker.Changed()
	}
	return s
}

// endpointsFollower compares each snapshot with the previous one. If they differ, it passes the new
// snapshot to the function "changed".
type endpointsFollower struct {
	inbox   *endpointsInbox
	changed func(EndpointsSnapshot)
	log     *slog.Logger

	synced bool
	reason string // text of the last Err, "" for nil
}

// update calls the function "changed" if the snapshot differs from the previous one.
func (f *endpointsFollower) update() {
	s := f.inbox.take()
	reason := ""
	if s.Err != nil {
		reason = s.Err.Error()
	}
	errChanged, first := reason != f.reason, s.Synced && !f.synced
	f.reason, f.synced = reason, s.Synced
	switch {
	case errChanged && s.Err != nil:
		f.log.Warn("the API server does not answer, or its answer is not plausible", "err", s.Err)
	case errChanged:
		f.log.Info("the API server answers again")
	}
	if first {
		f.log.Info("the EndpointSlices have been listed", "services", len(s.Services))
	}
	if first || errChanged || len(s.Changed) > 0 {
		f.changed(s)
	}
}
