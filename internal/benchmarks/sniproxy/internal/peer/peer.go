// Package peer contains the configurations and the processes of the compared routers.
//
// All routers get the same settings:
//
//   - one listener at 127.0.0.1 with a backlog of 4,096, and one worker for each processor;
//   - the same names and backends;
//   - timeouts of 5 s for the hello, 5 s for the connect and 10 minutes for an idle connection;
//   - no access log, no health checks and no PROXY protocol.
//
// A router that lacks one of these settings runs without it. All other settings have their
// defaults, except where a comment gives a reason.
package peer

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// Role says why a router is in the table of results.
type Role string

const (
	// A Peer is a router with which the benchmark compares snirouter.
	Peer Role = "peer"
	// A Baseline is a router that helps to explain the figures. It is not made for use in
	// production.
	Baseline Role = "baseline"
	// Ours is snirouter. The tables compare it with the best peer.
	Ours Role = "ours"
)

// Router is one of the compared routers.
type Router struct {
	Name    string
	Role    Role
	Version string
	// OneThread reports whether the router cannot use a second processor.
	OneThread bool
	// MaxHosts is the largest number of hosts with which the router starts within seconds. 0 means
	// a million.
	MaxHosts int
	// Plan returns the Plan of the router for a Setup: how to run the router. The result depends
	// only on the Setup.
	Plan func(Setup) Plan
}

// Setup is the task of a router.
type Setup struct {
	Dir         string // directory of its files
	Listen      netip.AddrPort
	Hosts       []string
	Backends    []netip.AddrPort // host i belongs to backend i modulo the number of backends
	Cores       int              // number of processors; 0 means 1
	Connections int              // largest number of open connections
	Descriptors int              // largest number of descriptors of a process
	Root        bool             // the router starts as root and must stay root
}

// Backend returns the backend of host i.
func (s Setup) Backend(i int) netip.AddrPort { return s.Backends[i%len(s.Backends)] }

// Plan describes how to run a router.
type Plan struct {
	Files map[string][]byte // content by file name in Setup.Dir
	Args  []string
	// ForwardsTerm reports whether the first process of the router ends its other processes when it
	// gets SIGTERM. The benchmark must not end such a router with SIGKILL, because its other
	// processes would continue to run.
	ForwardsTerm bool
}

// Sites returns n different host names of the same length.
func Sites(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("site-%06d.apps.example", i)
	}
	return names
}

// Nginx is nginx's stream module with ssl_preread. module is the path of the stream module, or ""
// if it is built into nginx.
//
// nginx runs one worker for each processor under a master, as in production. The defaults of
// proxy_timeout (10 minutes) and tcp_nodelay (on) apply.
//
// By default, nginx closes both connections when one side ends its direction. If halfClose is true,
// nginx keeps the other direction open (proxy_half_close), as all other routers here do. This needs
// nginx 1.21.4 or later.
func Nginx(path, module, version string, halfClose bool) Router {
	name, afterFIN := "nginx", ""
	if halfClose {
		name, afterFIN = "nginx, half-close", "\n\t\tproxy_half_close on;"
	}
	return Router{Name: name, Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf, hosts bytes.Buffer
		if module != "" {
			fmt.Fprintf(&conf, "load_module %s;\n", module)
		}
		if s.Root {
			// Without this line, the worker of nginx runs as user nobody, which may not read this
			// directory.
			conf.WriteString("user root;\n")
		}
		fmt.Fprintf(&conf, `daemon off;
worker_processes %d;
pid %s/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile %d;
events {
	# One for each side, and some for listening and for the master's channel.
	worker_connections %d;
}
stream {
	access_log off;
	# The hash is made for as many names as there are: the default is 2,048.
	map_hash_max_size %d;
	map_hash_bucket_size 128;
	map $ssl_preread_server_name $upstream {
		include %s/hosts.map;
	}
`, max(s.Cores, 1), s.Dir, s.Descriptors, 2*s.Connections+64, max(2048, 2*len(s.Hosts)), s.Dir)
		for i, b := range s.Backends {
			fmt.Fprintf(&conf, "\tupstream b%d { server %s; }\n", i, b)
		}
		fmt.Fprintf(&conf, `	server {
		listen %s backlog=4096;
		ssl_preread on;
		preread_timeout 5s;
		proxy_connect_timeout 5s;
		proxy_timeout 10m;%s
		proxy_pass $upstream;
	}
}
`, s.Listen, afterFIN)
		for i, h := range s.Hosts {
			fmt.Fprintf(&hosts, "%s b%d;\n", h, i%len(s.Backends))
		}
		return Plan{
			Files:        map[string][]byte{"nginx.conf": conf.Bytes(), "hosts.map": hosts.Bytes()},
			Args:         []string{path, "-p", s.Dir, "-e", "stderr", "-c", s.Dir + "/nginx.conf"},
			ForwardsTerm: true,
		}
	}}
}

