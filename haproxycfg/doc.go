// Package haproxycfg makes HAProxy configurations: typed values in, the text of
// haproxy.cfg and of its maps out, checked by HAProxy itself, put in place in
// one step, and taken up without a gap.
//
// # Values and text
//
// A [Config] holds frontends, backends, servers and maps. [Config.Validate]
// names what is wrong with it, and [Config.Render] gives the files:
//
//	files, err := config.Render("/etc/haproxy")
//
// The same Config gives the same bytes, so an unchanged input is recognised by
// comparing files, and no reload is needed. The text is what HAProxy 2.4 to 3.x
// accept, except where a field names a later version.
//
// Every value ends up as one word in its place, or is an error: names are made
// of letters, digits and "-_.:" alone, everything else is quoted, and what has
// no quoted form (line ends, NUL) is rejected. There is no field for raw text,
// and there will be none: such fields are how one tenant's annotation becomes
// another tenant's configuration.
//
// A server has no name of its own. [Server.Name] derives it from address, port
// and agent port, since HAProxy's state file restores the address and port of
// every server that it knows by name.
//
// # Routes to configuration
//
// An [Edge] turns declarations (package routes) and the places of their services
// into a Config:
//
//	edge := haproxycfg.Edge{
//		HTTP:  []haproxycfg.Bind{{Address: ":80"}},
//		HTTPS: []haproxycfg.Bind{{Address: ":443", TLS: &haproxycfg.TLS{Certificates: "/etc/haproxy/certs"}}},
//	}
//	config, problems := edge.Config(table, upstreams)
//
// Requests are routed by three maps that HAProxy indexes as trees, so ten
// thousand hosts cost what ten do; see [Router] for the exact rules. What is
// declared but has no servers is answered 503, what is not declared 404. One
// bad entry is reported and left out, and never takes the others down.
//
// Nodes are checked once, in one backend for each cluster, and the servers of
// every service follow (track) their node: with s services on k of n nodes an
// edge makes n checks and not s*k. A node that drains, drains for all services
// within one agent interval; a service's own agent still sets its weight. In
// exchange nobody checks the node port itself, unless a route asks for a check.
//
// # Checking and applying
//
// A [Checker] runs "haproxy -c" on a temporary copy. A [Dir] writes the files
// atomically when they differ from what is there, keeps the last good ones, and
// reloads. A [Socket] speaks to a running HAProxy.
//
// # What it does not do
//
// It reads no configuration that it did not write. It does not watch anything,
// knows nothing of Kubernetes and fetches no certificates. It renders the parts
// of HAProxy that an edge in front of clusters needs, in HTTP mode, and no more.
package haproxycfg
