package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/frontproxy/controller"
	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/supervisor"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
	"github.com/headgate/headgate/nodeselect/live"
)

// proxy is a front proxy with its parts.
type proxy struct {
	controller   *controller.Controller
	supervisor   *supervisor.Supervisor // nil with -reload
	drainer      *drain.Drainer
	drainTimeout time.Duration
	metrics      *metrics
	log          *slog.Logger
	accessLog    io.Writer
	last         controller.Status // the status that changed has logged
	stopping     atomic.Bool       // HAProxy closes its listeners

	readAuthorities func() // reads the file of -discovery-ca again

	mu   sync.Mutex
	load drain.Load // the last numbers that the method count has read
}

func newProxy(s settings, log *slog.Logger, accessLog io.Writer) (*proxy, error) {
	haproxy, err := exec.LookPath(s.haproxy)
	if err != nil {
		return nil, fail("haproxy", "%v", err)
	}
	if s.out, err = filepath.Abs(s.out); err != nil {
		return nil, fail("out", "%v", err)
	}
	if most, ok := supervisor.MaxConnections(); ok && s.maxConns > most {
		log.Warn("the limit of open files allows fewer connections than -max-connections", "connections", most)
		s.maxConns = most
	}
	p := &proxy{log: log, accessLog: accessLog, drainTimeout: s.drainTimeout, readAuthorities: func() {}}
	config, state := filepath.Join(s.out, "haproxy.cfg"), filepath.Join(s.out, "server-state")
	stats := runtimeapi.Socket{Path: filepath.Join(s.out, "stats.sock")}
	master := runtimeapi.Socket{Path: s.reload}
	if s.reload == "" {
		p.supervisor, err = supervisor.New(supervisor.Options{
			Haproxy: haproxy, Config: config, LastGood: config + ".last-good", Pending: config + ".reload-pending", RunDir: filepath.Join(s.out, "run"), StateFile: state,
			Changed: p.haproxyChanged, Log: p.haproxyLine,
		})
		if err != nil {
			return nil, err
		}
		master = p.supervisor.Master()
	}
	checker := deploy.Checker{Haproxy: haproxy}
	reloader := deploy.Reloader{Master: master, StateFile: state, Config: config, Warned: func(err error) { log.Warn("reload", "err", err) }}
	dir := &deploy.Dir{
		Path: s.out, Check: checker.Check, Reload: reloader.Reload,
		// Wait is how long Apply waits for the connections of removed servers to end. It is short,
		// because the wait delays the next change. If a server still has connections after Wait, a
		// later Apply deletes the server.
		Runtime: &deploy.Runtime{Stats: stats, Master: master, Wait: 100 * time.Millisecond, Changed: p.runtimeChanged},
	}
	if p.supervisor != nil {
		dir.Reload = func(ctx context.Context) error { return p.supervisor.Reload(ctx, reloader.Reload) }
	}
	p.controller = &controller.Controller{
		Proxy: frontproxy.Proxy{
			Service: strings.TrimSuffix(s.ref.Namespace+"."+s.ref.Service+"."+s.ref.Port, "."), Zone: s.zone, LocalPort: uint16(s.local),
			Binds: binds(s.listen, s.acceptProxy), Admin: binds(s.exporter, false), Monitor: s.monitorPath,
			Global: haproxycfg.Global{StatsSocket: stats.Path, StateFile: state, MaxConn: s.maxConns, Threads: s.threads},
		},
		Dir: dir, Version: checker.Version, Changed: p.changed,
	}
	p.metrics = newMetrics(p)
	p.drainer = &drain.Drainer{
		Settings: drain.Settings{Delay: cli.NoneIfZero(s.drainDelay), Timeout: cli.NoneIfZero(s.drainTimeout)},
		Count:    p.count,
		Changed: func(progress drain.Progress) {
			log.Info("drain", "progress", progress)
			p.controller.SetDraining(progress.State != drain.Serving)
		},
	}
	if p.supervisor != nil {
		// The drainer of this program waits for -drain-delay before it stops HAProxy, and ends
		// HAProxy after -drain-timeout. So HAProxy needs no delay of its own (Grace), and HardStop
		// must not end it earlier.
		p.controller.Override = func(settings *frontproxy.Settings) {
			settings.Grace = -1
			settings.HardStop = max(cmp.Or(settings.HardStop, 30*time.Second), s.drainTimeout+time.Second)
		}
		p.controller.Override(&p.controller.Proxy.Settings)
	}
	if s.policy != "" {
		p.controller.Policy = &controller.PolicyFile{Path: s.policy, Parse: policy.Parse, LastGood: filepath.Join(s.out, "policy.last-good")}
		if _, ok, err := p.controller.Policy.Read(); !ok {
			return nil, fail("policy", "%v", err)
		}
	}
	if s.local == 0 {
		p.controller.Source, err = p.source(s)
	}
	return p, err
}

func binds(addresses cli.Strings, acceptProxy bool) (list []haproxycfg.Bind) {
	for _, addr := range addresses {
		list = append(list, haproxycfg.Bind{Address: addr, AcceptProxy: acceptProxy, IPv6: cli.AlsoIPv6(addr)})
	}
	return list
}

