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

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// agent is a nodeagent.Agent with its log, metrics and health pages.
type agent struct {
	*nodeagent.Agent
	metrics *metrics
	log     *slog.Logger

	last        nodeagent.State
	lastPortErr string

	mu       sync.Mutex
	notReady error // why the agent does not answer for its node
	portErr  error // why it does not answer for some services
	stale    error // why its answers may be out of date
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
	a := &agent{metrics: newMetrics(w.LastContact), log: log, notReady: errors.New("the cluster's objects are not read yet")}
	l := &nodeagent.Listeners{Host: s.host, Logger: log, Finished: a.metrics.finished}
	a.Agent = &nodeagent.Agent{Watcher: w, Listeners: l, Changed: a.changed}
	return a, nil
}

// changed logs a new state, and updates the metrics and health pages. portErr is not nil if the
// agent could not open some ports.
func (a *agent) changed(state nodeagent.State, portErr error) {
	a.report(a.last, state)
	a.last = state
	if state.Answers == nil {
		a.setHealth(state.Err, nil, nil)
		return
	}
	switch text := fmt.Sprint(portErr); {
	case portErr != nil && text != a.lastPortErr:
		a.lastPortErr = text
		a.log.Warn("some agents do not answer, trying again every second", "err", portErr)
	case portErr == nil && a.lastPortErr != "":
		a.lastPortErr = ""
		a.log.Info("all agents answer again")
	}
	a.metrics.state(state, a.Listeners.OpenPorts())
	if slices.ContainsFunc(state.Answers, func(x nodeagent.Answer) bool { return x.Service == "" && a.Listeners.Serves(x.Port) }) {
		a.setHealth(nil, portErr, state.Err)
	} else {
		a.setHealth(portErr, nil, state.Err)
	}
}

// report logs the differences between two states of the agent.
func (a *agent) report(last, next nodeagent.State) {
	for _, p := range next.Problems {
		if !slices.Contains(last.Problems, p) {
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
		a.log.Info("node", "name", a.Watcher.Rules.Node, "answer", is.String(),
			"draining", d.Draining, "waiting", d.Waiting, "limit", d.Limit, "nodes", d.Total)
	}
}

func (a *agent) setHealth(notReady, portErr, stale error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notReady, a.portErr, a.stale = notReady, portErr, stale
}

// ready returns the error for /readyz. An agent stays ready while the API server does not answer,
// because it repeats its last answers to HAProxy. It also stays ready while another process uses
// the agent port of a Service: otherwise one annotation could make the agents of all nodes unready.
func (a *agent) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.notReady
}

// detail returns the text that /readyz shows below "ok".
func (a *agent) detail() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var lines []string
	if a.portErr != nil {
		lines = append(lines, a.portErr.Error())
	}
	if a.stale != nil {
		line := a.stale.Error()
		if last := a.Watcher.LastContact(); !last.IsZero() {
			line += "; last heard " + last.UTC().Format(time.RFC3339)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
