package frontproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// Pod is a pod that may get new requests. endpoints.InService chooses these pods from the pods of a
// service.
type Pod struct {
	Addr netip.AddrPort
	Name string // of the Pod object; not used in the configuration
	Zone string // "" if unknown; such a pod counts as a pod of another zone
}

// Proxy is a front proxy of one service in one zone.
type Proxy struct {
	// Service is the name of the service in HAProxy's names, statistics and logs. It consists of
	// letters, digits and "-_.:", and has at most 200 bytes.
	Service string
	// Zone is the zone of the proxy. Empty means that all pods are local.
	Zone string
	// LocalPort, if not 0, makes the proxy the sidecar of one pod: it sends all requests to
	// 127.0.0.1:LocalPort, and Config ignores the pods, Zone and the expected number of pods.
	// HAProxy neither checks nor ejects the server.
	LocalPort uint16
	// Binds are the addresses for clients. With AcceptProxy, HAProxy reads the client's address
	// from the PROXY protocol of the balancer in front.
	Binds []haproxycfg.Bind
	// Admin are the addresses of a frontend with HAProxy's metrics for Prometheus at "/metrics",
	// and with a monitor at "/ready" for a balancer in front; nil means no such frontend. The
	// monitor answers 503 while HAProxy is stopping, drains, or has no usable pod.
	Admin []haproxycfg.Bind
	// Monitor is a path. On the addresses of Binds, HAProxy answers requests for this path as it
	// answers "/ready" on the addresses of Admin. Empty means no such path.
	Monitor string
	// Global contains the version of HAProxy, its sockets and its logs. Config sets the fields Grace,
	// HardStopAfter, HTTP2Requests and Variables.
	Global haproxycfg.Global
	// Draining begins a drain of the proxy: its monitor answers 503, and HAProxy closes each
	// client's connection after the next answer, but still serves every request. Draining is a
	// variable of HAProxy, so a drain begins and ends without a reload.
	Draining bool
	// Settings is the policy of the proxy.
	Settings Settings
}

// These are the names of the variables in a configuration; see haproxycfg.Variable. Config computes
// the values of all variables except MayRetry. A controller changes MayRetry at run time, for
// HAProxy before 2.9.
const (
	MayRetry     = "may_retry"
	Draining     = "draining" // 0, or 1 if Proxy.Draining is true
	expectedPods = "expected_pods"
	panicBelow   = "panic_below"
	pendingLocal = "pending_local"
	pendingOther = "pending_other"
	pendingPanic = "pending_panic"
)

// Backends returns the names of the three backends of a service; see the package documentation.
func Backends(service string) (local, other, panicking string) {
	return service + ":local", service + ":other", service + ":panic"
}

