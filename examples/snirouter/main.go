// Snirouter passes connections on by the host name that they begin with: the server name
// of TLS, which it does not decrypt, or the Host of HTTP.
//
//	snirouter -tls :443 -http :80 -api 'http://127.0.0.1:9000/hosts/{host}' -admin 127.0.0.1:9801
//
// Where a host is it learns from a file (-hosts), else from an HTTP API (-api; hostapi is
// one), whose answers it keeps: while the API fails, the hosts that are known stay known,
// and with -cache-file also over a restart. With -changes it hears of changes at once. A
// host that neither knows goes to -default, or its client is told so: by a page over
// HTTP, and over TLS, where that takes a certificate, by what -unknown-tls says.
//
// The listener of -admin is for operators: a page with what goes on, /metrics, /healthz,
// and /readyz, which fails from POST /drain or SIGTERM on. After SIGTERM, and the
// -drain-delay since the first of the two, no more connections are accepted, and those
// that are open have -drain-timeout to end. In a container without a shell a preStop hook
// can call
//
//	snirouter drain -admin 127.0.0.1:9801 -wait 10s
//
// Each connection is one line in the log, on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
)

const program = "snirouter"

func main() {
	// A router's live heap is small, and Go collects nothing before it has grown to 4 MiB
	// (at GOGC=100): with 2,000 idle connections half of all the memory that each takes. A
	// connection leaves four small allocations behind, so collecting sooner costs nothing
	// that bench-peers could measure.
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(40)
	}
	cli.Main(run)
}

func run(ctx context.Context, inv cli.Invocation) int {
	if len(inv.Args) > 0 && inv.Args[0] == "drain" {
		inv.Args = inv.Args[1:]
		return runDrain(ctx, inv)
	}
	fs := cli.NewFlagSet(program, "snirouter -tls :443 -http :80 -api 'http://127.0.0.1:9000/hosts/{host}' -admin 127.0.0.1:9801\n  snirouter drain -admin 127.0.0.1:9801 -wait 10s")
	s := register(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	if err := s.check(); err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err)
	}
	log := inv.Logger()
	if s.logFormat == "json" {
		log = slog.New(slog.NewJSONHandler(inv.Stderr, nil))
	}
	r, err := s.router(log)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	if err := r.serve(ctx); err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

// router is all that runs.
type router struct {
	settings *settings
	log      *slog.Logger
	srv      *sniproxy.Server
	hosts    *hosts
	metrics  *metrics
	access   *accessLog
	drain    *drain
}

// router puts together what the settings ask for. Nothing runs yet.
func (s *settings) router(log *slog.Logger) (*router, error) {
	r := &router{settings: s, log: log, metrics: newMetrics(), drain: &drain{}}
	r.access = newAccessLog(log, s.logSample, r.metrics.logDropped)
	var err error
	if r.hosts, err = s.lookups(log); err != nil {
		return nil, err
	}
	if r.srv, err = s.server(r.hosts); err != nil {
		return nil, err
	}
	r.srv.Logger = log
	r.srv.Finished = func(st sniproxy.Stats) {
		r.metrics.finished(st)
		r.access.finished(st)
	}
	r.metrics.watchServer(r.srv, r.drain)
	r.metrics.watchHosts(r.hosts)
	return r, nil
}

func (s *settings) server(h *hosts) (*sniproxy.Server, error) {
	srv := &sniproxy.Server{
		Lookup:       h.lookup,
		HelloTimeout: s.hello, LookupTimeout: s.lookup, DialTimeout: s.dial, IdleTimeout: s.idle, KeepAlive: s.keepAlive,
		MaxHello: s.maxHello, MaxConns: s.maxConns, MaxConnsPerSource: s.perSource, MaxPeeking: s.peeking,
		ProxyRequired: s.proxyRequired, DrainSpread: s.drainSpread,
		ProxyOut: map[string]int{"v1": 1, "v2": 2}[s.proxyOut],
	}
	var errs [7]error
	srv.Fallback, srv.CloseUnknownTLS, errs[0] = s.unknown()
	srv.NoName, errs[1] = endpoint("no-name", s.noName)
	srv.Page, errs[2] = notFoundPage(s.notFoundPage)
	srv.ProxyFrom, errs[3] = networks("proxy-protocol-in", s.proxyIn)
	srv.AllowEndpoints, errs[4] = networks("allow", s.allow)
	srv.DenyEndpoints, errs[5] = networks("deny", s.deny)
	if s.proxyRequired && len(s.proxyIn) == 0 {
		errs[6] = errors.New("-proxy-protocol-required needs -proxy-protocol-in")
	}
	return srv, errors.Join(errs[:]...)
}

// listening is a listener that is not served yet.
type listening struct {
	net.Listener
	protocol peek.Protocol
}

func (r *router) listen() (list []listening, err error) {
	protocols := r.settings.protocols()
	for _, addr := range slices.Sorted(maps.Keys(protocols)) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			return nil, err
		}
		list = append(list, listening{l, protocols[addr]})
	}
	return list, nil
}

// serve runs the router until ctx ends, and what was begun has ended too.
func (r *router) serve(ctx context.Context) error {
	if err := r.hosts.load(); err != nil {
		return err
	}
	var adminListener net.Listener
	if r.settings.admin != "" {
		l, err := net.Listen("tcp", r.settings.admin)
		if err != nil {
			return err
		}
		defer l.Close()
		adminListener = l
	}
	listeners, err := r.listen()
	if err != nil {
		return err
	}
	// What serves connections goes on while they drain.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	var logging sync.WaitGroup
	logging.Go(r.access.write)
	workers, working := errgroup.WithContext(working)
	workers.Go(func() error { return r.hosts.run(working) })
	page := &status{started: time.Now(), srv: r.srv, hosts: r.hosts, log: r.access, drain: r.drain}
	for _, l := range listeners {
		page.listeners = append(page.listeners, fmt.Sprintf("%v (%v)", l.Addr(), l.protocol))
		r.log.Info("listening", "addr", l.Addr(), "protocol", l.protocol)
		workers.Go(func() error {
			if err := r.srv.Serve(l.Listener, l.protocol); !errors.Is(err, sniproxy.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	if adminListener != nil {
		r.log.Info("admin", "addr", adminListener.Addr())
		admin := cli.Admin{Gatherer: r.metrics.registry, Ready: r.drain.ready, Extra: page.handler()}
		workers.Go(func() error { return admin.Serve(working, adminListener) })
	}

	select {
	case <-ctx.Done():
		r.drainAway()
	case <-working.Done(): // something has failed
		_ = r.srv.Close()
	}
	stopWorking()
	err = errors.Join(workers.Wait(), r.hosts.close())
	close(r.access.lines)
	logging.Wait()
	return err
}

// drainAway ends the server: it goes on for a while, then accepts no more, then closes.
func (r *router) drainAway() {
	delay := time.Until(r.drain.begin().Add(r.settings.drainDelay))
	r.log.Info("draining", "connections", r.srv.Load().Conns, "delay", max(delay, 0), "timeout", r.settings.drainTimeout)
	timer := time.NewTimer(delay)
	<-timer.C
	ctx, cancel := context.WithTimeout(context.Background(), r.settings.drainTimeout)
	defer cancel()
	if err := r.srv.Shutdown(ctx); err != nil {
		r.log.Warn("connections were closed that had not ended in time", "err", err)
	}
	_ = r.srv.Close() // nobody finishes after it
}
