package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

const (
	recheckInterval = 30 * time.Second
	firstBackoff    = time.Second
)

// watch follows routes and clusters until ctx ends.
func (s *settings) watch(ctx context.Context, inv cli.Invocation) error {
	log := s.logger(inv)
	kubeconn.LogTo(log)
	defer kubeconn.LogTo(nil)
	files, err := readRoutes(s.routes)
	if err != nil {
		return err
	}
	var listener net.Listener
	if s.admin != "" {
		if listener, err = net.Listen("tcp", s.admin); err != nil {
			return err
		}
	}

	m, in := newMetrics(), newInbox(s.clusters, time.Now())
	last, err := s.readReport()
	if err != nil {
		return err
	}
	live := &liveClusters{
		settings: s, load: s.load, current: last.Subsets, inbox: in, log: log,
		watchers: map[string]*nodeselect.Watcher{},
	}
	publish := func(table routes.Table, problems []routes.Problem) {
		live.setRefs(kube.Refs(table))
		in.routes(table, problems)
	}
	publish(files.merged())
	shown := &status{leading: s.lease.name == ""}
	m.leads(shown.leading)
	a := newApplier(s, log, m)
	l := &loop{
		inbox: in, apply: a.apply, gained: a.forget,
		seen:    func(st state) { m.clusters.seen(st); shown.seen(st) },
		applied: shown.applied,

		minInterval: s.minInterval, startTimeout: s.startTimeout, recheck: recheckInterval, backoff: firstBackoff,
		force: s.force, forced: make(chan forceRequest),
	}

	group, ctx := errgroup.WithContext(ctx)
	var electing sync.WaitGroup
	electionCtx, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { resign(); electing.Wait() }()
	if s.lease.name != "" {
		terms := make(chan term)
		l.leadership = terms
		e := &election{lease: s.lease, load: s.load, log: log, terms: terms, leader: func(leads bool, who string) {
			m.leads(leads)
			shown.leads(leads, who)
		}}
		electing.Go(func() { e.run(electionCtx) })
	}
	if listener != nil {
		admin := cli.Admin{Gatherer: m.registry, Ready: shown.ready, Detail: shown.detail, Extra: forceHandler(l.forced)}
		group.Go(func() error { return admin.Serve(ctx, listener) })
	}
	group.Go(func() error { return followRoutes(ctx, files, s.routes, publish) })
	for i, c := range s.clusters {
		group.Go(func() error {
			if c.live() {
				live.follow(ctx, i)
			} else {
				followDir(ctx, i, c.dir, in)
			}
			return nil
		})
	}
	group.Go(func() error { l.run(ctx); return nil })
	log.Info("following", "clusters", len(s.clusters), "routes", len(s.routes), "out", s.out)
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped; what is in force stays")
	return nil
}

func (s *settings) logger(inv cli.Invocation) *slog.Logger {
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(inv.Stderr, &slog.HandlerOptions{Level: level}))
}
