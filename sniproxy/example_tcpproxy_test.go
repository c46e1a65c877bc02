package sniproxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// This router has the routes of a tcpproxy.Proxy: two hosts, and a target for all other hosts.
// COMING-FROM-TCPPROXY.md shows the lines that make and serve it.
func ExampleServer_tcpproxy() {
	foo, bar, rest := namedServer("foo"), namedServer("bar"), namedServer("others")
	defer foo.Close()
	defer bar.Close()
	defer rest.Close()
	routes := map[string]string{"foo.example": foo.Listener.Addr().String(), "bar.example": bar.Listener.Addr().String()}
	others := rest.Listener.Addr().String()
	networks := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} // the servers of this example are on loopback
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}

	srv := &sniproxy.Server{
		Lookup: hostlookup.Default(hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
			addr, ok := routes[host]
			if !ok {
				return hostlookup.Endpoint{}, hostlookup.ErrNotFound
			}
			return hostlookup.Endpoint{Host: host, Addr: addr}, nil
		}), hostlookup.Endpoint{Addr: others}),
		AllowEndpoints: networks,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l, peek.TLS) }()

	for _, host := range []string{"foo.example", "bar.example", "baz.example"} {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err != nil {
			fmt.Println(host, err)
			continue
		}
		fmt.Println(host, c.ConnectionState().PeerCertificates[0].Subject.CommonName)
		c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(srv.Shutdown(ctx), <-served)
	// Output:
	// foo.example foo
	// bar.example bar
	// baz.example others
	// <nil> sniproxy: server closed
}

// namedServer starts a TLS server with a certificate for the host in the argument "name".
func namedServer(name string) *httptest.Server {
	srv := httptest.NewUnstartedServer(nil)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{testcert.New(name).TLS}}
	srv.StartTLS()
	return srv
}
