package hostlookup

import (
	"context"
	"errors"
)

// Chain returns a Lookup that asks each lookup in turn, until one knows the host. Only
// ErrNotFound leads to the next lookup. After any other error Chain stops: the failed lookup may
// know the host, and the answer of a later one could be the wrong route. The Level comes from
// the last lookup that Chain asked. A Chain of no lookups finds no host.
func Chain(lookups ...Lookup) Peeker { return chain(lookups) }

type chain []Lookup

func (c chain) LookupHost(ctx context.Context, host string) (Answer, error) {
	return c.first(func(l Lookup) (Answer, error) { return l.LookupHost(ctx, host) })
}

func (c chain) Peek(host string) (Answer, error) {
	return c.first(func(l Lookup) (Answer, error) { return peek(l, host) })
}

// first returns the first result of ask that is not ErrNotFound, or else the last result.
func (c chain) first(ask func(Lookup) (Answer, error)) (answer Answer, err error) {
	err = ErrNotFound
	for _, l := range c {
		if answer, err = ask(l); !errors.Is(err, ErrNotFound) {
			break
		}
	}
	return answer, err
}

// Default returns a Lookup that answers with ep where l returns ErrNotFound. Any other error of l
// remains: a host that l knows must not land on the default while l fails. An ep without Host gets
// the name in the lookup. The Level comes from l.
//
// Put Default around a Cache, not inside. Inside, the Cache would store one known host for each
// name that a stranger invents. The answers of Default have a negative TTL, so that no Cache
// stores them in any case.
func Default(l Lookup, ep Endpoint) Peeker { return withDefault{l, ep} }

type withDefault struct {
	Lookup
	ep Endpoint
}

func (d withDefault) LookupHost(ctx context.Context, host string) (Answer, error) {
	answer, err := d.Lookup.LookupHost(ctx, host)
	return d.replace(host, answer, err)
}

func (d withDefault) Peek(host string) (Answer, error) {
	answer, err := peek(d.Lookup, host)
	return d.replace(host, answer, err)
}

func (d withDefault) replace(host string, answer Answer, err error) (Answer, error) {
	if !errors.Is(err, ErrNotFound) {
		return answer, err
	}
	answer.Endpoint = d.ep
	if answer.Host == "" {
		answer.Host = host
	}
	answer.TTL = -1
	return answer, nil
}
