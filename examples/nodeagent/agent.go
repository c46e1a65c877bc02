package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/agentcheck/kube"
	"github.com/headgate/headgate/nodeselect"
)

// retryInterval is how soon a port that could not be opened is tried again: most
// often another process, such as the agent that this one replaces, still has it.
const retryInterval = time.Second

// agent turns manifests into answers, one state after the other.
type agent struct {
	rules     kube.Rules
	listeners *kube.Listeners
	metrics   *metrics
	log       *slog.Logger
	snapshots chan snapshot

	mu       sync.Mutex
	notReady error
}

// snapshot is what was read of the manifests at one time.
type snapshot struct {
	objects  nodeselect.Objects
	problems []nodeselect.Problem
}

func newAgent(rules kube.Rules, host string, log *slog.Logger) *agent {
	m := newMetrics()
	return &agent{
		rules:     rules,
		listeners: &kube.Listeners{Host: host, Finished: m.finished, Logger: log},
		metrics:   m,
		log:       log,
		snapshots: make(chan snapshot),
		notReady:  errors.New("the manifests are not read yet"),
	}
}

// offer hands manifests that were read to run.
func (a *agent) offer(ctx context.Context, objects nodeselect.Objects, problems []nodeselect.Problem) {
	select {
	case a.snapshots <- snapshot{objects, problems}:
	case <-ctx.Done():
	}
}

// run follows the snapshots until ctx ends. It fails if the first one does not
// hold the node: a wrong name would drain every service of a node that exists.
func (a *agent) run(ctx context.Context) error {
	var state kube.State
	var problems map[nodeselect.Problem]bool
	var failed string // what was last said of ports
	seen := false
	retry := time.NewTimer(0)
	<-retry.C
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case snap := <-a.snapshots:
			next, err := a.rules.State(snap.objects)
			if err != nil && !seen {
				return err
			}
			seen = true
			problems = a.report(state, next, problems, append(snap.problems, next.Problems...))
			state = next
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
		a.setReady(err)
	}
}

// report counts what a state has, and logs what is new in it: while one object
// changes again and again, the problems of the others are not repeated. It returns
// the problems to compare the next ones with.
func (a *agent) report(last, next kube.State, known map[nodeselect.Problem]bool, problems []nodeselect.Problem) map[nodeselect.Problem]bool {
	now := make(map[nodeselect.Problem]bool, len(problems))
	for _, p := range problems {
		if now[p] = true; !known[p] {
			a.log.Warn("problem", "err", p)
		}
	}
	if was, is := last.Node(), next.Node(); was != is {
		a.log.Info("node", "name", a.rules.Node, "answer", is.String())
	}
	a.metrics.state(next, len(problems))
	return now
}

func (a *agent) setReady(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notReady = err
}

func (a *agent) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.notReady
}
