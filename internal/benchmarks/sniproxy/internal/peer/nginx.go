package peer

import (
	"bytes"
	"fmt"
)

// Nginx is the stream module with ssl_preread. A module file that is not "" is loaded;
// builds with a static stream module need none.
//
// A worker under a master, as in production. proxy_timeout is its default, 10 minutes;
// tcp_nodelay is on by default.
func Nginx(path, module, version string) Router {
	return Router{Name: "nginx", Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf, hosts bytes.Buffer
		if module != "" {
			fmt.Fprintf(&conf, "load_module %s;\n", module)
		}
		if s.Root {
			// Otherwise the worker becomes nobody, who may not read this directory.
			conf.WriteString("user root;\n")
		}
		fmt.Fprintf(&conf, `daemon off;
worker_processes 1;
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
`, s.Dir, s.Descriptors, 2*s.Connections+64, max(2048, 2*len(s.Hosts)), s.Dir)
		for i, b := range s.Backends {
			fmt.Fprintf(&conf, "\tupstream b%d { server %s; }\n", i, b)
		}
		fmt.Fprintf(&conf, `	server {
		listen %s backlog=4096;
		ssl_preread on;
		preread_timeout 5s;
		proxy_connect_timeout 5s;
		proxy_timeout 10m;
		proxy_pass $upstream;
	}
}
`, s.Listen)
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