// Config returns the configuration of the proxy. pods are the pods of its service in all zones.
// Config uses each address once, and ignores addresses without a port or with an IPv6 zone. Without
// pods, HAProxy answers each request with 503.
//
// The argument "expected" is the number of pods that the zone has while no pod is missing; see the
// package documentation. If the zone now has more pods, Config uses their number instead. So 0 means
// the present number of pods.
//
// The argument "before" is the Slots of the last call, or nil; Config does not change it. For
// HAProxy 3.0 and later, Config returns nil instead of Slots.
//
// Config returns the error of Settings.Validate, or of the method Validate of the result.
func (p *Proxy) Config(pods []Pod, expected int, before Slots) (haproxycfg.Config, Slots, error) {
	s := &p.Settings
	if err := s.Validate(); err != nil {
		return haproxycfg.Config{}, nil, err
	}
	c := haproxycfg.Config{Global: p.Global, Defaults: s.defaults()}
	c.Global.Grace, c.Global.HardStopAfter = s.grace(), s.hardStop()
	c.Global.HTTP2Requests = s.HTTP2Requests
	if s.AccessLog && len(c.Global.Logs) == 0 {
		c.Global.Logs = []haproxycfg.Log{{Address: "stdout", Format: "raw", Level: "info"}}
	}
	front := p.frontend(len(c.Global.Logs) > 0)
	v := variables{}
	if front.RetryBudget != nil {
		v.set(MayRetry, 1)
	}
	var slots Slots
	if p.LocalPort != 0 {
		c.Backends = p.sidecar(&front, &v)
	} else {
		if !p.Global.Version.AtLeast(3, 0) {
			slots = Slots{}
		}
		c.Backends = p.zones(&front, &v, pods, expected, before, slots)
	}
	drains := 0
	if p.Draining {
		drains = 1
	}
	v.set(Draining, drains)
	c.Global.Variables = v
	c.Frontends = []haproxycfg.Frontend{front}
	if len(p.Admin) > 0 {
		c.Frontends = append(c.Frontends, haproxycfg.Frontend{
			Name: p.Service + ":admin", Binds: p.Admin, Forwarded: haproxycfg.ForwardedKeep, NoLog: front.NoLog || s.AccessLog,
			Exporter: "/metrics", ExporterNoMaint: true, Monitor: "/ready", MonitorBackends: front.MonitorBackends, DrainSwitch: Draining,
		})
	}
	if front.Monitor == "" {
		c.Frontends[0].MonitorBackends = nil
	}
	if err := c.Validate(); err != nil {
		return haproxycfg.Config{}, nil, err
	}
	return c, slots, nil
}

// variables are the variables of a configuration.
type variables []haproxycfg.Variable

func (v *variables) set(name string, value int) {
	*v = append(*v, haproxycfg.Variable{Name: name, Value: value})
}

// These are the times that HAProxy waits for data from a pod if Settings.Server is 0: serverTimeout
// for HTTP, and grpcTimeout for gRPC. A gRPC stream may be silent for a long time, and gRPC clients
// set deadlines themselves.
const (
	serverTimeout = 15 * time.Second
	grpcTimeout   = time.Hour
)

func (s *Settings) defaults() haproxycfg.Defaults {
	timeouts := haproxycfg.Timeouts{
		Connect: cmp.Or(s.Connect, time.Second),
		Server:  cmp.Or(s.Server, serverTimeout),
		Queue:   cmp.Or(s.QueueTime, 200*time.Millisecond),
	}
	var client time.Duration // 0: the default of haproxycfg
	if s.Protocol == haproxycfg.GRPC {
		timeouts.Server = cmp.Or(s.Server, grpcTimeout)
		client = timeouts.Server // a silent stream waits for the client too
	}
	return haproxycfg.Defaults{
		Timeouts: timeouts, Client: client,
		KeepAlive: s.KeepAlive, Retries: cmp.Or(s.Retries, 2), RetryOn: s.RetryOn,
	}
}

func (p *Proxy) frontend(logs bool) haproxycfg.Frontend {
	s := &p.Settings
	f := haproxycfg.Frontend{
		Name: p.Service, Binds: p.Binds, Monitor: p.Monitor,
		NoLog: logs && !s.AccessLog, RequestID: true,
		Forwarded: haproxycfg.ForwardedAppend, KeepHeaderNames: !s.ReplaceForwarded,
		CloseOneIn: orDefault(s.CloseOneIn, 1000), CloseStopping: true, DrainSwitch: Draining,
		Limits: s.Limits, RetryBudget: s.retryBudget(),
	}
	if s.ReplaceForwarded {
		f.Forwarded = haproxycfg.ForwardedReplace
	}
	if s.TraceSample != 0 {
		f.Trace = &haproxycfg.Trace{Sampled: max(s.TraceSample, 0)}
	}
	return f
}

// sidecar returns the only backend of a proxy that has a LocalPort. Its one server is the program
// on LocalPort of 127.0.0.1. sidecar also makes this backend the default backend of front.
func (p *Proxy) sidecar(front *haproxycfg.Frontend, v *variables) []haproxycfg.Backend {
	local, _, _ := Backends(p.Service)
	front.DefaultBackend = local
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.LocalPort)
	return []haproxycfg.Backend{p.backend(local, pendingLocal, v, max(p.Settings.PerPod, 1), []haproxycfg.Server{{Addr: addr}}, false)}
}

