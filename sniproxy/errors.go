package sniproxy

import (
	"errors"

	"github.com/headgate/headgate/sniproxy/relay"
)

// What Stats.Err is or wraps, beside the errors of peek, hostlookup, relay and the
// system. Test with errors.Is.
var (
	// ErrServerClosed is what Serve returns after Shutdown or Close.
	ErrServerClosed = errors.New("sniproxy: server closed")

	// ErrTooManyConns: the connection would have been one more than MaxConns.
	ErrTooManyConns = errors.New("sniproxy: too many connections")
	// ErrTooManyFromSource: … than MaxConnsPerSource.
	ErrTooManyFromSource = errors.New("sniproxy: too many connections from this source")
	// ErrPushedOut: the client had not said where it wants to go when others needed
	// its place, by MaxPeeking or for lack of descriptors.
	ErrPushedOut = errors.New("sniproxy: made room for others before it named a host")

	// ErrProxyHeader: the PROXY protocol header is missing, malformed, or comes from
	// where none may come from.
	ErrProxyHeader = errors.New("sniproxy: PROXY header")

	// ErrLoop: the connection leads back to this server.
	ErrLoop = errors.New("sniproxy: loop")
	// ErrForbidden: an endpoint has an address that may not be connected to.
	ErrForbidden = errors.New("sniproxy: forbidden address")
	// ErrNoAddress: the name of an endpoint has no address.
	ErrNoAddress = errors.New("sniproxy: name without address")

	// errGone: the client left before it had said where it wants to go.
	errGone = errors.New("sniproxy: client left before it named a host")
)

// closed turns the engine's word for an orderly end into ours.
func closed(err error) error {
	if errors.Is(err, relay.ErrClosed) {
		return ErrServerClosed
	}
	return err
}
