package peer

import (
	"bytes"
	"fmt"
)

// HAProxy is TCP mode with a map and splice.
//
// splice-auto lets HAProxy choose where to splice, as its manual recommends; the two
// other splice options force it for every transfer. maxpipes is low because HAProxy
// counts them, at two descriptors each, against what the process may open; the bulk
// phase uses a few. maxconn is what the benchmark needs, for HAProxy allocates by it.
func HAProxy(path, version string) Router {
	return Router{Name: "HAProxy", Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf, hosts bytes.Buffer
		fmt.Fprintf(&conf, `global
	nbthread 1
	maxconn %d
	maxpipes 64
defaults
	mode tcp
	option splice-auto
	backlog 4096
	timeout connect 5s
	timeout client 10m
	timeout server 10m
frontend tls
	bind %s
	tcp-request inspect-delay 5s
	tcp-request content accept if { req.ssl_hello_type 1 }
	tcp-request content reject
	use_backend %%[req.ssl_sni,lower,map(%s/hosts.map)]
`, s.Connections+64, s.Listen, s.Dir)
		for i, b := range s.Backends {
			fmt.Fprintf(&conf, "backend b%d\n\tserver s %s\n", i, b)
		}
		for i, h := range s.Hosts {
			fmt.Fprintf(&hosts, "%s b%d\n", h, i%len(s.Backends))
		}
		return Plan{
			Files: map[string][]byte{"haproxy.cfg": conf.Bytes(), "hosts.map": hosts.Bytes()},
			Args:  []string{path, "-db", "-q", "-f", s.Dir + "/haproxy.cfg"},
		}
	}}
}
