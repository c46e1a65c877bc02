package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// retryInterval is how soon a port that could not be opened is tried again: most
// often another process, such as the agent that this one replaces, still has it.
const retryInterval = time.Second

// agent answers for one node, one state after the other.
type agent struct {
	watcher   *nodeagent.Watcher
	listeners *nodeagent.Listeners
	drainer   *drainer
	metrics   *metrics
	log       *slog.Logger
	states    chan nodeagent.State

	mu       sync.Mutex
	notReady error
	closed   error // why some services are not answered for
	away     error // why what is answered may be out of date
}

func newAgent(s settings, log *slog.Logger) (*agent, error) {
	w := &nodeagent.Watcher{Rules: s.rules, Files: s.files, Logger: log}
	if s.dir != "" {
		w.Objects = func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error {
			return manifest.WatchDir(ctx, s.dir, changed)
		}
	} else {
		var err error
		if w.Config, err = kubeconn.Load(s.kubeconfig); err != nil {
			return nil, err
		}
	}
	a := &agent{
		watcher:  w,
		drainer:  &drainer{ask: w.Ask, log: log},
		metrics:  newMetrics(w.Contact),
		log:      log,
		states:   make(chan nodeagent.State),
		notReady: errors.New("the cluster's objects are not read yet"),
	}
	a.listeners = &nodeagent.Listeners{Host: s.host, Logger: log, Finished: func(service string, x agentcheck.Exchange) {
		a.metrics.finished(service, x)
		a.drainer.finished(service, x)
	}}
	return a, nil
}

// run answers until ctx ends.
func (a *agent) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return a.watcher.Run(ctx, func(s nodeagent.State) {
			select {
			case a.states <- s:
			case <-ctx.Done():
			}
		})
	})
	group.Go(func() error { return a.follow(ctx) })
	return group.Wait()
}

// follow makes the latest state that which is answered.
func (a *agent) follow(ctx context.Context) error {
	var state nodeagent.State
	known := map[nodeselect.Problem]bool{}
	var failed string // what was last said of ports
	retry := time.NewTimer(0)
	<-retry.C
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case next := <-a.states:
			known = a.report(state, next, known)
			state = next
			if state.Answers == nil {
				a.setHealth(state.Err, nil, nil)
				continue
			}
		case <-retry.C:
		}
		err := a.listeners.Update(state)
		switch {
		case err != nil && err.Error() != failed:
			failed = err.Error()
			a.log.Warn("some agents do not answer", "err", err, "retry", retryInterval)
		case err == nil && failed != "":
			failed = ""
			a.log.Info("all agents answer again")
		}
		if err != nil {
			retry.Reset(retryInterval)
		}
		a.metrics.state(state, a.listeners.Open())
		a.drainer.state(state.Drain)
		if a.answersForNode(state) {
			a.setHealth(nil, err, state.Err)
		} else {
			a.setHealth(err, nil, state.Err)
		}
	}
}

func (a *agent) answersForNode(s nodeagent.State) bool {
	return slices.ContainsFunc(s.Answers, func(x nodeagent.Answer) bool { return x.Service == "" && a.listeners.Serves(x.Port) })
}

// report logs what is new in a state: while one object changes again and again, the
// problems of the others are not repeated. It returns the problems to compare the next
// ones with.
func (a *agent) report(last, next nodeagent.State, known map[nodeselect.Problem]bool) map[nodeselect.Problem]bool {
	now := make(map[nodeselect.Problem]bool, len(next.Problems))
	for _, p := range next.Problems {
		if now[p] = true; !known[p] {
			a.log.Warn("problem", "err", p)
		}
	}
	switch {
	case last.Err == nil && next.Err != nil:
		a.log.Warn("no contact with the cluster", "err", next.Err)
	case last.Err != nil && next.Err == nil:
		a.log.Info("contact with the cluster")
	}
	if was, is := last.Node(), next.Node(); was != is {
		d := next.Drain
		a.log.Info("node", "name", a.watcher.Rules.Node, "answer", is.String(),
			"draining", d.Draining, "waiting", d.Waiting, "limit", d.Limit, "nodes", d.Total)
	}
	return now
}

func (a *agent) setHealth(notReady, closed, away error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notReady, a.closed, a.away = notReady, closed, away
}

// ready is what /readyz asks: an agent that answers for its node is ready, even if it
// has lost the API server; stopping to answer would change nothing for the better. Nor
// does a Service make it unready, on every node at once, that is annotated with a port
// which another process has.
func (a *agent) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.notReady
}

// detail is what /readyz says beside.
func (a *agent) detail() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var lines []string
	if a.closed != nil {
		lines = append(lines, a.closed.Error())
	}
	if a.away != nil {
		line := a.away.Error()
		if last := a.watcher.Contact(); !last.IsZero() {
			line += fmt.Sprintf("; last heard %s", last.UTC().Format(time.RFC3339))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