// zones returns the backends "local", "other" and "panic", which the package documentation
// describes. There is no backend "panic" if HAProxy does not check the pods, or if
// Settings.PanicBelow is negative. zones also sets how front chooses among the backends.
func (p *Proxy) zones(front *haproxycfg.Frontend, v *variables, pods []Pod, expected int, before, slots Slots) []haproxycfg.Backend {
	s := &p.Settings
	local, other, panicking := Backends(p.Service)
	own, others := p.servers(pods)
	v.set(expectedPods, max(expected, len(own)))
	front.DefaultBackend, front.MonitorBackends = local, []string{local, other}
	front.Zones = &haproxycfg.Zones{Other: other, Overprovision: s.Overprovision, Expected: expectedPods, SpillOnQueue: !s.NoSpill}

	add := func(name, pending string, servers []haproxycfg.Server, checked bool) haproxycfg.Backend {
		n := len(servers)
		if slots != nil {
			servers = slots.fill(before, name, servers, checked)
		}
		return p.backend(name, pending, v, n, servers, checked)
	}
	backends := []haproxycfg.Backend{
		add(local, pendingLocal, own, s.checks()),
		add(other, pendingOther, others, s.checks()),
	}
	if percent := orDefault(s.PanicBelow, 25); percent > 0 && s.checks() {
		front.Zones.Panic, front.Zones.PanicBelow = panicking, panicBelow
		front.MonitorBackends = append(front.MonitorBackends, panicking)
		v.set(panicBelow, (percent*(len(own)+len(others))+99)/100)
		all := own
		if len(own) == 0 {
			all = others
		}
		backends = append(backends, add(panicking, pendingPanic, unchecked(all), false))
	}
	return backends
}

func (p *Proxy) backend(name, pending string, v *variables, pods int, servers []haproxycfg.Server, checked bool) haproxycfg.Backend {
	s := &p.Settings
	b := haproxycfg.Backend{
		Name: name, Balance: cmp.Or(s.Balance, haproxycfg.LeastConn), Protocol: s.Protocol,
		Reuse: cmp.Or(s.Reuse, haproxycfg.ReuseAlways), Options: s.options(checked), Servers: servers,
	}
	if checked {
		b.Health = s.health()
	}
	if s.Pending >= 0 && s.PerPod > 0 {
		b.QueueLimit = pending
		v.set(pending, cmp.Or(s.Pending, pods))
	}
	return b
}

// servers returns the servers of the proxy's zone and the servers of all other zones, sorted by
// address.
func (p *Proxy) servers(pods []Pod) (own, others []haproxycfg.Server) {
	sorted := slices.Clone(pods)
	for i := range sorted {
		sorted[i].Addr = netip.AddrPortFrom(sorted[i].Addr.Addr().Unmap(), sorted[i].Addr.Port())
	}
	slices.SortFunc(sorted, func(a, b Pod) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Zone, b.Zone))
	})
	var last netip.AddrPort
	for _, pod := range sorted {
		if !pod.Addr.Addr().IsValid() || pod.Addr.Port() == 0 || pod.Addr.Addr().Zone() != "" || pod.Addr == last {
			continue
		}
		last = pod.Addr
		server := haproxycfg.Server{Addr: pod.Addr, Check: p.Settings.checks()}
		if p.Zone == "" || pod.Zone == p.Zone {
			own = append(own, server)
		} else {
			others = append(others, server)
		}
	}
	return own, others
}

// unchecked returns copies of servers. HAProxy makes no checks of the copies.
func unchecked(servers []haproxycfg.Server) []haproxycfg.Server {
	plain := slices.Clone(servers)
	for i := range plain {
		plain[i].Check = false
	}
	return plain
}
