package hostlookup

import (
	"context"
	"errors"
)

// Chain returns a Lookup that asks the lookups in order. It asks the next lookup only if the last
// one returned ErrNotFound. After another error it stops: the failed lookup may know the host, and
// a later lookup could return a wrong endpoint. The answer has the Level of the lookup that was
// asked last. A Chain without lookups finds no host.
func Chain(lookups ...Lookup) Peeker { return chain(lookups) }

type chain []Lookup

func (c chain) LookupHost(ctx context.Context, host string) (Answer, error) {
	return c.first(func(l Lookup) (Answer, error) { return l.LookupHost(ctx, host) })
}

func (c chain) Peek(host string) (Answer, error) {
	return c.first(func(l Lookup) (Answer, error) { return peek(l, host) })
}

// The method "first" passes the lookups of the chain to the function "ask", one after the other,
// until the result of ask is not ErrNotFound. It returns the result of the last call of ask.
func (c chain) first(ask func(Lookup) (Answer, error)) (answer Answer, err error) {
	err = ErrNotFound
	for _, l := range c {
		if answer, err = ask(l); !errors.Is(err, ErrNotFound) {
			break
		}
	}
	return answer, err
}

// Default returns a Lookup that asks l, and answers with ep if l returns ErrNotFound. Other errors
// remain errors: a host that l knows must not get the default endpoint while l fails. If ep.Host is
// "", the Host in the answer is the host of the lookup.
//
// Put Default around a Cache, and not a Cache around Default: invented host names would fill the
// Cache. So each answer with ep has a negative TTL, and a Cache does not store it.
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
