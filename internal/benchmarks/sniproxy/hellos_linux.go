package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/hellos"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
	"github.com/headgate/headgate/sniproxy/peek"
)

const (
	// replayLimit bounds the time from the last segment of a hello to the answer. It is shorter than
	// the time that the routers wait for a hello.
	replayLimit = 3 * time.Second
	// clientLimit bounds the handshake of a client. It includes the start of a browser on a busy
	// machine.
	clientLimit = time.Minute
	// routersAtOnce is the number of routers that are tested at the same time. A router may wait in
	// vain for the rest of a hello, and another router can work during this wait.
	routersAtOnce = 3
)

// captured is a client with the hello that it has sent.
type captured struct {
	hellos.Client
	host  string
	hello []byte
}

// helloRun sends the hellos of all clients through all routers.
type helloRun struct {
	settings
	dir      string
	starter  *peer.Starter
	certs    *hellos.Certificates
	clients  []captured
	programs sync.Mutex // held while the programs of the clients run, so that few browsers run at a time
	progress io.Writer
}

// countHellos counts for each router which hellos reach the right backend.
func countHellos(ctx context.Context, s settings, progress io.Writer) (result report.Hellos, err error) {
	err = s.withRouters(ctx, progress, func(ctx context.Context, dir string, routers []peer.Router) error {
		cores, err := peer.Cores()
		if err != nil {
			return err
		}
		h := &helloRun{settings: s, dir: dir, progress: progress}
		if h.starter, err = peer.NewStarter(cores[0]); err != nil {
			return err
		}
		defer h.starter.Close()
		if err := h.capture(ctx); err != nil {
			return err
		}
		result, err = h.count(ctx, routers)
		return err
	})
	return result, err
}

// count sends the captured hellos through all routers.
func (h *helloRun) count(ctx context.Context, routers []peer.Router) (result report.Hellos, err error) {
	result = report.Hellos{Command: command(os.Args[1:]), Machine: machine(), Ways: wayNames()}
	for _, c := range h.clients {
		var p peek.Parser
		seen, err := p.Parse(c.hello)
		if err != nil || seen.Name != c.host {
			return result, fmt.Errorf("%s: its hello has the name %q instead of %q: %w", c.Name, seen.Name, c.host, err)
		}
		result.Clients = append(result.Clients, report.HelloClient{Name: c.Name, Version: c.Version, Size: len(c.hello), PostQuantum: seen.Hello.PostQuantum()})
	}
	result.Routers = make([]report.HelloRouter, len(routers))
	each(len(routers), routersAtOnce, func(i int) {
		row, err := h.router(ctx, routers[i])
		if err != nil {
			row.Problem = err.Error()
		}
		result.Routers[i] = row
	})
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	return result, nil
}

func wayNames() (names []string) {
	for _, w := range hellos.Ways {
		names = append(names, w.Name)
	}
	return names
}

// capture lets each client make a handshake without a router, and keeps its hello.
func (h *helloRun) capture(ctx context.Context) (err error) {
	clients, missing := hellos.Clients()
	if missing != "" {
		fmt.Fprintf(h.progress, "some clients are left out: apt-get install --no-install-recommends %s\n", missing)
	}
	var hosts []string
	for _, c := range clients {
		hosts = append(hosts, hellos.HostOf(c.Name))
	}
	if h.certs, err = hellos.NewCertificates(h.dir, hosts); err != nil {
		return err
	}
	h.clients = make([]captured, len(clients))
	errs := make([]error, len(clients))
	each(len(clients), len(clients), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, clientLimit)
		defer cancel()
		h.clients[i] = captured{Client: clients[i], host: hosts[i]}
		h.clients[i].hello, errs[i] = clients[i].Capture(ctx, h.certs)
	})
	return errors.Join(errs...)
}

