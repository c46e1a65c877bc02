// Command traefik is a router with the packages of Traefik: its manager builds a TCP router with a
// rule HostSNI and TLS passthrough for each known host. The command accepts the connections itself.
//
// The command is a module of its own, because Traefik needs about a hundred modules. The directory ext
// replaces a module of Traefik that the module proxy does not have.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"
	ptypes "github.com/traefik/paerser/types"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/config/runtime"
	tcpmiddleware "github.com/traefik/traefik/v3/pkg/server/middleware/tcp"
	tcprouter "github.com/traefik/traefik/v3/pkg/server/router/tcp"
	tcpservice "github.com/traefik/traefik/v3/pkg/server/service/tcp"
	"github.com/traefik/traefik/v3/pkg/tcp"
	"github.com/traefik/traefik/v3/pkg/tls"
)

// entryPoint is the name of the listener in the configuration of Traefik.
const entryPoint = "tls"

type host struct{ Host, Endpoint string }

func main() {
	listen := flag.String("listen", "127.0.0.1:8443", "address to listen on")
	file := flag.String("hosts", "", `JSON array of {"host", "endpoint"}`)
	flag.Parse()
	zerolog.SetGlobalLevel(zerolog.ErrorLevel) // the default of Traefik
	data, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	var hosts []host
	if err := json.Unmarshal(data, &hosts); err != nil {
		log.Fatal(err)
	}
	router := newRouter(hosts)
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			log.Print(err)
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // the router ends it after the hello
		go router.ServeTCP(conn.(*net.TCPConn))
	}
}

// newRouter returns the router that Traefik builds from its configuration.
func newRouter(hosts []host) *tcprouter.Router {
	conf := &dynamic.TCPConfiguration{Routers: make(map[string]*dynamic.TCPRouter), Services: make(map[string]*dynamic.TCPService)}
	for _, h := range hosts {
		conf.Routers[h.Host+"@file"] = &dynamic.TCPRouter{
			EntryPoints: []string{entryPoint}, Service: h.Endpoint + "@file", Rule: "HostSNI(`" + h.Host + "`)",
			TLS: &dynamic.RouterTCPTLSConfig{Passthrough: true},
		}
		conf.Services[h.Endpoint+"@file"] = &dynamic.TCPService{LoadBalancer: &dynamic.TCPServersLoadBalancer{
			Servers: []dynamic.TCPServer{{Address: h.Endpoint}},
		}}
	}
	dialers := tcp.NewDialerManager(nil)
	dialers.Update(map[string]*dynamic.TCPServersTransport{"default@internal": {DialTimeout: ptypes.Duration(5 * time.Second)}})
	all := runtime.NewConfig(dynamic.Configuration{TCP: conf})
	manager := tcprouter.NewManager(all, tcpservice.NewManager(all, dialers), tcpmiddleware.NewBuilder(nil), nil, nil, tls.NewManager(nil), nil)
	return manager.BuildHandlers(context.Background(), []string{entryPoint})[entryPoint]
}
