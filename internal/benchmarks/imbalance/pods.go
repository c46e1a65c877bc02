package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// A pod is an HTTP server that works on a few requests at a time, like a server with one process
// for each core. Other requests wait.
type pod struct {
	name               string
	addr               netip.AddrPort
	requests, inFlight atomic.Int64
	working            chan struct{} // holds one value for each request on which the pod works
	server             *http.Server
	ended              chan error
}

// The pod works on each request for a random time between the constants "shortest" and "longest". A
// request may also wait for other requests.
const (
	concurrency = 4
	shortest    = 5 * time.Millisecond
	longest     = 15 * time.Millisecond
)

// newPod returns a pod that does not run yet. Nothing listens on its address.
func newPod(i int, addr netip.AddrPort) *pod {
	p := &pod{name: fmt.Sprintf("pod-%02d", i+1), addr: addr, working: make(chan struct{}, concurrency), ended: make(chan error, 1)}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	return p
}

func (p *pod) start() error {
	l, err := net.Listen("tcp", p.addr.String())
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	go func() { p.ended <- p.server.Serve(l) }()
	return nil
}

func (p *pod) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		_ = p.server.Close()
	}
	if err := <-p.ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	p.inFlight.Add(1)
	defer p.inFlight.Add(-1)
	select {
	case p.working <- struct{}{}:
		defer func() { <-p.working }()
	case <-r.Context().Done():
		return
	}
	work := time.NewTimer(shortest + rand.N(longest-shortest))
	defer work.Stop()
	select {
	case <-work.C:
		_, _ = io.WriteString(w, p.name+"\n")
	case <-r.Context().Done():
	}
}