// router starts a router and sends all hellos through it.
func (h *helloRun) router(ctx context.Context, r peer.Router) (row report.HelloRouter, err error) {
	begin := time.Now()
	row = report.HelloRouter{Name: r.Name, Version: r.Version, Ways: make([]report.Count, len(hellos.Ways))}
	backends := make([]*hellos.Backend, 2)
	setup := peer.Setup{Connections: 100 + len(h.clients)*len(hellos.Ways), Descriptors: 4096, Root: os.Geteuid() == 0}
	for i := range backends {
		if backends[i], err = hellos.NewBackend(h.certs); err != nil {
			return row, err
		}
		defer backends[i].Close()
		setup.Backends = append(setup.Backends, backends[i].Addr)
	}
	for _, c := range h.clients {
		setup.Hosts = append(setup.Hosts, c.host)
	}
	p, listen, err := h.starter.Launch(ctx, h.dir, r, setup)
	if err != nil {
		return row, err
	}
	defer p.Stop()
	if err := h.await(ctx, p, listen); err != nil {
		return row, err
	}
	if err := h.replay(ctx, listen, backends, row.Ways); err != nil {
		return row, err
	}
	row.Handshakes = h.handshakes(ctx, r.Name, listen, backends)
	fmt.Fprintf(h.progress, "%-9s %v  handshakes %v  %.1f s\n", r.Name, row.Ways, row.Handshakes, time.Since(begin).Seconds())
	return row, p.Err()
}

// await waits until the router listens.
func (h *helloRun) await(ctx context.Context, p *peer.Process, listen netip.AddrPort) error {
	var dialer net.Dialer
	for end := time.Now().Add(h.startLimit); ; {
		conn, err := dialer.DialContext(ctx, "tcp", listen.String())
		if err == nil {
			return conn.Close()
		}
		if ended := p.Err(); ended != nil {
			return ended
		}
		if time.Now().After(end) {
			return fmt.Errorf("not ready after %v: %w %s", h.startLimit, err, p.Output())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// replay sends the hello of each client in each way, all at the same time. Each way has an element
// in counts, to which replay adds the outcomes.
func (h *helloRun) replay(ctx context.Context, listen netip.AddrPort, backends []*hellos.Backend, counts []report.Count) error {
	type sent struct {
		wire   []byte
		pieces [][]byte
	}
	all := make([]sent, len(h.clients)*len(counts))
	for i := range all {
		c, way := h.clients[i%len(h.clients)], hellos.Ways[i/len(h.clients)]
		hello, err := hellos.Stamp(c.hello, uint64(i))
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		pieces, err := way.Cut(hello, c.host)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		for _, piece := range pieces {
			all[i].wire = append(all[i].wire, piece...)
		}
		all[i].pieces = pieces
	}
	each(len(all), len(all), func(i int) {
		// The backend says whether the hello has reached it, so an error here changes nothing.
		_ = hellos.Send(ctx, listen, all[i].pieces, replayLimit)
	})
	for i, s := range all {
		client := i % len(h.clients)
		count := &counts[i/len(h.clients)]
		count.Sent++
		if !backends[client%len(backends)].Saw(s.wire) {
			count.Missed = append(count.Missed, h.clients[client].Name)
		}
	}
	return nil
}

// handshakes lets each client make a whole handshake through a router.
func (h *helloRun) handshakes(ctx context.Context, router string, listen netip.AddrPort, backends []*hellos.Backend) (count report.Count) {
	h.programs.Lock()
	defer h.programs.Unlock()
	missed := make([]bool, len(h.clients))
	each(len(h.clients), len(h.clients), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, clientLimit)
		defer cancel()
		err := h.clients[i].Connect(ctx, listen, h.certs)
		if err != nil {
			fmt.Fprintf(h.progress, "%s: whole handshake: %v\n", router, err)
		}
		missed[i] = err != nil || !backends[i%len(backends)].Completed(h.clients[i].host)
	})
	for i, c := range h.clients {
		count.Sent++
		if missed[i] {
			count.Missed = append(count.Missed, c.Name)
		}
	}
	return count
}

// each calls do for 0 to n-1, at most atOnce at the same time, and waits for all of them.
func each(n, atOnce int, do func(i int)) {
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i := range n {
		all.Go(func() error { do(i); return nil })
	}
	_ = all.Wait()
}
