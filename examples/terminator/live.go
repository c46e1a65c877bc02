package main

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

// liveClusters follow API servers.
type liveClusters struct {
	settings *settings
	load     func(conn string) (*rest.Config, error)
	current  func(cluster string) nodeselect.Subsets // in use at the start
	inbox    *inbox

	mu       sync.Mutex
	refs     map[string][]nodeselect.Ref
	watchers map[string]*live.Watcher
}

// setRefs tells the clusters what is declared.
func (l *liveClusters) setRefs(refs map[string][]nodeselect.Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs = refs
	for name, w := range l.watchers {
		w.SetRefs(refs[name])
	}
}

// follow follows the i-th cluster until ctx ends.
func (l *liveClusters) follow(ctx context.Context, i int) {
	c := l.settings.clusters[i]
	for ctx.Err() == nil {
		err := l.run(ctx, i, c)
		if ctx.Err() != nil {
			return
		}
		// The connection's settings cannot be read or used.
		l.inbox.away(i, time.Now(), err)
		sleep(ctx, sourceRetry)
	}
}

func (l *liveClusters) run(ctx context.Context, i int, c source) error {
	config, err := l.load(c.conn)
	if err != nil {
		return err
	}
	w := l.settings.watcher(config)
	w.Current = l.current(c.name)
	l.mu.Lock()
	l.watchers[c.name] = w
	w.SetRefs(l.refs[c.name])
	l.mu.Unlock()
	return w.Run(ctx, func(s live.Snapshot) {
		l.inbox.cluster(i, time.Now(), func(c *clusterState) { c.see(s, w.Current) })
	})
}

// see takes a snapshot of a cluster that served the subsets of before at the start. That
// it has nothing now is what an API server with an empty store looks like; once it was
// seen with something, the Watcher itself knows what to believe.
func (c *clusterState) see(s live.Snapshot, before nodeselect.Subsets) {
	c.err = s.Err
	if !s.Synced {
		return
	}
	if !c.synced && serving(before) {
		if len(s.Objects.Nodes) == 0 {
			c.err = errEmpty("nodes")
			return
		}
		if len(s.Objects.Services) == 0 {
			c.err = errEmpty("services")
			return
		}
	}
	c.objects, c.selection, c.synced = s.Objects, &s.Selection, true
}

func errEmpty(what string) error {
	return fmt.Errorf("it has no %s, which is not believed while %s has some (-once -force does)", what, reportFile)
}

func serving(subsets nodeselect.Subsets) bool {
	for _, nodes := range subsets {
		if len(nodes) > 0 {
			return true
		}
	}
	return false
}

func (s *settings) watcher(config *rest.Config) *live.Watcher {
	return &live.Watcher{
		Config: config, Selector: s.builder.NodeSelector(),
		Quiet: max(s.quiet, 1), MaxWait: max(s.maxWait, 1), LocalEndpoints: s.localEndpoints,
	}
}

// list reads a live cluster once, within -start-timeout.
func (s *settings) list(ctx context.Context, c source, refs []nodeselect.Ref, current nodeselect.Subsets) (clusterState, error) {
	k := clusterState{name: c.name, err: errors.New("no answer")}
	config, err := s.load(c.conn)
	if err != nil {
		return k, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.startTimeout)
	defer cancel()
	w := s.watcher(config)
	w.Current = current
	w.SetRefs(refs)
	if s.force {
		current = nil
	}
	err = w.Run(ctx, func(snapshot live.Snapshot) {
		if k.see(snapshot, current); k.synced {
			cancel()
		}
	})
	if k.synced {
		return k, nil
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return k, err
	}
	return k, fmt.Errorf("no answer within %v: %w", s.startTimeout, k.err)
}
