package sniproxy_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// BenchmarkConnection opens one connection after the other, receives 1 KiB, and ends both
// directions. The client and the backend run in the same process, and have the same cost for each
// router. The reported allocations include the allocations of the client and the backend.
func BenchmarkConnection(b *testing.B) {
	back := benchBackend(b)
	for _, router := range []struct {
		name  string
		start func(*testing.B, string) string
	}{
		{"none", func(_ *testing.B, backend string) string { return backend }},
		{"native", func(b *testing.B, backend string) string { return benchRouter(b, native, backend) }},
		{"portable", func(b *testing.B, backend string) string { return benchRouter(b, portable, backend) }},
		{"io.Copy", plainRouter},
	} {
		b.Run("router="+router.name, func(b *testing.B) {
			front := router.start(b, back)
			hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2", "http/1.1"}, Versions: []uint16{0x0304}, Pad: 517}.Wire()
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				c, err := net.Dial("tcp", front)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Write(hello); err != nil {
					b.Fatal(err)
				}
				n := 0
				for err == nil {
					var m int
					m, err = c.Read(buf)
					n += m
				}
				if n != benchAnswer || err != io.EOF {
					b.Fatal(n, err)
				}
				c.Close()
			}
		})
	}
}

const benchAnswer = 1024

// benchBackend answers the first bytes and closes.
func benchBackend(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				if _, err := c.Read(buf); err != nil {
					return
				}
				c.Write(buf[:benchAnswer])
				c.(*net.TCPConn).CloseWrite()
				c.Read(buf)
			})
		}
	})
	b.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func benchRouter(b *testing.B, e engine, backend string) string {
	cache := &hostlookup.Cache{TTL: hostlookup.Forever}
	if err := cache.Set("a.example", hostlookup.Endpoint{Host: "a.example", Addr: backend}); err != nil {
		b.Fatal(err)
	}
	s := &sniproxy.Server{Lookup: cache, AllowEndpoints: loopback}
	if e == portable {
		sniproxy.SetPortable(s)
	}
	b.Cleanup(func() { cache.Close() })
	return serveBench(b, s, peek.TLS)
}

// serveBench runs a Server until the benchmark ends, and returns its address.
func serveBench(b *testing.B, s *sniproxy.Server, protocols peek.Protocol) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, protocols) }()
	b.Cleanup(func() {
		s.Close()
		<-served
	})
	return l.Addr().String()
}

// plainRouter is a simple router for comparison. It uses package peek, a map, net.Dialer, and
// io.Copy in both directions.
func plainRouter(b *testing.B, backend string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	routes := map[string]string{"a.example": backend}
	route := func(client net.Conn) error {
		defer client.Close()
		client.SetReadDeadline(time.Now().Add(10 * time.Second))
		var p peek.Parser
		buf := make([]byte, 0, 4096)
		for {
			n, err := client.Read(buf[len(buf):cap(buf)])
			if buf = buf[:len(buf)+n]; err != nil {
				return err
			}
			seen, err := p.Parse(buf)
			if _, more := err.(peek.NeedMore); more && len(buf) < cap(buf) {
				continue
			}
			if err != nil {
				return err
			}
			client.SetReadDeadline(time.Time{})
			back, err := net.DialTimeout("tcp", routes[seen.Name], 10*time.Second)
			if err != nil {
				return err
			}
			defer back.Close()
			if _, err := back.Write(buf); err != nil {
				return err
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				io.Copy(back, client)
				back.(*net.TCPConn).CloseWrite()
			})
			io.Copy(client, back)
			client.(*net.TCPConn).CloseWrite()
			wg.Wait()
			return nil
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = route(c) })
		}
	})
	b.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// BenchmarkRefusal opens connections that get an alert or a page.
func BenchmarkRefusal(b *testing.B) {
	s := &sniproxy.Server{Lookup: new(hostlookup.Hosts), Finished: func(sniproxy.Stats) {}}
	front := serveBench(b, s, 0)
	for name, sent := range map[string][]byte{
		"alert": hellotest.Hello{Name: "none.example"}.Wire(),
		"page":  []byte("GET / HTTP/1.1\r\nHost: none.example\r\n\r\n"),
	} {
		b.Run("answer="+name, func(b *testing.B) {
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				c, err := net.Dial("tcp", front)
				if err != nil {
					b.Fatal(err)
				}
				c.Write(sent)
				for err == nil {
					_, err = c.Read(buf)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkSnapshot reads the Stats of many open connections, as a status page does.
func BenchmarkSnapshot(b *testing.B) {
	const conns = 1000
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { back.Close() })
	s := &sniproxy.Server{
		Lookup:         hosts{"a.example": back.Addr().String()},
		AllowEndpoints: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	front := serveBench(b, s, 0)
	for range conns {
		c, err := net.Dial("tcp", front)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		if _, err := c.Write(hellotest.Hello{Name: "a.example"}.Wire()); err != nil {
			b.Fatal(err)
		}
		held, err := back.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { held.Close() })
	}
	b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for range s.Connections() {
				n++
			}
			if n != conns {
				b.Fatal(n)
			}
		}
	})
}
