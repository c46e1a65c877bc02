package main

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/hellos"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
	"github.com/stretchr/testify/require"
)

// TestHellos counts with the router that needs no installation.
func TestHellos(t *testing.T) {
	result, err := countHellos(t.Context(), smoke(t, "-hellos", "-peers=plain"), t.Output())
	require.NoError(t, err)
	require.Len(t, result.Routers, 1)
	plain := result.Routers[0]
	require.Empty(t, plain.Problem)
	require.GreaterOrEqual(t, len(result.Clients), 5)
	require.Equal(t, report.Count{Sent: len(result.Clients)}, plain.Handshakes)
	for i, c := range plain.Ways {
		require.Equal(t, report.Count{Sent: len(result.Clients)}, c, result.Ways[i])
	}
}

// A router that does not start is a problem, and not a router that names nothing.
func TestHellosOfABrokenRouter(t *testing.T) {
	cores, err := peer.Cores()
	require.NoError(t, err)
	starter, err := peer.NewStarter(cores[0])
	require.NoError(t, err)
	defer starter.Close()
	certs, err := hellos.NewCertificates(t.TempDir(), nil)
	require.NoError(t, err)
	h := &helloRun{settings: smoke(t, "-hellos"), dir: t.TempDir(), starter: starter, certs: certs, progress: t.Output()}
	_, err = h.router(t.Context(), peer.SNIRouter("false {listen}", ""))
	require.ErrorContains(t, err, "ended (exit status 1)")
}

func TestCheckHellos(t *testing.T) {
	good := report.HelloRouter{Name: "snirouter", Ways: []report.Count{{Sent: 1}}}
	bad := report.HelloRouter{Name: "snirouter", Ways: []report.Count{{Sent: 1, Missed: []string{"curl"}}}}
	peer := report.HelloRouter{Name: "HAProxy", Ways: bad.Ways}
	require.NoError(t, checkHellos(report.Hellos{Routers: []report.HelloRouter{good, peer}}))
	require.ErrorContains(t, checkHellos(report.Hellos{Routers: []report.HelloRouter{peer, bad}}), "1 hellos did not reach")
	require.ErrorContains(t, checkHellos(report.Hellos{Routers: []report.HelloRouter{good, {Name: "x", Problem: "exit status 1"}}}), "x did not run: exit status 1")
}

// relay passes all connections to one address, and returns its own address.
func relay(t *testing.T, to netip.AddrPort) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { ln.Close() })
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", to.String())
			if err != nil {
				t.Error(err)
				return
			}
			pass := func(to, from net.Conn) {
				defer to.Close()
				defer from.Close()
				_, _ = io.Copy(to, from)
			}
			all.Go(func() { pass(backend, client) })
			all.Go(func() { pass(client, backend) })
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// A router that passes all connections to one backend loses the hellos of the other backend.
func TestReplayThroughAWrongRouter(t *testing.T) {
	var names []string
	clients, _ := hellos.Clients()
	for _, c := range clients {
		if c.Name == hellos.Go || c.Name == hellos.ResumedGo {
			names = append(names, hellos.HostOf(c.Name))
		}
	}
	certs, err := hellos.NewCertificates(t.TempDir(), names)
	require.NoError(t, err)
	h := &helloRun{certs: certs}
	var backends []*hellos.Backend
	for _, c := range clients[:2] {
		hello, err := c.Capture(t.Context(), certs)
		require.NoError(t, err)
		h.clients = append(h.clients, captured{c, hellos.HostOf(c.Name), hello})
		b, err := hellos.NewBackend(certs)
		require.NoError(t, err)
		defer b.Close()
		backends = append(backends, b)
	}
	counts := make([]report.Count, len(hellos.Ways))
	require.NoError(t, h.replay(t.Context(), relay(t, backends[0].Addr), backends, counts))
	for i, c := range counts {
		require.Equal(t, report.Count{Sent: 2, Missed: []string{h.clients[1].Name}}, c, hellos.Ways[i].Name)
	}
}
