package sniproxy

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

var update = flag.Bool("update", false, "write the seeds of the fuzz target that are missing")

// stillConn is a relay.Conn without an engine. It records the Step of Resume.
type stillConn struct{ resumed chan relay.Step }

func (stillConn) RemoteAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:1234") }
func (stillConn) LocalAddr() netip.AddrPort  { return netip.MustParseAddrPort("192.0.2.2:443") }
func (c stillConn) Resume(s relay.Step)      { c.resumed <- s }
func (stillConn) Idle() time.Duration        { return 0 }
func (stillConn) Close()                     {}

// The endpoints of the Server under test have different ports. So the port in a decision shows
// which endpoint the Server has chosen.
const (
	viaLookup, viaNoName, viaFallback = 1001, 1002, 1003
	unknownHost                       = "none.example"
)

// askedFor is a Peeker that knows every host except unknownHost. It records the last host in name.
type askedFor struct{ name string }

func (a *askedFor) LookupHost(_ context.Context, host string) (hostlookup.Answer, error) {
	panic("Peek has the answer")
}

func (a *askedFor) Peek(host string) (hostlookup.Answer, error) {
	a.name = host
	if host == unknownHost {
		return hostlookup.Answer{Level: hostlookup.Negative}, hostlookup.ErrNotFound
	}
	ep := hostlookup.Endpoint{Addr: fmt.Sprintf("10.51.100.1:%d", viaLookup)}
	return hostlookup.Answer{Endpoint: ep, Level: hostlookup.Hit}, nil
}

// decision describes the reaction of a Server to the bytes of a client.
type decision struct {
	action relay.Action
	port   uint16
	asked  string
	skip   int
	data   string
	stats  Stats
}

// decideOn passes b to a session in pieces. The argument ends contains the offsets at which the
// pieces end.
func decideOn(t *testing.T, b []byte, ends []int, use proxyUse, accept peek.Protocol) decision {
	asked := &askedFor{}
	s := &Server{
		Lookup:   asked,
		NoName:   hostlookup.Endpoint{Addr: fmt.Sprintf("10.51.100.1:%d", viaNoName)},
		Fallback: hostlookup.Endpoint{Addr: fmt.Sprintf("10.51.100.1:%d", viaFallback)},
		ProxyOut: 1,
	}
	switch use {
	case proxyRequired:
		s.ProxyRequired = true
		fallthrough
	case proxyOptional:
		s.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	require.NoError(t, s.init())
	n := s.accept(&listener{srv: s, protocols: accept, port: 443}, stillConn{}).(*session)
	var step relay.Step
	for _, end := range ends {
		if step = n.Hello(bytes.Clone(b[:end]), nil); step.Action != relay.More {
			break
		}
	}
	if step.Action == relay.More {
		step = n.Hello(bytes.Clone(b), io.EOF)
	}
	d := decision{action: step.Action, port: step.Addr.Port(), asked: asked.name, skip: step.Skip}
	if step.Action == relay.Connect {
		d.data = string(step.Data)
	}
	var result relay.Result
	n.Done(result)
	n.mu.Lock()
	d.stats = n.stats()
	n.mu.Unlock()
	all, _ := s.conns.Counts()
	require.Zero(t, all)
	return d
}

// The decision is the same for each way to cut the bytes into pieces. The Server routes only by the
// name that package peek finds, and never routes malformed bytes.
func FuzzDecision(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, cuts []byte, use, accept uint8) {
		if len(b) > 1<<17 {
			return
		}
		mode, protocols := proxyUse(use%3), peek.Protocol(accept%8)
		whole := decideOn(t, b, []int{len(b)}, mode, protocols)
		var ends []int
		at := 0
		for _, c := range cuts {
			if at += 1 + int(c); at >= len(b) || len(ends) > 300 {
				break
			}
			ends = append(ends, at)
		}
		pieces := decideOn(t, b, append(ends, len(b)), mode, protocols)
		require.Equal(t, whole.action, pieces.action)
		require.Equal(t, whole.port, pieces.port)
		require.Equal(t, whole.asked, pieces.asked)
		require.Equal(t, whole.skip, pieces.skip)
		require.Equal(t, whole.data, pieces.data)

		// The parser alone finds the same name after a PROXY header.
		rest := b
		if mode != proxyNone {
			n, err := proxyLen(b)
			if err == nil && n > 0 {
				_, err = parseProxy(b[:n])
			}
			if err != nil || n == 0 && mode == proxyRequired {
				require.NotEqual(t, relay.Connect, whole.action, "%v", err)
				return
			}
			rest = b[n:]
		}
		parser := peek.Parser{Accept: protocols}
		r, err := parser.Parse(rest)
		switch {
		case err == nil:
			require.Equal(t, r.Name, whole.asked)
			require.Equal(t, r.Name, whole.stats.Name)
			switch {
			case r.Name != unknownHost:
				require.Equal(t, relay.Connect, whole.action)
				require.EqualValues(t, viaLookup, whole.port)
			case r.Protocol == peek.TLS:
				require.EqualValues(t, viaFallback, whole.port)
			default:
				require.Equal(t, relay.Answer, whole.action)
			}
		case errors.Is(err, peek.ErrNoName):
			require.Equal(t, relay.Connect, whole.action)
			require.EqualValues(t, viaNoName, whole.port)
			require.Empty(t, whole.asked)
		default:
			require.NotEqual(t, relay.Connect, whole.action, "%v", err)
			require.Empty(t, whole.asked)
			require.Error(t, whole.stats.Err)
		}
		if whole.action == relay.Connect {
			require.Equal(t, len(b)-len(rest)+r.Request.Blank, whole.skip)
			require.Contains(t, whole.data, "PROXY ")
		}
	})
}

