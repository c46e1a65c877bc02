package sniproxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// This router serves HTTP and HTTPS on one port. Its hosts are in a cache in front of a source.
func ExampleServer() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "shop serves %s", r.Host)
	}))
	defer app.Close()
	cache := &hostlookup.Cache{Source: hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
		if host != "shop.example" {
			return hostlookup.Endpoint{}, hostlookup.ErrNotFound
		}
		return hostlookup.Endpoint{App: "shop", Host: host, Addr: app.Listener.Addr().String()}, nil
	})}
	defer cache.Close()

	finished := make(chan sniproxy.Stats, 3)
	srv := &sniproxy.Server{
		Lookup:         cache,
		AllowEndpoints: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, // the application of this example is on loopback
		Finished:       func(s sniproxy.Stats) { finished <- s },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l, 0) }()

	for _, host := range []string{"shop.example", "none.example"} {
		status, body := get(l.Addr().String(), host)
		fmt.Println(status, body)
	}
	c := dialOrPanic(l.Addr().String())
	fmt.Println(tls.Client(c, &tls.Config{ServerName: "none.example"}).Handshake())
	c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(srv.Shutdown(ctx), <-served)
	for range 3 {
		s := <-finished
		if s.Protocol == peek.TLS {
			fmt.Println(s.Protocol, s.Name, s.Outcome, s.Answer)
		}
	}
	// Output:
	// 200 shop serves shop.example
	// 404 There is no application at this address.
	// remote error: tls: unrecognized name
	// <nil> sniproxy: server closed
	// tls none.example not_found 112
}

// get makes a request over a new connection, and returns the status and the text of the page.
func get(addr, host string) (status int, body string) {
	c := dialOrPanic(addr)
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	body = string(b)
	if _, after, ok := strings.Cut(body, "<p>"); ok {
		body, _, _ = strings.Cut(after, "</p>")
	}
	return resp.StatusCode, body
}

func dialOrPanic(addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	return c
}

// Stats contain the data for an access log. RawName may contain any bytes, so quote it.
func ExampleStats() {
	line := func(s sniproxy.Stats) string {
		return fmt.Sprintf("%s %s %s %q%q -> %v in %v: %d bytes to upstream, %d to client: %v",
			s.Client, s.Protocol, s.Outcome, s.Name, s.RawName, s.Upstream, s.Total, s.ToUpstream, s.ToClient, s.Err)
	}
	fmt.Println(line(sniproxy.Stats{
		Client: netip.MustParseAddrPort("192.0.2.7:5555"), Protocol: peek.TLS, Outcome: sniproxy.Relayed,
		Name: "shop.example", Upstream: netip.MustParseAddrPort("10.0.0.24:443"),
		Total: 3 * time.Second, ToUpstream: 1800, ToClient: 52000,
	}))
	fmt.Println(line(sniproxy.Stats{
		Client: netip.MustParseAddrPort("192.0.2.7:5556"), Protocol: peek.HTTP1, Outcome: sniproxy.Rejected,
		RawName: "a\x00b", Total: time.Millisecond, ToClient: 700, Err: peek.ErrControlCharacter,
	}))
	// Output:
	// 192.0.2.7:5555 tls relayed "shop.example""" -> 10.0.0.24:443 in 3s: 1800 bytes to upstream, 52000 to client: <nil>
	// 192.0.2.7:5556 http/1 rejected """a\x00b" -> invalid AddrPort in 1ms: 0 bytes to upstream, 700 to client: peek: invalid host name: control character
}

// A status page shows the open connections.
func ExampleServer_Connections() {
	srv := &sniproxy.Server{Lookup: new(hostlookup.Hosts)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l, peek.TLS) }()
	c := dialOrPanic(l.Addr().String())
	defer c.Close()
	for srv.Load().Peeking == 0 {
		runtime.Gosched()
	}
	for s := range srv.Connections() {
		fmt.Println(s.ID, s.Phase, s.Outcome)
	}
	srv.Close()
	<-served
	// Output:
	// 1 peek open
}
