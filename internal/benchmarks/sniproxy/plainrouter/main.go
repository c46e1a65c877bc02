// Command plainrouter shows the cost of a router in plain Go: it reads the hello, looks up the
// name, dials with net.Dialer, and copies with io.Copy. It has no limits, no idle timeout and no
// log, so do not use it in production.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/headgate/headgate/sniproxy/peek"
)

var dialer = net.Dialer{Timeout: 5 * time.Second}

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
	routes := make(map[string]string, len(hosts))
	for _, h := range hosts {
		routes[h.Host] = h.Endpoint
	}
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
		go route(conn.(*net.TCPConn), routes)
	}
}

func route(client *net.TCPConn, routes map[string]string) {
	defer client.Close()
	_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
	hello, name, err := readHello(client)
	if err != nil || routes[name] == "" {
		return
	}
	_ = client.SetReadDeadline(time.Time{})
	conn, err := dialer.Dial("tcp", routes[name])
	if err != nil {
		log.Print(err)
		return
	}
	defer conn.Close()
	backend := conn.(*net.TCPConn)
	if _, err := backend.Write(hello); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(backend, client)
		_ = backend.CloseWrite()
	}()
	_, _ = io.Copy(client, backend)
	_ = client.CloseWrite()
	<-done
}

func readHello(r io.Reader) (hello []byte, name string, err error) {
	var p peek.Parser
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return nil, "", err
		}
		buf = buf[:len(buf)+n]
		seen, err := p.Parse(buf)
		if _, more := err.(peek.NeedMore); !more {
			return buf, seen.Name, err
		}
	}
}
