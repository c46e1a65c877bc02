package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// probeHost is a host that does not exist (RFC 6761 section 6.4). An API that answers "not found" for
// it can answer for other hosts.
const probeHost = "headgate-readiness.invalid"

// probeInterval is the time between two probes of an API that has not answered.
const probeInterval = time.Second

// readiness finds out whether a router has had hosts to serve. A router without an API is always
// ready. A router with an API is ready after the first answer of the API, or with a loaded cache. It
// stays ready if the API fails later, because the cache answers.
type readiness struct {
	ready atomic.Bool
	why   atomic.Pointer[error] // of the last probe
}

// check returns an error for /readyz.
func (r *readiness) check() error {
	if r.ready.Load() {
		return nil
	}
	if why := r.why.Load(); why != nil {
		return errors.Join(errors.New("the API has not answered yet, and no cache is loaded"), *why)
	}
	return errors.New("the API has not answered yet, and no cache is loaded")
}

// probe asks the API until it answers.
func (r *readiness) probe(ctx context.Context, source hostlookup.Lookup) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for !r.ready.Load() {
		_, err := source.LookupHost(ctx, probeHost)
		if err == nil || errors.Is(err, hostlookup.ErrNotFound) {
			r.ready.Store(true)
			return
		}
		r.why.Store(&err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
