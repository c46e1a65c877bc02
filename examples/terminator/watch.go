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
	"github.com/headgate/headgate/nodeselect/live"
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
		settings: s, load: s.load, current: last.Subsets, inbox: in,
		watchers: map[string]*live.Watcher{},
	}
	publish := func(table routes.Table, problems []routes.Problem) {
		live.setRefs(kube.Refs(table))
		in.routes(table, problems)
	}
	publish(files.merged())
	shown := &status{leading: s.lease.name == ""}
	m.leads(shown.leading)
	a, contacts := newApplier(s, log, m), contacts{}
	l := &loop{
		inbox: in, apply: a.apply,
		leads: func(now bool) {
			if a.forget(); !now {
				shown.forget()
			}
		},
		applied: shown.applied,
		seen: func(in state, waited bool) {
			contacts.log(log, in, waited)
			m.clusters.seen(in)
			shown.seen(in, waited)
		},

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

// contacts are what was last logged of clusters, by name.
type contacts map[string]string

// log says which clusters answer and which do not, when that changes. Why they do not
// may change often.
func (c contacts) log(log *slog.Logger, in state, waited bool) {
	for i := range in.clusters {
		k := &in.clusters[i]
		now := "the cluster answers"
		switch {
		case !k.synced && !waited:
			continue
		case !k.synced:
			now = "the cluster has not answered yet"
		case k.err != nil:
			now = "the cluster does not answer"
		}
		if c[k.name] == now {
			if k.err != nil {
				log.Debug(now, "cluster", k.name, "err", k.err)
			}
			continue
		}
		c[k.name] = now
		if k.err != nil || !k.synced {
			log.Warn(now, "cluster", k.name, "err", k.err)
		} else {
			log.Info(now, "cluster", k.name, "nodes", len(k.objects.Nodes), "services", len(k.objects.Services))
		}
	}
}