// NginxUDP is nginx's stream module as a proxy for UDP. It sends all clients to the first backend,
// because ssl_preread does not read QUIC. A session ends after 10 s without a datagram.
func NginxUDP(path, module, version string) Router {
	return Router{Name: "nginx, UDP without routing", Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf bytes.Buffer
		if module != "" {
			fmt.Fprintf(&conf, "load_module %s;\n", module)
		}
		if s.Root {
			conf.WriteString("user root;\n") // as in Nginx
		}
		fmt.Fprintf(&conf, `daemon off;
worker_processes 1;
pid %s/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile %d;
events {
	worker_connections %d;
}
stream {
	access_log off;
	server {
		listen %s udp;
		proxy_timeout 10s;
		proxy_pass %s;
	}
}
`, s.Dir, s.Descriptors, 2*s.Connections+64, s.Listen, s.Backend(0))
		return Plan{
			Files:        map[string][]byte{"nginx.conf": conf.Bytes()},
			Args:         []string{path, "-p", s.Dir, "-e", "stderr", "-c", s.Dir + "/nginx.conf"},
			ForwardsTerm: true,
		}
	}}
}

// HAProxy is HAProxy in TCP mode with a map and splice.
//
// splice-auto lets HAProxy choose when to splice, as its manual recommends. maxpipes is low,
// because HAProxy reserves two descriptors for each pipe, and the bulk phase uses few. maxconn is
// the number of connections in the benchmark, because HAProxy allocates memory in proportion to it.
func HAProxy(path, version string) Router {
	return Router{Name: "HAProxy", Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf, hosts bytes.Buffer
		fmt.Fprintf(&conf, `global
	nbthread %d
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
`, max(s.Cores, 1), s.Connections+64, s.Listen, s.Dir)
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

// SNIProxy is dlundquist's sniproxy, which tries a list of regular expressions in order. The
// benchmark anchors them and escapes their dots, because otherwise they match other names too.
// sniproxy has no settings for timeouts, and its backlog is fixed.
func SNIProxy(path, version string) Router {
	return Router{Name: "sniproxy", Role: Peer, Version: version, OneThread: true, Plan: func(s Setup) Plan {
		var conf bytes.Buffer
		if s.Root {
			// Without this line, sniproxy changes to user daemon. The change would clear
			// PR_SET_PDEATHSIG, so the kernel would no longer end sniproxy together with the
			// benchmark.
			conf.WriteString("user root\n")
		}
		fmt.Fprintf(&conf, `error_log {
	filename %s/error.log
	priority critical
}
listener %s {
	protocol tls
	table hosts
}
table hosts {
`, s.Dir, s.Listen)
		for i, h := range s.Hosts {
			fmt.Fprintf(&conf, "\t^%s$ %s\n", strings.ReplaceAll(h, ".", "[.]"), s.Backend(i))
		}
		conf.WriteString("}\n")
		return Plan{
			Files: map[string][]byte{"sniproxy.conf": conf.Bytes()},
			Args:  []string{path, "-f", "-c", s.Dir + "/sniproxy.conf"},
		}
	}}
}

// TCPProxy is the router tcpproxy. It finds the backend of a name in a map, and has 5 s to connect
// to the backend. It has no other timeouts.
func TCPProxy(path, version string) Router {
	return fromJSON("tcpproxy", Peer, version, path+" -listen {listen} -hosts {hosts}")
}

// Traefik is a router with the packages of Traefik. Whenever Traefik adds a host (Muxer.AddRoute), it
// sorts all hosts again. So it starts in about 2 s with 20,000 hosts, and in 46 s with 100,000
// (BenchmarkNewRouter in the directory traefik).
func Traefik(path, version string) Router {
	r := fromJSON("Traefik", Peer, version, path+" -listen {listen} -hosts {hosts}")
	r.MaxHosts = 20_000
	return r
}

// Plain is a router in Go with net.Dialer and io.Copy.
func Plain(path, version string) Router {
	return fromJSON("plain Go", Baseline, version, path+" -listen {listen} -hosts {hosts}")
}

// SNIRouter is headgate's router. The argument "command" is its command line, split at spaces.
// SNIRouter replaces {listen} in the command line by the address to listen on, and {hosts} by the
// path of the file of hosts.
func SNIRouter(command, version string) Router {
	return fromJSON("snirouter", Ours, version, command)
}

// fromJSON returns a router that reads a JSON file of hosts. With a million hosts, the file is just
// below the 64 MiB that snirouter reads.
func fromJSON(name string, role Role, version, command string) Router {
	return Router{Name: name, Role: role, Version: version, Plan: func(s Setup) Plan {
		var hosts bytes.Buffer
		for i, h := range s.Hosts {
			lead := ",\n"
			if i == 0 {
				lead = "["
			}
			fmt.Fprintf(&hosts, `%s{"host":"%s","endpoint":"%s"}`, lead, h, s.Backend(i))
		}
		hosts.WriteString("]\n")
		replace := strings.NewReplacer("{listen}", s.Listen.String(), "{hosts}", s.Dir+"/hosts.json")
		args := strings.Fields(command)
		for i := range args {
			args[i] = replace.Replace(args[i])
		}
		return Plan{Files: map[string][]byte{"hosts.json": hosts.Bytes()}, Args: args}
	}}
}
