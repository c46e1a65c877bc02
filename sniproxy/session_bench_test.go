package sniproxy

import (
	"testing"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/relay"
)

// BenchmarkSession accepts a connection, reads its host and ends it, without sockets. The endpoint
// of the host is in a cache.
func BenchmarkSession(b *testing.B) {
	cache := &hostlookup.Cache{TTL: hostlookup.Forever}
	defer cache.Close()
	if err := cache.Set("a.example", hostlookup.Endpoint{Host: "a.example", Addr: "10.0.0.7:443"}); err != nil {
		b.Fatal(err)
	}
	s := &Server{Lookup: cache}
	if err := s.init(); err != nil {
		b.Fatal(err)
	}
	on := &listener{srv: s, port: 443}
	hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2", "http/1.1"}}.Wire()
	b.ReportAllocs()
	for b.Loop() {
		n := s.accept(on, stillConn{})
		if step := n.Hello(hello, nil); step.Action != relay.Connect {
			b.Fatal(step)
		}
		n.Done(relay.Result{Phase: relay.PhaseRelay})
	}
}
