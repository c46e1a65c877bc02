// Discovery is an HTTP server that lists the pods behind Kubernetes services, sorted by zone: as
// JSON for front proxies, as targets for Prometheus, and as endpoints for Envoy.
//
//	discovery -listen :9100 -admin :9101                                in a pod, or with the configuration of kubectl
//	discovery -kubeconfig discovery.kubeconfig:eu-1 -namespace media    with one context of a kubeconfig file
//	discovery -dir manifests                                            with files instead of an API server
//
// Package nodeselect/endpoints/httpapi describes the requests and answers.
package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

const program = "discovery"

// stopTimeout is how long running requests may continue after SIGTERM.
const stopTimeout = 5 * time.Second

var commandLine = cli.Program{
	Name:     program,
	Summary:  "Serves the pods behind Kubernetes services over HTTP, sorted by zone.",
	Readme:   readme,
	Commands: []cli.Command{{Example: "discovery -listen :9100 -admin :9101", Run: runServer}},
}

var run = commandLine.Run

func main() { cli.Main(run) }

func runServer(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(program)
	s := register(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	if err := s.check(); err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err)
	}
	log := inv.Logger(s.logFormat, slog.LevelInfo)
	kubeconn.LogTo(log)
	m := newMetrics()
	src, err := newSource(*s, m, log)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	if err := serve(ctx, *s, src, m, log); err != nil && !errors.Is(err, context.Canceled) {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

// serve runs the API until ctx ends, or until a part of the program fails.
func serve(ctx context.Context, s settings, src *source, m *metrics, log *slog.Logger) error {
	cli.ReadAgainOnHangup(ctx, log)
	api, err := newAPI(ctx, s, m, log)
	if err != nil {
		return err
	}
	src.api = api
	srv, err := s.api.Server(api, httpapi.MaxWait, api.StopWaiting, m, program, log)
	if err != nil {
		return err
	}
	l, err := s.api.Open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	group, ctx := errgroup.WithContext(ctx)
	if s.admin.Wanted(ctx) {
		admin := cli.Admin{Gatherer: m, Ready: func() error { return src.readiness(ctx) }, Detail: src.detail}
		adminListeners, err := s.admin.Listen(ctx, &admin)
		if err != nil {
			return err
		}
		for _, l := range adminListeners {
			log.Info("admin", "addr", l.Addr())
		}
		group.Go(func() error { return admin.Serve(ctx, adminListeners...) })
	}
	group.Go(func() error { return src.follow(ctx) })
	group.Go(func() error {
		// Until discovery has its first list of EndpointSlices, it answers every request with 503.
		// A client that gets 503 sends its request to the next server of discovery.
		log.Info("listening", "addr", l.Addr())
		return cli.ServeHTTP(ctx, srv, stopTimeout, cli.LimitConnections(srv, s.api.MaxConns, m, program)(l))
	})
	return group.Wait()
}

// newAPI returns the handler of the API. It has no pods yet.
func newAPI(ctx context.Context, s settings, m *metrics, log *slog.Logger) (*httpapi.Handler, error) {
	api := &httpapi.Handler{MaxWaiting: s.maxWaiting, Instrument: m.instrument}
	m.watch(api)
	var err error
	api.Token, err = s.api.Token(ctx, log)
	return api, err
}
