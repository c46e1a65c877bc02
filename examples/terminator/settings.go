package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// settings are the flags, put into the values of the packages that they are for.
type settings struct {
	routes   []string
	clusters []cluster
	out      string

	once, diff bool    // neither: watch
	maxChange  float64 // share of the servers, from 0 to 1
	force      bool    // when watching: at the first apply

	minInterval, quiet, maxWait, startTimeout time.Duration
	admin                                     string // address, empty for none
	verbose                                   bool
	lease                                     leaseName // of watchers that share a directory; zero for none

	localEndpoints bool

	builder kube.Builder
	haproxy string // path of the binary to check with, empty for none
	reload  string // master socket, empty for none

	zone routes.ZoneOptions // written if Origin is set
	cdn  routes.CDNOptions  // written if Origin is set
}

func parseSettings(inv cli.Invocation) (s *settings, code int, done bool) {
	fs := cli.NewFlagSet(program, "terminator -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig -out out -http :80 -haproxy haproxy -reload master.sock")
	f := register(fs)
	if code, done := inv.Parse(fs); done {
		return nil, code, true
	}
	s, err := f.settings()
	if err != nil {
		return nil, inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err), true
	}
	return s, cli.ExitOK, false
}

// flags are the settings as they are typed.
type flags struct {
	routes, clusters, http, https, exporter, dnsAddrs  cli.Strings
	out, haproxy, reload, maxChange                    string
	once, diff, force, sticky, zones, redirect         bool
	verbose, localEndpoints                            bool
	minInterval, quiet, maxWait, startTimeout          time.Duration
	admin, lease, leaseCluster                         string
	size, descriptors, nodeAgentPort, terminators      int
	identity, prefix, balance, nodeHealth              string
	certs, statsSocket, stateFile, user, group, log    string
	agentInterval, checkInterval, hardStopAfter, grace time.Duration
	dnsOrigin, dnsTarget, cdnOrigin                    string
}

