package sniproxy

import "github.com/headgate/headgate/sniproxy/hostlookup"

// instant is a Lookup that can tell at once what it holds of a host, so that the
// common case needs no goroutine.
type instant = hostlookup.Holder

// instantOf returns l if it is one, and else nil.
func instantOf(l hostlookup.Lookup) instant {
	i, _ := l.(instant)
	return i
}
