package hostlookup

import (
	"context"
	"errors"
)

// A Holder is a Lookup that can tell at once what it has of a host, so that whoever
// serves many from one goroutine need not wait. Cache, File, Hosts, and a Chain or
// Default of such are Holders.
type Holder interface {
	Lookup
	// Held returns what LookupHost would, and the level of it, if that takes no
	// waiting: no source is asked and nothing blocks. Else ok is false.
	Held(host string) (ep Endpoint, level Level, err error, ok bool)
}

// heldBy asks a lookup for what it has at once.
func heldBy(l Lookup, host string) (Endpoint, Level, error, bool) {
	if h, ok := l.(Holder); ok {
		return h.Held(host)
	}
	return Endpoint{}, Miss, nil, false
}

// Held implements Holder: ok is false where the source would be asked first.
func (c *Cache) Held(host string) (Endpoint, Level, error, bool) {
	k := c.init()
	e, level := k.hit(k.hash(host), host)
	if e == nil {
		return Endpoint{}, Miss, nil, false
	}
	return e.ep, level, e.err(), true
}

// Held implements Holder: ok is false until the file was read for the first time.
func (f *File) Held(host string) (Endpoint, Level, error, bool) {
	h := f.Hosts()
	if h == nil {
		return Endpoint{}, Miss, nil, false
	}
	return h.Held(host)
}

// Held implements Holder: ok is always true.
func (h *Hosts) Held(host string) (Endpoint, Level, error, bool) {
	ep, err := h.LookupHost(context.Background(), host)
	return ep, Miss, err, true
}

func (c chain) Held(host string) (ep Endpoint, level Level, err error, ok bool) {
	level, err, ok = Miss, ErrNotFound, true
	for _, l := range c {
		ep, level, err, ok = heldBy(l, host)
		if !ok || !errors.Is(err, ErrNotFound) {
			return ep, level, err, ok
		}
	}
	return Endpoint{}, level, err, ok
}

func (d withDefault) Held(host string) (Endpoint, Level, error, bool) {
	ep, level, err, ok := heldBy(d.Lookup, host)
	if !ok || !errors.Is(err, ErrNotFound) {
		return ep, level, err, ok
	}
	return d.instead(host), level, nil, true
}
