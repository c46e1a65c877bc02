// Package edgeflags defines the flags that describe the configuration of the edge: the routes, the
// clusters, and how to make HAProxy's configuration from them. The terminator and drill use these
// flags.
package edgeflags

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
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Settings contain the values of the flags. Call Register, parse the flags, and call Resolve. After
// that, Controller returns a Controller with these values.
type Settings struct {
	Routes  cli.Strings
	Regions string // the file of regions; "" for none
	Haproxy string // path of the binary; "" for none

	MinInterval, MaxInterval, StartTimeout time.Duration
	LocalEndpoints                         bool
	// DefaultHTTP is the value of -http if the user sets neither -http nor -https. "" means that
	// the user must set one of them.
	DefaultHTTP string

	Builder kube.Builder
	Zone    routes.ZoneOptions // without Origin there is no dns.zone
	CDN     routes.CDNOptions  // without Origin there is no cdn.json
	// DNSEndpoints without a Name means no dns-endpoints.yaml.
	DNSEndpoints routes.DNSEndpointOptions
	// Fragment contains the paths of the foreign files, which somebody else writes and HAProxy
	// loads first; see [deploy.Foreign]. Empty means no foreign files.
	Fragment cli.Strings

	// Resolve sets these fields from the flags.
	Clusters  []kubeconn.Cluster
	MaxChange float64 // share of the hosts, paths, backends and servers, from 0 to 1

	text texts
}

// texts are the flags that Resolve parses.
type texts struct {
	clusters, http, https, exporter, dnsAddrs cli.Strings
	excludeLabels, excludeTaints              cli.Strings
	maxChange, fileShare                      string
	identity, nodeHealth, certs, log          string
	dnsEndpoints, prefix                      string
	nodeAgentPort                             int
	redirect                                  bool
}

