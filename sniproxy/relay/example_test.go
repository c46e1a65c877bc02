package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/headgate/headgate/sniproxy/relay"
)

// greeting is a Session that routes a client by its first line.
type greeting struct {
	backends map[string]netip.AddrPort
	finished func(relay.Result)
}

func (g *greeting) Hello(data []byte, err error) relay.Step {
	line, _, whole := bytes.Cut(data, []byte("\n"))
	if err != nil || !whole {
		return relay.Step{} // wait for more bytes; with an error, drop
	}
	backend, ok := g.backends[string(line)]
	if !ok {
		return relay.Step{Action: relay.Answer, Data: []byte("who?\n")}
	}
	return relay.Step{Action: relay.Connect, Addr: backend, Skip: len(line) + 1}
}

func (g *greeting) DialFailed(err error) relay.Step {
	return relay.Step{Action: relay.Answer, Data: []byte("not there\n"), Err: err}
}

func (g *greeting) Done(r relay.Result) { g.finished(r) }

func Example() {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()
	go func() {
		c, err := backend.Accept()
		if err != nil {
			return
		}
		request, _ := io.ReadAll(c)
		fmt.Fprintf(c, "echo: %s", request)
		c.Close()
	}()

	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	var e relay.Engine
	results := make(chan relay.Result, 2)
	go e.Serve(front, func(relay.Conn) relay.Session {
		return &greeting{
			backends: map[string]netip.AddrPort{"echo": backend.Addr().(*net.TCPAddr).AddrPort()},
			finished: func(r relay.Result) { results <- r },
		}
	})
	defer e.Close()

	for _, request := range []string{"echo\nhello", "nobody\nhello"} {
		c, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		io.WriteString(c, request)
		c.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		c.Close()
		r := <-results
		fmt.Printf("%q, ended by the %v in %v\n", answer, r.By, r.Phase)
	}
	// Output:
	// "echo: hello", ended by the client in relay
	// "who?\n", ended by the session in answer
}
