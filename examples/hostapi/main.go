// Hostapi is a host API: an SNI router asks hostapi for the endpoint of a host, and connects the
// clients of the host to this endpoint.
//
//	hostapi -hosts hosts.json -listen 127.0.0.1:9000 -admin 127.0.0.1:9001
//	hostapi -routes routes.yaml -endpoint eu-1=10.0.0.24 -endpoint eu-2=10.0.1.24 -cluster eu-1=dir:manifests/eu-1
//
// The hosts are in a hosts file, in declarations, or in both; the file wins. README.md describes
// the flags, the API, and how hostapi chooses the cluster of a declared host.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

const program = "hostapi"

// stopTimeout is how long running requests may continue after SIGTERM.
const stopTimeout = 5 * time.Second

var commandLine = cli.Program{
	Name:     program,
	Summary:  "Answers an SNI router with the endpoint of each host, over HTTP.",
	Readme:   readme,
	Commands: []cli.Command{{Example: "hostapi -hosts hosts.json -listen 127.0.0.1:9000 -admin 127.0.0.1:9001", Run: runServer}},
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
	if err := serve(ctx, *s, inv.Logger(s.logFormat, slog.LevelInfo)); err != nil && !errors.Is(err, context.Canceled) {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

// serve runs the API until ctx ends, or until a part of the program fails.
func serve(ctx context.Context, s settings, log *slog.Logger) error {
	cli.ReadAgainOnHangup(ctx, log)
	m := newMetrics()
	api, err := newAPI(ctx, s, m, log)
	if err != nil {
		return err
	}
	sources := newSources(s, api, m, log)
	if err := sources.load(); err != nil {
		return err
	}
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
		admin := newAdmin(ctx, m, sources.ready, api)
		adminListeners, err := s.admin.Listen(ctx, &admin)
		if err != nil {
			return err
		}
		for _, l := range adminListeners {
			log.Info("admin", "addr", l.Addr())
		}
		group.Go(func() error { return admin.Serve(ctx, adminListeners...) })
	}
	group.Go(func() error { return sources.watch(ctx) })
	group.Go(func() error {
		select {
		case <-sources.ready:
		case <-ctx.Done():
			return nil
		}
		log.Info("listening", "addr", l.Addr())
		return cli.ServeHTTP(ctx, srv, stopTimeout, cli.LimitConnections(srv, s.api.MaxConns, m, program)(l))
	})
	return group.Wait()
}

// newAPI returns the handler of the API, without hosts. If a flag has the value 0, it means "none".
// In a field of httpapi.Handler, 0 means the default, and -1 means "none". So newAPI replaces 0 by
// -1.
func newAPI(ctx context.Context, s settings, m *metrics, log *slog.Logger) (*httpapi.Handler, error) {
	api := &httpapi.Handler{
		MaxAge: cmp.Or(s.maxAge, -1), NegativeMaxAge: cmp.Or(s.negativeMaxAge, -1), MaxRemoved: cmp.Or(s.maxRemoved, -1),
		MaxWaiting: s.maxWaiting, Instrument: m.instrument,
	}
	m.watch(api)
	var err error
	api.Token, err = s.api.Token(ctx, log)
	return api, err
}

// newAdmin returns the admin pages of an API. ctx ends when the API stops.
func newAdmin(ctx context.Context, m *metrics, ready <-chan struct{}, api locks) cli.Admin {
	return cli.Admin{
		Gatherer: m,
		Ready:    func() error { return readiness(ctx, ready) },
		Alive:    func(ctx context.Context) error { return alive(ctx, api) },
	}
}

// locks are two methods of httpapi.Handler: Hosts needs the lock of the hosts, and Waiting needs
// the lock of the waiting requests. The requests and the updates of the hosts need the same locks.
type locks interface {
	Hosts() *hostlookup.Hosts
	Waiting() int
}

// alive returns nil as soon as it has got and released both locks. If another goroutine still holds
// one of the locks when ctx ends, alive returns an error. The goroutine that alive has started then
// continues to wait for this lock.
func alive(ctx context.Context, api locks) error {
	released := make(chan struct{})
	go func() {
		defer close(released)
		api.Hosts()
		api.Waiting()
	}()
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a lock of the API is not released: %w", ctx.Err())
	}
}

// readiness returns an error that says why the API is not ready, or nil if it is ready.
func readiness(ctx context.Context, ready <-chan struct{}) error {
	if ctx.Err() != nil {
		return errors.New("stopping")
	}
	select {
	case <-ready:
		return nil
	default:
		return errors.New("the sources are not read yet")
	}
}