// Register adds the flags to fs.
func (s *Settings) Register(fs *flag.FlagSet) {
	f := &s.text
	fs.Var(&s.Routes, "routes", cli.Meaning("routes"))
	fs.StringVar(&s.Regions, "regions", "", "`file` with the regions of clients that declarations name in prefer; changes of the file come into force without a restart")
	fs.Var(&f.clusters, "cluster", cli.Meaning("cluster", "may be given several times"))
	fs.StringVar(&f.maxChange, "max-change", "30%", "largest `share` of the hosts, of the paths, of the backends and of the servers in force that one change may remove or alter")
	fs.StringVar(&s.Haproxy, "haproxy", "", cli.Meaning("haproxy", "it must accept each configuration, and its version decides which features a configuration uses. If empty, nothing is checked, and the configuration is for HAProxy 2.6 and later"))
	fs.DurationVar(&s.MinInterval, "min-interval", time.Second, "shortest time between two changes of the configuration")
	fs.DurationVar(&s.MaxInterval, "max-interval", 30*time.Second, "longest time between two reloads while reloads follow one another: the time grows from -min-interval to this one; 0 means that it does not grow")
	fs.BoolVar(&s.LocalEndpoints, "local-endpoints", false, "read EndpointSlices too, so that services with externalTrafficPolicy Local get nodes that have a ready pod")
	fs.DurationVar(&s.StartTimeout, "start-timeout", 10*time.Second, "time to wait for all clusters at the start; a cluster that has not answered then keeps the servers that report.json has of it")

	selector := &s.Builder.Selector
	limits := &s.Builder.FileLimits
	fs.StringVar(&f.fileShare, "file-share", "25%", "`share` of the edge that each file of declarations may have if there are several: of 400,000 routes, 250,000 servers, 20,000 checks a second, 4,000 agent ports and 1,048,576 sources. A single file may have all of it")
	fs.IntVar(&limits.Routes, "max-routes", 0, "largest `number` of routes of one file, together with their preferences; 0 means the share. Routes in force stay, whatever the limit is. This holds for the next four flags too")
	fs.IntVar(&limits.Servers, "max-servers", 0, "largest `number` of servers, which are routes times nodes, of one file; 0 means the share")
	fs.IntVar(&limits.Checks, "max-checks", 0, "largest `number` of checks a second that one file may cause in one HAProxy; 0 means the share")
	fs.IntVar(&limits.AgentPorts, "max-agent-ports", 0, "largest `number` of services with an agent port of their own in one file; 0 means the share")
	fs.IntVar(&limits.Sources, "max-sources", 0, "largest `number` of client addresses that the limits of one file may remember: 4096 for each route that limits sources, about 1 MB; 0 means the share")
	fs.IntVar(&selector.Size, "nodes-per-service", nodeselect.DefaultSize, "`number` of nodes that each service gets")
	fs.BoolVar(&selector.Spread, "zones", false, "select the nodes of a service evenly from all zones")
	fs.BoolVar(&selector.AllLocal, "all-local", false, "with -local-endpoints, give a service with externalTrafficPolicy Local all nodes that have a ready pod, even if they are more than -nodes-per-service")
	fs.BoolVar(&selector.LocalWeights, "local-weights", false, "with -local-endpoints, give the nodes of a service with externalTrafficPolicy Local weights in proportion to their ready pods")
	fs.BoolVar(&selector.Sticky, "sticky", false, "keep the nodes that report.json names while they are eligible")
	fs.Var(&f.excludeLabels, "exclude-label", "label of nodes that get no traffic, as `KEY` or KEY=VALUE, such as kubernetes.io/os=windows; a KEY alone does not match the value false; may be given several times")
	fs.Var(&f.excludeTaints, "exclude-taint", "taint of nodes that get no traffic, as `KEY` or KEY=VALUE; may be given several times")
	fs.Var((*cli.Networks)(&selector.Address.Allow), "allow-nodes", "`network` of nodes with special addresses, such as 240.0.0.0/4; may be given several times. Without it, nodes with link-local, reserved and cloud metadata addresses are not used, and the report warns of loopback addresses")
	fs.StringVar(&f.identity, "identity", "address", "`property` that identifies a node: address, name or provider-id")
	fs.StringVar(&selector.Annotations.Prefix, "annotation-prefix", nodeselect.DefaultPrefix, cli.Meaning("annotation-prefix"))

	fs.Var(&f.http, "http", cli.Meaning("http"))
	fs.Var(&f.https, "https", "`address` to serve HTTPS on; may be given several times")
	fs.StringVar(&f.certs, "certificates", "", "PEM `file or directory` with certificates and keys for -https; a faulty file does not affect the others, and its last good certificate stays in use")
	fs.BoolVar(&f.redirect, "redirect-https", false, "answer on -http with a redirect to -https")
	fs.Var((*cli.Networks)(&s.Builder.Edge.TrustedProxies), "trusted-proxies", "`network` of proxies in front of HAProxy whose X-Forwarded-For and X-Forwarded-Proto count, such as 10.0.0.0/8; may be given several times. Without it, these headers of a request never count")
	fs.Var(&f.exporter, "exporter", cli.Meaning("exporter"))

	e := &s.Builder.Edge
	fs.StringVar((*string)(&e.Balance), "balance", string(haproxycfg.RoundRobin), "`algorithm` by which HAProxy selects a server: roundrobin, leastconn, random, source or uri; the last three suit up to some thousand servers, see package haproxycfg")
	fs.StringVar(&f.nodeHealth, "node-health", "agent", "what decides whether a node is healthy: `checks` agent, agent+kube-proxy or kube-proxy")
	fs.IntVar(&f.nodeAgentPort, "node-agent-port", edge.DefaultNodeAgentPort, cli.Meaning("node-agent-port"))
	fs.IntVar(&e.SpareNodes, "spare-nodes", 0, "`number` of spare servers for each cluster. Until the next reload, as many nodes that no service has used can come into use without a reload. 0 means 2 with HAProxy 3.0 and later, and none with earlier versions or without -haproxy; -1 means none")
	fs.DurationVar(&e.AgentInterval, "agent-inter", 2*time.Second, "time between two agent checks; must be shorter than -zero-weight-delay of the agents")
	fs.DurationVar(&e.CheckInterval, "check-inter", 2*time.Second, "time between two health checks")

	fs.BoolVar(&e.Closable, "closable", false, "let terminator shift -close PERCENT close connections of clients after some responses, so that clients connect again")
	fs.BoolVar(&e.Global.Observe, "observe", false, "serve what HAProxy would refuse, count it in /metrics and name it in HAProxy's log; see the section about -observe in the page. Counting needs -reload or -stats-socket")
	fs.IntVar(&e.Global.BufferSize, "buffer-size", 0, "`bytes` of a buffer of HAProxy; the head of a request may have about 1,024 bytes less. 0 means HAProxy's default, 16384. A connection needs up to two buffers")
	fs.IntVar(&e.Global.MaxHeaders, "max-headers", 0, "largest `number` of headers of a request or response; 0 means HAProxy's default, 101")
	fs.Var(&s.Fragment, "fragment", "`file or directory` of somebody else that HAProxy loads with -f before the haproxy.cfg of this program, in the order of HAProxy's command line; may be given several times. haproxy.cfg is then a fragment without a section global; see FRAGMENT.md. Needs -haproxy")
	fs.StringVar(&s.text.prefix, "fragment-prefix", "headgate-", "with -fragment, `prefix` of the names of all frontends and backends")
	fs.StringVar(&e.Global.StatsSocket, "stats-socket", "", "`path` of HAProxy's administration socket")
	fs.StringVar(&e.Global.StateFile, "state-file", "", "`path` of the file that keeps the state of servers over a reload; needs -reload")
	fs.StringVar(&e.Global.User, "user", "", "`name` of the user that HAProxy runs as")
	fs.StringVar(&e.Global.Group, "group", "", "`name` of the group that HAProxy runs as")
	fs.StringVar(&f.log, "log", "", "`address` that HAProxy logs to: stdout, an IP address with or without a port, or the path of a syslog socket")
	fs.IntVar(&e.Global.Descriptors, "descriptors", 0, "`number` of file descriptors that HAProxy may have; it limits the number of connections")
	fs.DurationVar(&e.Global.HardStopAfter, "hard-stop-after", 24*time.Hour, "time that a replaced HAProxy process may wait for its connections; 0 means for ever")
	fs.DurationVar(&e.Global.Grace, "grace", 0, "time for which a stopping HAProxy process still accepts connections")

	fs.IntVar(&s.Builder.Terminators, "terminators", 1, "`number` of machines with this configuration; only the budget of checks in report.json depends on it")
	fs.StringVar(&s.Zone.Origin, "dns-origin", "", "`zone` to write dns.zone for, such as example.com")
	fs.Var(&f.dnsAddrs, "dns-address", "`address` of a terminator for dns.zone; may be given several times")
	fs.StringVar(&s.Zone.Target, "dns-target", "", "`name` of the terminators that the records of dns.zone point to, instead of addresses")
	fs.StringVar(&f.dnsEndpoints, "dns-endpoints", "", "`NAMESPACE/NAME` of objects for external-dns, to write dns-endpoints.yaml with the records of dns.zone; needs -dns-origin")
	fs.IntVar(&s.DNSEndpoints.Objects, "dns-objects", 1, "`number` of objects in dns-endpoints.yaml; an API server refuses an object with more than about 6,000 hosts")
	fs.StringVar(&s.DNSEndpoints.SetIdentifier, "dns-set-id", "", "`name` of this edge among the edges that share the hosts; makes the records of dns-endpoints.yaml weighted records of Route 53")
	fs.IntVar(&s.DNSEndpoints.Weight, "dns-weight", 0, "`weight` of the records of this edge, 0 to 255, relative to the other edges; 0 means no answers; needs -dns-set-id")
	fs.StringVar(&s.CDN.Origin, "cdn-origin", "", "`name` of the terminators to write cdn.json with")
}