func register(fs *flag.FlagSet) *flags {
	f := &flags{}
	fs.Var(&f.routes, "routes", "`file` of declarations; may be given several times")
	fs.Var(&f.clusters, "cluster", "a cluster as `NAME=WHERE`: its name in declarations, and where its nodes and services are read: kubeconfig:FILE[:CONTEXT], in-cluster, or dir:DIR with files as kubectl get -o yaml or -o json prints them; may be given several times")
	fs.StringVar(&f.out, "out", "", "`directory` to write to")
	fs.BoolVar(&f.once, "once", false, "make the configuration once and end; without it and -diff, follow all changes")
	fs.BoolVar(&f.diff, "diff", false, "show what would change, and write nothing")
	fs.StringVar(&f.maxChange, "max-change", "30%", "largest `share` of the servers in force that may go or change at once")
	fs.BoolVar(&f.force, "force", false, "change more than -max-change; when changes are followed, the first time alone; not with -lease")
	fs.StringVar(&f.haproxy, "haproxy", "", "`path` of the haproxy that must accept the configuration; not checked if empty")
	fs.StringVar(&f.reload, "reload", "", "master `socket` of the HAProxy to reload when the configuration changes; none if empty")

	fs.DurationVar(&f.minInterval, "min-interval", time.Second, "shortest `time` between two changes of the configuration")
	fs.DurationVar(&f.quiet, "quiet", 100*time.Millisecond, "`time` without an event of a live cluster after which a burst is over")
	fs.DurationVar(&f.maxWait, "max-wait", time.Second, "longest `time` that a burst is waited for")
	fs.BoolVar(&f.localEndpoints, "local-endpoints", false, "follow the EndpointSlices of live clusters too, so that services with externalTrafficPolicy Local get nodes that have a ready pod")
	fs.DurationVar(&f.startTimeout, "start-timeout", 10*time.Second, "`time` to wait for all clusters at the start; those that did not answer keep the servers that report.json has of them")
	fs.StringVar(&f.admin, "admin", "", "`address` of /metrics, /healthz, /readyz and, from this machine alone, POST /force; none if empty")
	fs.StringVar(&f.lease, "lease", "", "`NAMESPACE/NAME` of a Lease: of all that name it, one writes; none if empty")
	fs.StringVar(&f.leaseCluster, "lease-cluster", "", "`name` of the cluster of the Lease; the first live one if empty")
	fs.BoolVar(&f.verbose, "verbose", false, "log details too")

	fs.IntVar(&f.size, "nodes-per-service", nodeselect.DefaultSize, "`number` of nodes that each service gets")
	fs.BoolVar(&f.zones, "zones", false, "take the nodes of a service evenly from all zones")
	fs.BoolVar(&f.sticky, "sticky", false, "keep the nodes that report.json names for as long as they are eligible")
	fs.StringVar(&f.identity, "identity", "address", "`kind` of name that a node is known by: address, name or provider-id")
	fs.StringVar(&f.prefix, "annotation-prefix", nodeselect.DefaultPrefix, "`prefix` of the annotations that are followed")

	fs.Var(&f.http, "http", "`address` to serve HTTP on; may be given several times")
	fs.Var(&f.https, "https", "`address` to serve HTTPS on; may be given several times")
	fs.StringVar(&f.certs, "certificates", "", "PEM `file or directory` with certificates and keys for -https")
	fs.BoolVar(&f.redirect, "redirect-https", false, "answer on -http with a redirect to -https")
	fs.Var(&f.exporter, "exporter", "`address` of HAProxy's own /metrics and /ready; may be given several times")
	fs.StringVar(&f.balance, "balance", string(haproxycfg.RoundRobin), "`algorithm` by which a server is chosen: roundrobin, leastconn, random, source or uri; the last three are for some thousand servers, see package haproxycfg")

	fs.StringVar(&f.nodeHealth, "node-health", "agent", "`way` to know that a node may be used: agent, agent+kube-proxy or kube-proxy")
	fs.IntVar(&f.nodeAgentPort, "node-agent-port", edge.DefaultNodeAgentPort, "`port` of the node agents")
	fs.DurationVar(&f.agentInterval, "agent-inter", 2*time.Second, "`time` between two agent checks; the agents' -zero-weight-delay is to be longer")
	fs.DurationVar(&f.checkInterval, "check-inter", 2*time.Second, "`time` between two health checks")

	fs.StringVar(&f.statsSocket, "stats-socket", "", "`path` of HAProxy's administration socket")
	fs.StringVar(&f.stateFile, "state-file", "", "`path` of the file that keeps the state of servers over a reload; needs -reload")
	fs.StringVar(&f.user, "user", "", "`name` of the user that HAProxy becomes")
	fs.StringVar(&f.group, "group", "", "`name` of the group that HAProxy becomes")
	fs.StringVar(&f.log, "log", "", "`address` that HAProxy logs to: stdout, an IP address with or without a port, or the path of a syslog socket")
	fs.IntVar(&f.descriptors, "descriptors", 0, "`number` of file descriptors that HAProxy may have; from them follows how many connections it takes")
	fs.DurationVar(&f.hardStopAfter, "hard-stop-after", 0, "`time` that a replaced HAProxy process may wait for its connections; 0 is for ever")
	fs.DurationVar(&f.grace, "grace", 0, "`time` for which a stopping HAProxy process still accepts connections (2.5 or later)")

	fs.IntVar(&f.terminators, "terminators", 1, "`number` of machines with this configuration; only the budget of checks in report.json depends on it")
	fs.StringVar(&f.dnsOrigin, "dns-origin", "", "`zone` to write dns.zone for, such as example.com")
	fs.Var(&f.dnsAddrs, "dns-address", "`address` of a terminator for dns.zone; may be given several times")
	fs.StringVar(&f.dnsTarget, "dns-target", "", "`name` of the terminators that dns.zone points to instead")
	fs.StringVar(&f.cdnOrigin, "cdn-origin", "", "`name` of the terminators, to write cdn.json with")
	return f
}

func (f *flags) settings() (*settings, error) {
	switch {
	case len(f.routes) == 0 || len(f.clusters) == 0 || f.out == "":
		return nil, errors.New("-routes, -cluster and -out are needed")
	case f.once && f.diff:
		return nil, errors.New("-once writes, -diff does not: want one of them, or neither to follow all changes")
	case len(f.http)+len(f.https) == 0:
		return nil, errors.New("-http or -https is needed")
	case len(f.https) > 0 && f.certs == "":
		return nil, errors.New("-https needs -certificates")
	case f.redirect && len(f.https) == 0:
		return nil, errors.New("-redirect-https needs -https")
	case f.stateFile != "" && f.reload == "":
		return nil, errors.New("-state-file needs -reload: the file is written just before a reload, and a stale one is worse than none")
	case f.size < 1:
		return nil, errors.New("-nodes-per-service must be 1 or more")
	case f.minInterval < 0 || f.quiet < 0 || f.maxWait < 0 || f.startTimeout < 0:
		return nil, errors.New("-min-interval, -quiet, -max-wait and -start-timeout must not be negative")
	case f.terminators < 1:
		return nil, errors.New("-terminators must be 1 or more")
	case f.nodeAgentPort < 1 || f.nodeAgentPort > 65535:
		return nil, errors.New("-node-agent-port: want a port, 1 to 65535")
	}
	s := &settings{
		routes: f.routes, out: f.out, once: f.once, diff: f.diff, force: f.force,
		minInterval: f.minInterval, quiet: f.quiet, maxWait: f.maxWait, startTimeout: f.startTimeout,
		admin: f.admin, verbose: f.verbose,
		localEndpoints: f.localEndpoints,
		haproxy:        f.haproxy, reload: f.reload,
		cdn: routes.CDNOptions{Origin: f.cdnOrigin},
	}
	var err error
	if s.maxChange, err = cli.ParseShare(f.maxChange); err != nil {
		return nil, fmt.Errorf("-max-change: %q: %w", f.maxChange, err)
	}
	if s.clusters, err = parseClusters(f.clusters); err != nil {
		return nil, fmt.Errorf("-cluster: %w", err)
	}
	if s.lease, err = f.parseLease(s); err != nil {
		return nil, err
	}
	if s.zone, err = f.zone(); err != nil {
		return nil, err
	}
	if f.cdnOrigin != "" {
		if _, err := routes.AppendCDN(nil, routes.Table{}, s.cdn); err != nil {
			return nil, fmt.Errorf("-cdn-origin: %w", err)
		}
	}
	s.builder.Terminators = f.terminators
	if s.builder.Selector, err = f.selector(); err != nil {
		return nil, err
	}
	if s.builder.Edge, err = f.edge(); err != nil {
		return nil, err
	}
	return s, nil
}

