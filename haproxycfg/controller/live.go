package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
)

// Live is a ClusterSource that reads an API server. Its account needs permission to list and watch
// nodes and services, and with LocalEndpoints also endpointslices of discovery.k8s.io.
//
// If a cluster lists no nodes or no services at the start, although report.json lists servers for
// it, its API server may have lost its store. Then Live reports that the cluster does not answer,
// and HAProxy keeps the servers.
type Live struct {
	// Config is a function that returns the address and credentials of the API server. If it
	// returns an error, Live calls it again later. Required.
	Config func() (*rest.Config, error)
	// Quiet is the pause that ends a burst of events: when no event has arrived for the time Quiet,
	// the Controller handles all events of the burst as one change. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is the longest time that a burst of events may last. 0 means 1 s. After MaxWait, the
	// events so far count as one change, even if more events follow.
	MaxWait time.Duration
	// LocalEndpoints makes Live follow EndpointSlices too. With LocalEndpoints, a service with
	// externalTrafficPolicy Local gets only nodes that have a ready pod.
	LocalEndpoints bool
	// AllowEmpty makes Live accept a cluster that lists no nodes or no services when the Controller
	// starts, even if report.json of the previous run lists servers for this cluster. The Controller
	// then removes these servers from HAProxy.
	AllowEmpty bool

	mu      sync.Mutex
	refs    []nodeselect.Ref
	watcher *live.Watcher // the watcher of the last Follow; nil before the first Follow
}

// SetRefs implements ClusterSource.
func (l *Live) SetRefs(refs []nodeselect.Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs = refs
	if l.watcher != nil {
		l.watcher.SetRefs(refs)
	}
}

// Follow implements ClusterSource. If Config fails or returns an unusable configuration, Follow
// returns the error before ctx ends. If the API server does not answer, Follow continues, and the
// published state has an Err.
func (l *Live) Follow(ctx context.Context, start Start, publish func(ClusterState)) error {
	config, err := l.Config()
	if err != nil {
		return err
	}
	w := &live.Watcher{
		Config: config, Selector: start.Selector, Current: start.Current,
		Quiet: l.Quiet, MaxWait: l.MaxWait, LocalEndpoints: l.LocalEndpoints,
	}
	l.mu.Lock()
	l.watcher = w
	w.SetRefs(l.refs)
	l.mu.Unlock()
	states := liveStates{trusted: l.AllowEmpty || !serves(start.Current)}
	return w.Run(ctx, func(s live.Snapshot) { publish(states.of(s)) })
}

// liveStates turns the Snapshots of one cluster into ClusterStates.
type liveStates struct {
	trusted bool // an empty cluster is accepted
}

func (l *liveStates) of(s live.Snapshot) ClusterState {
	if s.Synced && !l.trusted {
		if err := emptiness(s.Objects); err != nil {
			return ClusterState{Err: err}
		}
		l.trusted = true // from now on, the Watcher itself finds doubtful lists
	}
	return ClusterState{Synced: s.Synced, Objects: s.Objects, Selection: &s.Selection, Err: s.Err}
}

// emptiness returns an error if o has no nodes or no services, and nil otherwise.
func emptiness(o nodeselect.Objects) error {
	missing := ""
	switch {
	case len(o.Nodes) == 0:
		missing = "nodes"
	case len(o.Services) == 0:
		missing = "services"
	default:
		return nil
	}
	return fmt.Errorf("it lists no %s, which is not trusted at the start because %s has servers of it", missing, ReportFile)
}

// serves reports whether at least one service has a node.
func serves(subsets nodeselect.Subsets) bool {
	for _, nodes := range subsets {
		if len(nodes) > 0 {
			return true
		}
	}
	return false
}

// Read implements ClusterSource. Its error is always nil.
func (l *Live) Read(ctx context.Context, start Start) (ClusterState, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	state := ClusterState{Err: errors.New("no answer")}
	err := l.Follow(ctx, start, func(s ClusterState) {
		state = s
		if s.Synced {
			cancel()
		}
	})
	if !state.Synced && ctx.Err() == nil {
		state.Err = err
	}
	return state, nil
}