// Resolve checks the values of all flags, and parses values that are strings, such as addresses.
func (s *Settings) Resolve() error {
	f, b := &s.text, &s.Builder
	if len(f.http)+len(f.https) == 0 && s.DefaultHTTP != "" {
		f.http = cli.Strings{s.DefaultHTTP}
	}
	switch {
	case len(s.Routes) == 0 || len(f.clusters) == 0:
		return errors.New("-routes and -cluster are needed")
	case len(f.http)+len(f.https) == 0:
		return errors.New("-http or -https is needed")
	case len(f.https) > 0 && f.certs == "":
		return errors.New("-https needs -certificates")
	case f.redirect && len(f.https) == 0:
		return errors.New("-redirect-https needs -https")
	case len(s.Fragment) > 0 && s.Haproxy == "":
		return errors.New("-fragment needs -haproxy, which checks all files together")
	case len(s.Fragment) > 0 && f.prefix == "":
		return errors.New("-fragment-prefix must not be empty")
	case b.Selector.Size < 1:
		return errors.New("-nodes-per-service must be 1 or more")
	case b.Selector.LocalWeights && !s.LocalEndpoints:
		return errors.New("-local-weights needs -local-endpoints")
	case s.MaxInterval < 0 || s.MinInterval < 0 || s.StartTimeout < 0:
		return errors.New("-min-interval, -max-interval and -start-timeout must not be negative")
	case b.Terminators < 1:
		return errors.New("-terminators must be 1 or more")
	case s.Builder.Edge.SpareNodes < -1 || s.Builder.Edge.SpareNodes > 1000:
		return errors.New("-spare-nodes: want a number of servers, 0 to 1000, or -1 for none")
	case f.nodeAgentPort < 1 || f.nodeAgentPort > 65535:
		return errors.New("-node-agent-port: want a port, 1 to 65535")
	}
	b.Selector.Address.Observe = b.Edge.Global.Observe
	var err error
	if s.MaxChange, err = cli.ParseShare(f.maxChange); err != nil {
		return fmt.Errorf("-max-change: %q: %w", f.maxChange, err)
	}
	if err := s.resolveLimits(); err != nil {
		return err
	}
	if s.Clusters, err = kubeconn.ParseClusters(f.clusters); err != nil {
		return fmt.Errorf("-cluster: %w", err)
	}
	if err := s.resolveFiles(); err != nil {
		return err
	}
	if faults := validation.IsDNS1123Subdomain(b.Selector.Annotations.Prefix); faults != nil {
		return fmt.Errorf("-annotation-prefix: %q: %s", b.Selector.Annotations.Prefix, faults[0])
	}
	labels, err := nodeselect.ParseMatches(f.excludeLabels)
	if err != nil {
		return fmt.Errorf("-exclude-label: %w", err)
	}
	taints, err := nodeselect.ParseMatches(f.excludeTaints)
	if err != nil {
		return fmt.Errorf("-exclude-taint: %w", err)
	}
	b.Selector.Predicates = append(nodeselect.DefaultPredicates(), nodeselect.ExcludeLabels(labels...), nodeselect.ExcludeTaints(taints...))
	var ok bool
	if b.Selector.Identity, ok = identities[f.identity]; !ok {
		return fmt.Errorf("-identity: %q: want address, name or provider-id", f.identity)
	}
	return s.resolveEdge()
}

