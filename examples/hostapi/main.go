// Hostapi is the API that SNI routers ask where the traffic for a host goes.
//
//	hostapi -hosts hosts.json -listen 127.0.0.1:9000 -admin 127.0.0.1:9001
//	hostapi -routes routes.yaml -endpoint eu-1=10.0.0.24 -endpoint eu-2=10.0.1.24 -cluster eu-1=dir:manifests/eu-1
//
// It answers
//
//	GET /hosts/{host}   {"app": …, "host": …, "endpoint": …}, or 404
//	GET /changes        what has changed, by long polling (see httpapi.Feed)
//
// from a file, a JSON array of such objects in which a host may be "*.example.com"
// (one label), or from declarations and the address of each cluster, or from both, and
// then the file goes before. All of it is read again when it changes.
//
// With declarations the endpoint of a host is that of one cluster, since a router that
// passes on bytes sees no paths: the cluster that serves the most of the host's routes
// with a weight above 0; of those the one with the most weight, summed over its backends;
// then the first by name. The weight of a service is its declaration's times its
// annotation's, which are read from -cluster, and 0 while it is drained. So a host moves
// to another cluster as a whole, when the weights or the drain annotations say so, and
// never because of its traffic. For a cluster without -cluster its services are believed
// to be there.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

const program = "hostapi"

// stopTime is how long running requests may take after SIGTERM.
const stopTime = 5 * time.Second

func main() { cli.Main(run) }

func run(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	if err := s.serve(ctx, inv.Logger()); err != nil && !errors.Is(err, context.Canceled) {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

func (s *settings) serve(ctx context.Context, log *slog.Logger) error {
	m := newMetrics()
	api := s.api(m, log)
	m.watch(api)
	src := s.sources(api, m, log)
	if err := src.load(); err != nil {
		return err
	}
	if s.token != nil {
		if _, err := s.token(ctx); err != nil {
			return err
		}
	}
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	group, ctx := errgroup.WithContext(ctx)
	if s.admin != "" {
		adminListener, err := net.Listen("tcp", s.admin)
		if err != nil {
			return err
		}
		log.Info("admin", "addr", adminListener.Addr())
		group.Go(func() error {
			return cli.Admin{Gatherer: m.registry, Ready: func() error { return readiness(ctx, src.ready) }}.Serve(ctx, adminListener)
		})
	}
	group.Go(func() error { return src.watch(ctx) })
	srv := &http.Server{
		Handler:   api,
		TLSConfig: tlsConfig,
		// No ReadTimeout: its end would look to a waiting request like that of its client.
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      httpapi.MaxWait + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	group.Go(func() error {
		select {
		case <-src.ready:
		case <-ctx.Done():
			return nil
		}
		log.Info("listening", "addr", l.Addr())
		limited := netutil.LimitListener(l, s.maxConns)
		var err error
		if tlsConfig != nil {
			err = srv.ServeTLS(limited, "", "")
		} else {
			err = srv.Serve(limited)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	srv.RegisterOnShutdown(api.StopWaiting)
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			return errors.Join(err, srv.Close())
		}
		return nil
	})
	return group.Wait()
}

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
