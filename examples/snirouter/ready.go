package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// probeHost is the host about which the method "probe" asks the API. No such host exists (RFC 6761
// section 6.4). If the API answers "not found" about probeHost, the API works.
const probeHost = "headgate-readiness.invalid"

// probeInterval is the time between two probes of the API. The router sends probes only until the
// API has answered once.
const probeInterval = time.Second

// readiness decides whether a router is ready. With an API, it is ready after the first answer of
// the API, or if the cache file contained hosts at the start. It stays ready if the API fails
// later, because it still finds hosts in its cache.
type readiness struct {
	ready atomic.Bool
	why   atomic.Pointer[error] // the error of the last probe
}

// check returns an error until the API has answered or a cache is loaded, and nil from then on.
func (r *readiness) check() error {
	if r.ready.Load() {
		return nil
	}
	if why := r.why.Load(); why != nil {
		return errors.Join(errors.New("the API has not answered yet, and no cache is loaded"), *why)
	}
	return errors.New("the API has not answered yet, and no cache is loaded")
}

// probe asks the API about probeHost, again and again, until the API answers.
func (r *readiness) probe(ctx context.Context, source hostlookup.Lookup) {
	ticker := time.Tick(probeInterval)
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
		case <-ticker:
		}
	}
}
