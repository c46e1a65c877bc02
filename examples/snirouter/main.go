// Snirouter routes a TCP or QUIC connection by the host that the client names at its start: the
// server name of TLS, or the host of an HTTP request. It does not decrypt TLS.
//
//	snirouter -tls :443 -http :80 -api 'http://127.0.0.1:9000/hosts/{host}' -admin 127.0.0.1:9801 -admin unix:/run/headgate/snirouter.sock
//	snirouter drain -admin unix:/run/headgate/snirouter.sock -pause 10s
//	snirouter ech-config -public-name public.example.com -out /etc/headgate-ech
//
// The router finds the endpoint of a host in a file (-hosts), or asks a host API (-api), such as
// hostapi. The second command starts a drain, for a preStop hook in a container without a shell. The
// third command makes a key for Encrypted ClientHello. README.md describes the flags, the cache, the
// log, the status page and the drain.
package main

import (
	"context"
	"crypto/rand"
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

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/tophosts"
)

const program = "snirouter"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Routes TLS, HTTP and QUIC connections by the host that the client names, without ending TLS.",
	Readme:  readme,
	Commands: []cli.Command{
		{Example: "snirouter -tls :443 -http :80 -api 'http://127.0.0.1:9000/hosts/{host}' -admin 127.0.0.1:9801 -admin unix:/run/headgate/snirouter.sock", Run: runRouter},
		{
			Name: "drain", Summary: "Begins or ends the drain of a running snirouter.",
			Example: "snirouter drain -admin unix:/run/headgate/snirouter.sock -pause 10s",
			Run:     runDrain,
		},
		{
			Name: "ech-config", Summary: "Makes a key for Encrypted ClientHello, and prints its ECHConfigList for DNS.",
			Example: "snirouter ech-config -public-name public.example.com -out /etc/headgate-ech",
			Run:     runECHConfig,
		},
	},
}

var run = commandLine.Run

func main() {
	// Collect garbage more often, unless the user has set GOGC. With the default of 100, Go
	// collects no garbage below a heap of 4 MiB. With 2,000 idle connections, half of the memory of
	// each connection would be garbage. The additional collections cost no CPU time that
	// bench-peers can measure.
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(40)
	}
	cli.Main(run)
}

func runRouter(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(program)
	s := register(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	if err := s.check(); err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err)
	}
	log := inv.Logger(s.logFormat, slog.LevelInfo)
	r, err := newRouter(*s, log)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	if err := r.serve(ctx); err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

// router holds the parts of a running snirouter.
type router struct {
	settings settings
	log      *slog.Logger
	srv      *sniproxy.Server
	hosts    *hosts
	ech      *echKeys // nil without -ech-keys
	metrics  *metrics
	access   *accessLog
	top      tophosts.Counter
	drain    *drain.Drainer
	page     *notFoundPage // nil for none
}

// newRouter returns a router. The caller starts it with the method "serve".
func newRouter(s settings, log *slog.Logger) (*router, error) {
	r := &router{settings: s, log: log, metrics: newMetrics()}
	r.access = newAccessLog(log, s.logSample, s.logFaults, r.metrics)
	var err error
	if r.hosts, err = newHosts(s, log); err != nil {
		return nil, err
	}
	if r.srv, r.page, err = newServer(s, r.hosts); err != nil {
		return nil, err
	}
	if r.ech = newECHKeys(s.echKeys, log); r.ech != nil {
		r.srv.ECHKeys = r.ech.dir.Keys
		r.metrics.watchECH(r.ech)
	}
	r.srv.Logger = log
	r.srv.Finished = func(st sniproxy.Stats) {
		r.metrics.finished(st)
		r.access.finished(st)
		r.top.Add(sampleOf(st))
	}
	r.drain = newDrainer(s, r.srv)
	r.metrics.watchServer(r.srv, r.drain)
	r.metrics.watchHosts(r.hosts)
	return r, nil
}

func newServer(s settings, h *hosts) (*sniproxy.Server, *notFoundPage, error) {
	srv := &sniproxy.Server{
		Lookup:       h.lookup,
		HelloTimeout: s.hello, LookupTimeout: s.lookup, DialTimeout: s.dial, IdleTimeout: s.idle, HalfCloseTimeout: s.halfClose, KeepAlive: s.keepAlive,
		QUICIdleTimeout: s.quicIdle,
		MaxHello:        s.maxHello, MaxConns: s.maxConns, MaxConnsPerSource: s.perSource, MaxPeeking: s.peeking,
		MaxConnsPerHost: s.perHost, MaxRatePerHost: s.hostRate,
		ProxyRequired: s.proxyRequired, DrainSpread: s.drainSpread,
		ProxyOut:       map[string]int{"v1": 1, "v2": 2}[s.proxyOut],
		ProxyAuthority: slices.Contains(s.proxyTLVs, "authority"), ProxyALPN: slices.Contains(s.proxyTLVs, "alpn"),
	}
	errs := make([]error, 8)
	errs[0] = setUnknownTLS(srv, s.unknownTLS)
	srv.NoName, errs[1] = parseEndpoint("no-name", s.noName)
	page, err := parsePage(s.notFoundPage)
	srv.Page, errs[2] = page.template(), err
	srv.ProxyFrom, errs[3] = parseNetworks("proxy-protocol-in", s.proxyIn)
	srv.AllowEndpoints, errs[4] = parseNetworks("allow", s.allow)
	srv.DenyEndpoints, errs[5] = parseNetworks("deny", s.deny)
	srv.NAT64Prefixes, errs[6] = parseNetworks("nat64-prefix", s.nat64)
	srv.TrustedSources, errs[7] = parseNetworks("trusted-sources", s.trusted)
	return srv, page, errors.Join(errs...)
}

