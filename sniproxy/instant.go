package sniproxy

import (
	"context"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// An instant is a Lookup that can tell at once what it holds of a host, so that the
// common case needs no goroutine. ok is false where LookupHost would have to wait.
type instant interface {
	Held(host string) (ep hostlookup.Endpoint, level hostlookup.Level, err error, ok bool)
}

// instantOf returns what l can tell at once; nil if that is nothing.
func instantOf(l hostlookup.Lookup) instant {
	switch l := l.(type) {
	case instant:
		return l
	case *hostlookup.Cache:
		return heldByCache{l}
	case *hostlookup.File:
		return heldByFile{l}
	case *hostlookup.Hosts:
		return heldByHosts{l}
	}
	return nil
}

type heldByCache struct{ *hostlookup.Cache }

// over has ended, so that Get gives what is stored, and else returns at once.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (c heldByCache) Held(host string) (hostlookup.Endpoint, hostlookup.Level, error, bool) {
	if e, ok := c.Peek(host); !ok || e.Level == hostlookup.Miss {
		return hostlookup.Endpoint{}, hostlookup.Miss, nil, false
	}
	ep, level, err := c.Get(over, host)
	return ep, level, err, level != hostlookup.Miss // Miss if its time ran out just now
}

type heldByFile struct{ *hostlookup.File }

func (f heldByFile) Held(host string) (hostlookup.Endpoint, hostlookup.Level, error, bool) {
	h := f.Hosts()
	if h == nil {
		return hostlookup.Endpoint{}, hostlookup.Miss, nil, false // not read yet
	}
	return heldByHosts{h}.Held(host)
}

type heldByHosts struct{ *hostlookup.Hosts }

func (h heldByHosts) Held(host string) (hostlookup.Endpoint, hostlookup.Level, error, bool) {
	ep, err := h.LookupHost(over, host)
	return ep, hostlookup.Miss, err, true
}
