package hostlookup

import (
	"context"
	"errors"
)

// Chain asks one lookup after the other until one knows the host. Only ErrNotFound
// leads on to the next: a source that fails might have known the host, and what a
// later one says could be the wrong route. A chain of none finds nothing.
//
// The level is that of the lookup that answered.
func Chain(lookups ...Lookup) LevelLookup { return chain(lookups) }

type chain []Lookup

func (c chain) LookupHost(ctx context.Context, host string) (Endpoint, error) {
	ep, _, err := c.Get(ctx, host)
	return ep, err
}

func (c chain) Get(ctx context.Context, host string) (Endpoint, Level, error) {
	level, err := Miss, ErrNotFound
	for _, l := range c {
		var ep Endpoint
		ep, level, err = Get(ctx, l, host)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return ep, level, err
		}
	}
	return Endpoint{}, level, err
}

// Default answers with ep where l says ErrNotFound, and only there: while l fails,
// a known host must not land on the default. An ep without Host gets the name
// that was asked for. The level is that of l's answer.
//
// Put it around a Cache, not inside: then the cache still sees "not found", and
// names made up by strangers cannot push out the known hosts. To keep them safe in
// any case, the answers of a Default have a negative TTL: a cache does not store them.
func Default(l Lookup, ep Endpoint) LevelLookup { return withDefault{l, ep} }

type withDefault struct {
	Lookup
	ep Endpoint
}

func (d withDefault) LookupHost(ctx context.Context, host string) (Endpoint, error) {
	ep, _, err := d.Get(ctx, host)
	return ep, err
}

func (d withDefault) Get(ctx context.Context, host string) (Endpoint, Level, error) {
	ep, level, err := Get(ctx, d.Lookup, host)
	if !errors.Is(err, ErrNotFound) {
		return ep, level, err
	}
	return d.instead(host), level, nil
}

// instead is the answer for a host that is not found.
func (d withDefault) instead(host string) Endpoint {
	ep := d.ep
	if ep.Host == "" {
		ep.Host = host
	}
	ep.TTL = -1
	return ep
}
