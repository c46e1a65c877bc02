package peek_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

// A router reads into a small buffer until the Parser has a result. Then it sends all bytes on.
func ExampleParser() {
	conn := iotest.OneByteReader(strings.NewReader("GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n"))

	var p peek.Parser
	buf := make([]byte, 0, 16)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			fmt.Println(err)
			return
		}
		buf = buf[:len(buf)+n]
		seen, err := p.Parse(buf)
		if more, ok := err.(peek.NeedMore); ok {
			buf = slices.Grow(buf, int(more))
			continue
		}
		fmt.Println(seen.Protocol, seen.Name, len(buf), err)
		return
	}
	// Output:
	// http/1 shop.example 43 <nil>
}

// A router treats each kind of error differently.
func ExampleParser_errors() {
	hello := hellotest.Hello{}.Wire()
	for _, first := range []string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		string(hello),
		string(hello[:20]),
	} {
		var p peek.Parser
		seen, err := p.Parse([]byte(first))
		switch {
		case err == nil:
			fmt.Println("look up", seen.Name)
		case errors.Is(err, peek.ErrNeedMore):
			fmt.Println("read on until the time is up:", err)
		case errors.Is(err, peek.ErrNoName), errors.Is(err, peek.ErrIPLiteral):
			fmt.Println("default route:", err)
		default:
			fmt.Println("refuse:", err)
		}
	}
	// Output:
	// look up a.example
	// default route: peek: no host name
	// refuse: peek: malformed: Host: second one at byte 33
	// default route: peek: invalid host name: IP address at byte 0
	// refuse: peek: neither TLS nor HTTP: first bytes at byte 0
	// default route: peek: no host name
	// read on until the time is up: peek: need more bytes, at least 30
}

func ExampleParseClientHello() {
	wire, err := hellotest.Capture(&tls.Config{ServerName: "shop.example", NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		panic(err)
	}
	h, err := peek.ParseClientHello(wire)
	fmt.Println(h.ServerName, err)
	fmt.Println(h.OffersALPN("h2"), h.MaxVersion() == tls.VersionTLS13, h.PostQuantum())
	// Output:
	// shop.example <nil>
	// true true true
}

func ExampleParseHTTP1() {
	r, err := peek.ParseHTTP1([]byte("GET http://A.example/ HTTP/1.1\r\nHost: a.example:80\r\n\r\n"))
	fmt.Println(r.Method, r.Host, err)
	_, err = peek.ParseHTTP1([]byte("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n"))
	fmt.Println(err)
	// Output:
	// GET A.example <nil>
	// peek: malformed: Host: not that of the request target at byte 38
}

func ExampleParseHTTP2() {
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	// :method GET, :scheme http, :path /, and :authority as a literal
	headers := "\x00\x00\x0e\x01\x05\x00\x00\x00\x01" + "\x82\x86\x84\x41\x09a.example"
	r, err := peek.ParseHTTP2([]byte(preface + settings + headers))
	fmt.Println(r.Method, r.Host, err)
	_, err = peek.ParseHTTP2([]byte(preface + settings))
	fmt.Println(err)
	_, err = peek.ParseHTTP2([]byte(preface + settings + settings[:8] + "\x01"))
	fmt.Println(err)
	// Output:
	// GET a.example <nil>
	// peek: need more bytes, at least 9
	// peek: malformed: SETTINGS: bad stream or length at byte 33
}

func ExampleNormalizeHost() {
	for _, host := range []string{"Shop.Example.:8080", "bücher.example", "a_b.example", "[::1]:80", "a..example"} {
		name, err := peek.NormalizeHost(host)
		fmt.Println(name, err)
	}
	// Output:
	// shop.example <nil>
	// xn--bcher-kva.example <nil>
	// a_b.example <nil>
	//  peek: invalid host name: IP address at byte 0
	//  peek: invalid host name: empty label at byte 2
}

func ExampleDetect() {
	for _, first := range []string{"\x16\x03\x01", "GET /", "PRI * HT", "SSH-2.0-", "GE"} {
		p, err := peek.Detect([]byte(first))
		fmt.Println(p, err)
	}
	_, err := peek.Detect([]byte{0})
	fmt.Println(errors.Is(err, peek.ErrNotTLS) && errors.Is(err, peek.ErrNotHTTP))
	// Output:
	// tls <nil>
	// http/1 <nil>
	// h2c <nil>
	// unknown peek: neither TLS nor HTTP: first word at byte 4
	// unknown peek: need more bytes, at least 1
	// true
}