// source returns the source of the pods that the flags name.
func (p *proxy) source(s settings) (controller.Source, error) {
	switch {
	case len(s.discovery) > 0:
		conf, err := s.discoveryTLS.Config(p.log)
		if err != nil {
			return nil, err
		}
		client := &httpapi.Client{URLs: s.discovery, TLS: conf}
		p.readAuthorities = func() { s.discoveryTLS.ReadAuthorities(conf, p.log, client.SetTLS) }
		if conf.GetClientCertificate != nil {
			p.metrics.MustRegister(cli.PairExpiry(program, s.discoveryTLS.Certificate, conf.GetClientCertificate))
		}
		if s.tokenFile != "" {
			client.Token = httpapi.TokenFile(s.tokenFile)
		}
		return controller.Discovery{Client: client, Service: s.ref}, client.Check()
	case s.dir != "":
		return controller.Directory{Path: s.dir, Service: s.ref}, nil
	}
	config, err := kubeconn.Load(s.kubeconfig)
	if err != nil {
		return nil, err
	}
	w := live.EndpointsWatcher{Config: config, Namespace: s.ref.Namespace, Service: s.ref.Service, Quiet: 20 * time.Millisecond, Logger: p.log}
	return controller.SourceFunc(func(ctx context.Context, changed func(controller.Update)) error {
		return w.Run(ctx, func(snapshot live.EndpointsSnapshot) {
			u := controller.Update{}
			if snapshot.Synced {
				u = controller.PodsOf(snapshot.Services, s.ref)
			}
			u.Since, u.Err = snapshot.Since, errors.Join(snapshot.Err, u.Err)
			changed(u)
		})
	}), nil
}

// count returns the numbers of open connections and requests in HAProxy. If HAProxy does not
// answer, count returns the last numbers: a stopping HAProxy does not answer.
func (p *proxy) count() drain.Load {
	if p.supervisor != nil && p.supervisor.State().PID == 0 {
		return drain.Load{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	connections, requests, err := p.controller.Open(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.load = drain.Load{Connections: connections, Requests: requests}
	}
	load := p.load
	if !p.stopping.Load() { // a stopping HAProxy waits for idle connections too
		load.Idle = max(load.Connections-load.Requests, 0)
	}
	return load
}

// haproxyChanged logs a new state of the HAProxy that this program has started.
func (p *proxy) haproxyChanged(s supervisor.State) {
	if s.Phase == supervisor.Running && s.Starts > 1 {
		p.controller.Recheck() // HAProxy may run the last good configuration
	}
	switch {
	case errors.Is(s.Err, fs.ErrNotExist) || s.Phase == supervisor.Starting: // not configured yet
	case s.OnLastGood && s.Err != nil:
		p.log.Error("haproxy", "state", s.Phase, "pid", s.PID, "configuration", "last good", "err", s.Err)
	case s.Err != nil:
		p.log.Error("haproxy", "state", s.Phase, "next", time.Until(s.Next).Round(time.Millisecond), "err", s.Err)
	default:
		p.log.Info("haproxy", "state", s.Phase, "pid", s.PID)
	}
}

// haproxyLine logs a message of HAProxy. The lines of its access log go to the standard output as
// they are.
func (p *proxy) haproxyLine(line string) {
	if level, text, ok := supervisor.Message(line); ok {
		p.log.Log(context.Background(), level, "haproxy", "line", text)
	} else {
		fmt.Fprintln(p.accessLog, line)
	}
}

func (p *proxy) runtimeChanged(c deploy.RuntimeChange) {
	p.metrics.runtimeChanged(c)
	if c.Reload != "" {
		p.log.Info("haproxy reloads", "reason", c.Reload)
	}
}

// changed logs the differences between two states of the controller.
func (p *proxy) changed(s controller.Status) {
	before, now := p.last.Problems(), s.Problems()
	for _, problem := range now {
		if !slices.Contains(before, problem) {
			p.log.Warn("problem", "err", problem)
		}
	}
	for _, problem := range before {
		if !slices.Contains(now, problem) {
			p.log.Info("problem solved", "before", problem)
		}
	}
	if s.Applied != p.last.Applied {
		p.log.Info("applied", "zones", s.Zones, "servers", len(s.Servers))
	}
	p.last = s
}

// ready returns the error for /readyz. It is not nil if the proxy does not serve requests, or if it
// drains.
func (p *proxy) ready() error {
	if err := p.drainer.Ready(); err != nil {
		return err
	}
	ready := p.controller.Status().Ready()
	if p.supervisor != nil && p.supervisor.State().Phase != supervisor.Running {
		// If the controller cannot make or check the configuration, HAProxy has no file to start
		// with. So also return the error of the controller: it may be the reason why HAProxy does
		// not run.
		return errors.Join(errors.New("haproxy: "+p.supervisor.State().String()), ready)
	}
	return ready
}

// detail returns the text that /readyz shows below "ok".
func (p *proxy) detail() string {
	lines := p.controller.Status().Problems()
	if p.supervisor != nil && p.supervisor.State().OnLastGood {
		lines = append(lines, "haproxy: "+p.supervisor.State().String())
	}
	return strings.Join(lines, "\n")
}