// The seeds of FuzzDecision are files with these names. The test checks the decision for each.
func TestDecisions(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example", ALPN: []string{"h2"}, Versions: []uint16{0x0304}}
	v1 := []byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
	v2 := proxyV2(0x21, 0x11, v4Body...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	broken := hellotest.Hello{Extensions: []hellotest.Extension{{Type: 0, Body: []byte{0, 5}}}}.Wire()
	for name, tt := range map[string]struct {
		bytes   []byte
		port    uint16 // of the endpoint; 0 means none
		outcome Outcome
	}{
		"tls":                {hello.Wire(), viaLookup, Open},
		"tls-records":        {hello.Wire(5, 1, 50), viaLookup, Open},
		"tls-unknown-host":   {hellotest.Hello{Name: unknownHost}.Wire(), viaFallback, Open},
		"tls-no-name":        {hellotest.Hello{ALPN: []string{"h2"}}.Wire(), viaNoName, Open},
		"tls-ip-literal":     {hellotest.Hello{Name: "192.0.2.1"}.Wire(), 0, Rejected},
		"tls-upper-case-dot": {hellotest.Hello{Name: "A.Example."}.Wire(), viaLookup, Open},
		"tls-nul":            {hellotest.Hello{Name: "a\x00.example"}.Wire(), 0, Rejected},
		"tls-broken-name":    {broken, 0, Rejected},
		"tls-half":           {hello.Wire()[:30], 0, Rejected},
		"tls-more-behind":    {join(hello.Wire(), []byte("application data")), viaLookup, Open},
		"tls-proxy-v1":       {join(v1, hello.Wire()), viaLookup, Open},
		"tls-proxy-v2":       {join(v2, hello.Wire()), viaLookup, Open},
		"tls-proxy-twice":    {join(v1, v2, hello.Wire()), 0, Rejected},
		"proxy-v2-local":     {join(proxyV2(0x20, 0), hello.Wire()), viaLookup, Open},
		"proxy-v1-broken":    {join([]byte("PROXY TCP4 192.0.2.7 1234\r\n"), hello.Wire()), 0, Rejected},
		"proxy-v2-too-long":  {join(proxyV2(0x21, 0x11)[:14], []byte{0xff, 0xff}, v4Body, hello.Wire()), 0, Rejected},
		"http":               {[]byte("GET / HTTP/1.1\r\nHost: a.example:80\r\n\r\n"), viaLookup, Open},
		"http-blank-lines":   {[]byte("\r\n\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), viaLookup, Open},
		"http-proxy-blank":   {join(v2, []byte("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n")), viaLookup, Open},
		"proxy-v2-unspec":    {join(proxyV2(0x21, 0, 1, 2, 3), hello.Wire()), viaLookup, Open},
		"proxy-v2-udp":       {join(proxyV2(0x21, 0x12, v4Body...), hello.Wire()), viaLookup, Open},
		"proxy-v2-unix":      {join(proxyV2(0x21, 0x31, make([]byte, 216)...), hello.Wire()), viaLookup, Open},
		"proxy-v2-crc":       {join(withCRC(proxyV2(0x21, 0x11, v4Body...)), hello.Wire()), viaLookup, Open},
		"proxy-v2-bad-crc":   {join(proxyV2(0x21, 0x11, append(slices.Clone(v4Body), 3, 0, 4, 1, 2, 3, 4)...), hello.Wire()), 0, Rejected},
		"http-unknown-host":  {[]byte("HEAD / HTTP/1.1\r\nHost: none.example\r\n\r\n"), 0, NotFound},
		"http-no-host":       {[]byte("GET / HTTP/1.0\r\n\r\n"), viaNoName, Open},
		"http-two-hosts":     {[]byte("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n"), 0, Rejected},
		"http-absolute":      {[]byte("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"), viaLookup, Open},
		"http-proxy-v1":      {join(v1, []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")), viaLookup, Open},
		"h2c": {[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
			"\x00\x00\x0e\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x09a.example"), viaLookup, Open},
		"ssh": {[]byte("SSH-2.0-OpenSSH_9.9\r\n"), 0, Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			d := decideOn(t, tt.bytes, []int{len(tt.bytes)}, proxyOptional, 0)
			require.Equal(t, tt.port, d.port, "%v", d.stats.Err)
			if tt.port == 0 {
				require.Equal(t, tt.outcome, d.stats.Outcome)
			}
			file := filepath.Join("testdata", "fuzz", "FuzzDecision", name)
			if _, err := os.Stat(file); err != nil && *update {
				seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n[]byte(\"\\x03\\x00\\t(\")\nbyte('\\x01')\nbyte('\\x00')\n", tt.bytes)
				require.NoError(t, os.WriteFile(file, []byte(seed), 0o644))
			}
			seed, err := os.ReadFile(file)
			require.NoError(t, err, "go test -run TestDecisions -update writes it")
			require.Contains(t, string(seed), fmt.Sprintf("[]byte(%q)", tt.bytes))
		})
	}
}