// resolveLimits sets FileLimits, the limits of each file of routes, and EdgeLimits, the limits of
// all files together.
func (s *Settings) resolveLimits() error {
	l, b := &s.Builder.FileLimits, &s.Builder
	if l.Routes < 0 || l.Servers < 0 || l.Checks < 0 || l.AgentPorts < 0 || l.Sources < 0 {
		return errors.New("-max-routes, -max-servers, -max-checks, -max-agent-ports and -max-sources must not be negative")
	}
	share, err := cli.ParseShare(s.text.fileShare)
	if err != nil {
		return fmt.Errorf("-file-share: %q: %w", s.text.fileShare, err)
	}
	// A flag such as -max-routes limits each file. All files together have a default limit. If the
	// value of the flag is larger than this default, it is also the limit of all files together.
	edgeHas := kube.DefaultEdgeLimits
	b.EdgeLimits = kube.Limits{
		Routes: max(edgeHas.Routes, l.Routes), Servers: max(edgeHas.Servers, l.Servers),
		Checks: max(edgeHas.Checks, l.Checks), AgentPorts: max(edgeHas.AgentPorts, l.AgentPorts),
		Sources: max(edgeHas.Sources, l.Sources),
	}
	if len(s.Routes) > 1 {
		*l = l.Or(edgeHas.Share(share))
	}
	return nil
}