// listening is a listener and the protocols that the router serves on it.
type listening struct {
	net.Listener
	protocol peek.Protocol
}

func (r *router) listen(ctx context.Context) (list []listening, err error) {
	protocols := r.settings.protocols()
	for _, addr := range slices.Sorted(maps.Keys(protocols)) {
		opened, err := cli.Listen(ctx, addr)
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			return nil, err
		}
		for _, l := range opened {
			list = append(list, listening{l, protocols[addr]})
		}
	}
	return list, nil
}

// quicBuffer is the size of the receive buffer of a QUIC socket in bytes. It is large because all
// clients share the socket. Linux limits the size to net.core.rmem_max.
const quicBuffer = 4 << 20

func (r *router) listenQUIC(ctx context.Context) (list []*net.UDPConn, err error) {
	for _, addr := range r.settings.quic {
		opened, err := cli.ListenUDP(ctx, addr)
		if err != nil {
			for _, c := range list {
				c.Close()
			}
			return nil, err
		}
		list = append(list, opened...)
	}
	for _, conn := range list {
		_ = conn.SetReadBuffer(quicBuffer) // a smaller buffer works too
	}
	return list, nil
}

// serve runs the router until ctx ends. When ctx ends, serve drains the router, and returns when
// all connections and goroutines have ended. If a part of the router fails, serve stops without a
// drain.
func (r *router) serve(ctx context.Context) error {
	if err := errors.Join(r.hosts.load(), r.ech.load()); err != nil {
		return err
	}
	page := &status{started: time.Now(), srv: r.srv, hosts: r.hosts, log: r.access, drain: r.drain, top: &r.top, asker: asker{secret: rand.Text()}, logger: r.log}
	admin := cli.Admin{Gatherer: r.metrics, Ready: r.ready, Alive: r.srv.Alive, Extra: page.handler()}
	adminListeners, err := r.settings.admin.Listen(ctx, &admin)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range adminListeners {
			l.Close()
		}
	}()
	r.srv.OwnListeners = cli.TCPAddrs(adminListeners)
	listeners, err := r.listen(ctx)
	if err != nil {
		return err
	}
	quicConns, err := r.listenQUIC(ctx)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	// When ctx ends, the drain begins. The hosts, the log and the admin pages have to work until
	// the drain is over. So they do not use ctx, but the context "working", which ends later.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	cli.ReadAgainOnHangup(working, r.log, r.readPage, r.hosts.readAuthorities)
	var logging sync.WaitGroup
	logging.Go(r.access.write)
	workers, working := errgroup.WithContext(working)
	workers.Go(func() error { return r.hosts.run(working) })
	if r.ech != nil {
		workers.Go(func() error { return r.ech.watch(working) })
	}
	serve := func(addr net.Addr, protocol peek.Protocol, serve func() error) {
		page.listeners = append(page.listeners, fmt.Sprintf("%v (%v)", addr, protocol))
		r.log.Info("listening", "addr", addr, "protocol", protocol)
		workers.Go(func() error {
			if err := serve(); !errors.Is(err, sniproxy.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	for _, l := range listeners {
		serve(l.Addr(), l.protocol, func() error { return r.srv.Serve(l.Listener, l.protocol) })
	}
	for _, c := range quicConns {
		serve(c.LocalAddr(), peek.QUIC, func() error { return r.srv.ServeQUIC(c) })
	}
	for _, l := range adminListeners {
		r.log.Info("admin", "addr", l.Addr())
	}
	workers.Go(func() error { return admin.Serve(working, adminListeners...) })

	select {
	case <-ctx.Done():
		r.drainConnections()
	case <-working.Done(): // a part has failed
		_ = r.srv.Close()
	}
	stopWorking()
	err = errors.Join(workers.Wait(), r.hosts.close())
	close(r.access.lines)
	logging.Wait()
	return err
}

// ready returns the error for /readyz. nil means that the router is ready.
func (r *router) ready() error {
	if r.drain.Ready() != nil {
		return errors.New("draining")
	}
	if cache := r.hosts.cache; cache != nil {
		if stats := cache.Stats(); stats.Hosts+stats.Aliases > 0 || stats.NotFound > 0 { // a client was faster than the probe
			r.hosts.readiness.ready.Store(true)
		}
	}
	return r.hosts.readiness.check()
}

// readPage reads the file of -not-found-page again.
func (r *router) readPage() {
	if r.page == nil {
		return
	}
	if err := r.page.read(); err != nil {
		r.log.Warn("the page of -not-found-page stays as it is", "err", err)
	}
}