func (f *flags) zone() (routes.ZoneOptions, error) {
	zone := routes.ZoneOptions{Origin: f.dnsOrigin, Target: f.dnsTarget}
	for _, text := range f.dnsAddrs {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return zone, fmt.Errorf("-dns-address: %w", err)
		}
		zone.Addrs = append(zone.Addrs, addr)
	}
	if zone.Origin != "" {
		if _, err := routes.AppendZone(nil, routes.Table{}, zone); err != nil {
			return zone, fmt.Errorf("-dns-origin, -dns-address and -dns-target: %w", err)
		}
	}
	return zone, nil
}

func (f *flags) selector() (nodeselect.Selector, error) {
	s := nodeselect.Selector{
		Size: f.size, Spread: f.zones, Sticky: f.sticky,
		Annotations: nodeselect.Annotations{Prefix: f.prefix},
	}
	if faults := validation.IsDNS1123Subdomain(f.prefix); faults != nil {
		return s, fmt.Errorf("-annotation-prefix: %q: %s", f.prefix, faults[0])
	}
	identities := map[string]nodeselect.Identity{
		"address": nodeselect.ByAddress, "name": nodeselect.ByName, "provider-id": nodeselect.ByProviderID,
	}
	var ok bool
	if s.Identity, ok = identities[f.identity]; !ok {
		return s, fmt.Errorf("-identity: %q: want address, name or provider-id", f.identity)
	}
	return s, nil
}

func (f *flags) edge() (edge.Edge, error) {
	e := edge.Edge{
		Global: haproxycfg.Global{
			Descriptors: f.descriptors, User: f.user, Group: f.group,
			StatsSocket: f.statsSocket, StateFile: f.stateFile,
			HardStopAfter: f.hardStopAfter, Grace: f.grace,
		},
		Balance:       haproxycfg.Balance(f.balance),
		NodeAgentPort: uint16(f.nodeAgentPort),
		AgentInterval: f.agentInterval, CheckInterval: f.checkInterval,
	}
	healths := map[string]edge.NodeHealth{
		"agent": edge.NodeAgent, "agent+kube-proxy": edge.NodeAgentAndKubeProxy, "kube-proxy": edge.KubeProxyOnly,
	}
	var ok bool
	if e.NodeHealth, ok = healths[f.nodeHealth]; !ok {
		return e, fmt.Errorf("-node-health: %q: want agent, agent+kube-proxy or kube-proxy", f.nodeHealth)
	}
	if f.log != "" {
		e.Global.Logs = []haproxycfg.Log{{Address: f.log}}
	}
	for _, addr := range f.http {
		e.HTTP = append(e.HTTP, haproxycfg.Bind{Address: addr})
	}
	for _, addr := range f.https {
		e.HTTPS = append(e.HTTPS, haproxycfg.Bind{Address: addr, TLS: &haproxycfg.TLS{Certificates: f.certs}})
	}
	for _, addr := range f.exporter {
		e.Admin = append(e.Admin, haproxycfg.Bind{Address: addr})
	}
	if f.redirect {
		_, port, ok := strings.Cut(f.https[0][strings.LastIndexByte(f.https[0], ']')+1:], ":")
		n, err := strconv.ParseUint(cmp.Or(port, "443"), 10, 16)
		if !ok || err != nil {
			return e, fmt.Errorf("-https: %q: want host:port", f.https[0])
		}
		e.RedirectHTTPS = &haproxycfg.HTTPSRedirect{Port: uint16(n)}
	}
	return e, checkEdge(e)
}

// checkEdge finds what no declaration could make good.
func checkEdge(e edge.Edge) error {
	config, problems := e.Config(routes.Table{}, nil)
	if len(problems) > 0 {
		return problems[0]
	}
	// No route, no backend that has the settings of all of them.
	config.Backends = append(config.Backends, haproxycfg.Backend{
		Name: "every-service", Balance: e.Balance, AgentInterval: e.AgentInterval, Health: haproxycfg.Health{Interval: e.CheckInterval},
	})
	return config.Validate()
}