var identities = map[string]nodeselect.Identity{
	"address": nodeselect.ByAddress, "name": nodeselect.ByName, "provider-id": nodeselect.ByProviderID,
}

var nodeHealths = map[string]edge.NodeHealth{
	"agent": edge.NodeAgent, "agent+kube-proxy": edge.NodeAgentAndKubeProxy, "kube-proxy": edge.KubeProxyOnly,
}

// resolveFiles checks the flags that determine the content of three files: the DNS zone,
// dns-endpoints.yaml and cdn.json.
func (s *Settings) resolveFiles() error {
	for _, text := range s.text.dnsAddrs {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("-dns-address: %w", err)
		}
		s.Zone.Addrs = append(s.Zone.Addrs, addr)
	}
	if s.Zone.Origin != "" {
		if _, err := routes.AppendZone(nil, routes.Table{}, s.Zone); err != nil {
			return fmt.Errorf("-dns-origin, -dns-address and -dns-target: %w", err)
		}
	}
	if err := s.resolveDNSEndpoints(); err != nil {
		return err
	}
	if s.CDN.Origin != "" {
		if _, err := routes.AppendCDN(nil, routes.Table{}, s.CDN); err != nil {
			return fmt.Errorf("-cdn-origin: %w", err)
		}
	}
	return nil
}

// resolveDNSEndpoints checks the flags that determine the content of the file dns-endpoints.yaml.
func (s *Settings) resolveDNSEndpoints() error {
	o := &s.DNSEndpoints
	if s.text.dnsEndpoints == "" {
		if o.SetIdentifier != "" || o.Weight != 0 {
			return errors.New("-dns-set-id and -dns-weight need -dns-endpoints")
		}
		return nil
	}
	if s.Zone.Origin == "" {
		return errors.New("-dns-endpoints needs -dns-origin")
	}
	var ok bool
	if o.Namespace, o.Name, ok = strings.Cut(s.text.dnsEndpoints, "/"); !ok {
		return fmt.Errorf("-dns-endpoints: %q: want NAMESPACE/NAME", s.text.dnsEndpoints)
	}
	if _, err := routes.AppendDNSEndpoints(nil, routes.Table{}, s.Zone, *o); err != nil {
		return fmt.Errorf("-dns-endpoints, -dns-objects, -dns-set-id and -dns-weight: %w", err)
	}
	return nil
}

func (s *Settings) resolveEdge() error {
	f, e := &s.text, &s.Builder.Edge
	var ok bool
	if e.NodeHealth, ok = nodeHealths[f.nodeHealth]; !ok {
		return fmt.Errorf("-node-health: %q: want agent, agent+kube-proxy or kube-proxy", f.nodeHealth)
	}
	e.NodeAgentPort = uint16(f.nodeAgentPort)
	if len(s.Fragment) > 0 {
		e.Fragment = f.prefix
	}
	if f.log != "" {
		e.Global.Logs = []haproxycfg.Log{{Address: f.log}}
	}
	for _, addr := range f.http {
		e.HTTP = append(e.HTTP, haproxycfg.Bind{Address: addr, IPv6: cli.AlsoIPv6(addr)})
	}
	for _, addr := range f.https {
		b := haproxycfg.Bind{Address: addr, IPv6: cli.AlsoIPv6(addr)}
		b.TLS = &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true}
		e.HTTPS = append(e.HTTPS, b)
	}
	for _, addr := range f.exporter {
		e.Admin = append(e.Admin, haproxycfg.Bind{Address: addr, IPv6: cli.AlsoIPv6(addr)})
	}
	if f.redirect {
		_, port, ok := strings.Cut(f.https[0][strings.LastIndexByte(f.https[0], ']')+1:], ":")
		n, err := strconv.ParseUint(cmp.Or(port, "443"), 10, 16)
		if !ok || err != nil {
			return fmt.Errorf("-https: %q: want host:port", f.https[0])
		}
		e.RedirectHTTPS = &haproxycfg.HTTPSRedirect{Port: uint16(n)}
	}
	return e.Validate()
}
