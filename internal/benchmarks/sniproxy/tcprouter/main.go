// Command tcprouter is a router with github.com/inetaf/tcpproxy, written as its manual shows: one
// listener, and routes by server name. It uses AddSNIRouteFunc with a map of names, because
// AddSNIRoute would parse the hello again for each known host.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"github.com/inetaf/tcpproxy"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8443", "address to listen on")
	file := flag.String("hosts", "", `JSON array of {"host", "endpoint"}`)
	flag.Parse()
	data, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	var hosts []struct{ Host, Endpoint string }
	if err := json.Unmarshal(data, &hosts); err != nil {
		log.Fatal(err)
	}
	targets := make(map[string]tcpproxy.Target) // by address, because many hosts share a target
	routes := make(map[string]tcpproxy.Target, len(hosts))
	for _, h := range hosts {
		if targets[h.Endpoint] == nil {
			targets[h.Endpoint] = &tcpproxy.DialProxy{Addr: h.Endpoint, DialTimeout: 5 * time.Second}
		}
		routes[h.Host] = targets[h.Endpoint]
	}
	var p tcpproxy.Proxy
	p.AddSNIRouteFunc(*listen, func(_ context.Context, name string) (tcpproxy.Target, bool) {
		t, ok := routes[name]
		return t, ok
	})
	log.Fatal(p.Run())
}
