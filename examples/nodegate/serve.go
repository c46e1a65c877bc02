package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

// serve is "nodegate serve".
type serve struct {
	api       cli.APIFlags
	admin     cli.AdminFlags
	logFormat cli.LogFormat
	refresh   time.Duration
}

func (c *serve) register(fs *flag.FlagSet) {
	c.api.Register(fs, "127.0.0.1:9711", 256)
	c.admin.Register(fs, "/metrics, /healthz and /readyz", "")
	c.logFormat.Register(fs)
	fs.DurationVar(&c.refresh, "refresh", 5*time.Second, cli.Meaning("refresh"))
}

func (c *serve) check(nodes []string) error {
	if c.refresh <= 0 {
		return errors.New("-refresh must be more than 0")
	}
	return errors.Join(noArguments(nodes), c.api.Check(), c.admin.Check())
}

const (
	// maxAnswer is the longest time from a request to its answer. It is longer than the longest
	// time for which the server lets a request wait on purpose.
	maxAnswer = 30 * time.Second
	// stopTimeout is how long running requests may continue after SIGTERM.
	stopTimeout = 5 * time.Second
)

func (c *serve) run(ctx context.Context, inv cli.Invocation, s *settings, _ []string) (int, error) {
	log := inv.Logger(c.logFormat, slog.LevelInfo)
	kubeconn.LogTo(log)
	cli.ReadAgainOnHangup(ctx, log)
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	k.Ended = func(g gate.Grant, why string) {
		log.Info("the grant ends", "node", g.Node, "holder", g.Holder, "why", why)
	}
	o := newObserver(k, log)
	token, err := c.api.Token(ctx, log)
	if err != nil {
		return 0, err
	}
	srv, err := c.api.Server(&keeper.Handler{Keeper: k, Token: token, Title: s.name}, maxAnswer, func() {}, o.registry, program, log)
	if err != nil {
		return 0, err
	}
	l, err := c.api.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	group, ctx := errgroup.WithContext(ctx)
	if c.admin.Wanted(ctx) {
		admin := cli.Admin{Gatherer: o.registry, Ready: o.ready}
		listeners, err := c.admin.Listen(ctx, &admin)
		if err != nil {
			return 0, err
		}
		group.Go(func() error { return admin.Serve(ctx, listeners...) })
	}
	group.Go(func() error { o.run(ctx, c.refresh); return nil })
	log.Info("listening", "addr", l.Addr(), "token", token != nil)
	group.Go(func() error {
		return cli.ServeHTTP(ctx, srv, stopTimeout, cli.LimitConnections(srv, c.api.MaxConns, o.registry, program)(l))
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return 0, err
	}
	return cli.ExitOK, nil
}

// observer calls Keeper.Refresh at regular times. Refresh ends the grants that are over, for
// example because the node was away and is back. observer also serves the metrics of "nodegate
// serve".
type observer struct {
	keeper   *keeper.Keeper
	log      *slog.Logger
	registry *prometheus.Registry
	failed   prometheus.Counter

	mu     sync.Mutex
	grants []gate.Grant
	err    error
}

var grantAge = prometheus.NewDesc("headgate_nodegate_grant_age_seconds", "Age of each grant. The label away is 1 while the node is away.", []string{"node", "holder", "away"}, nil)

func newObserver(k *keeper.Keeper, log *slog.Logger) *observer {
	o := &observer{
		keeper: k, log: log, registry: cli.NewRegistry(), err: errors.New("no report and no node has been read yet"),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "headgate_nodegate_refresh_failures_total", Help: "Observations of the granted nodes that failed."}),
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "headgate_nodegate_can_tell", Help: "1 if the last observation succeeded, so that nodegate can decide."}, func() float64 {
		if o.ready() != nil {
			return 0
		}
		return 1
	})
	o.registry.MustRegister(o, o.failed, up)
	return o
}

func (o *observer) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		o.observe(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (o *observer) observe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxAnswer)
	defer cancel()
	grants, err := o.keeper.Refresh(ctx)
	o.mu.Lock()
	last := o.err
	if o.err = err; err == nil {
		o.grants = grants
	}
	o.mu.Unlock()
	if err == nil {
		return
	}
	o.failed.Inc()
	if last == nil || last.Error() != err.Error() {
		o.log.Error("cannot tell which nodes may go", "err", err)
	}
}

// ready returns the error of the last Keeper.Refresh, which reads the grants and the reports of the
// terminators. nil means that Refresh succeeded.
func (o *observer) ready() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Describe implements prometheus.Collector.
func (o *observer) Describe(ch chan<- *prometheus.Desc) { ch <- grantAge }

// Collect implements prometheus.Collector.
func (o *observer) Collect(ch chan<- prometheus.Metric) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.grants {
		away := "1"
		if g.Went.IsZero() || !g.Back.IsZero() {
			away = "0"
		}
		ch <- prometheus.MustNewConstMetric(grantAge, prometheus.GaugeValue, time.Since(g.Taken).Seconds(), g.Node, g.Holder, away)
	}
}
