package sniproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// Stats is what a Server knows of a connection: of one that has ended, for Finished, or
// of a live one, from Connections.
type Stats struct {
	// ID numbers the connections of a Server from 1.
	ID uint64

	// Client is where the client is: what a PROXY header says, or else Peer.
	Client netip.AddrPort
	// Peer is who is connected: the client, or a proxy before it. Not valid where the
	// connection has no IP address.
	Peer netip.AddrPort
	// Listener is the address that Serve listens on.
	Listener string

	// Protocol is what the client speaks; 0 if that did not become known.
	Protocol peek.Protocol
	// Name is the host that the client named, in normal form, "" if none.
	Name string
	// RawName is what the client sent where that is no valid name: anything, and to be
	// quoted in logs. "" if Name is set.
	RawName string
	// ALPN are the application protocols that a TLS client offers, the first 8 of
	// them. They are opaque bytes, and to be quoted. Do not change them.
	ALPN []string
	// TLSVersion is the highest that a TLS client offers, such as tls.VersionTLS13.
	TLSVersion uint16
	// ECH tells that the client offers an encrypted hello: Name may be that of a
	// provider in front of the host.
	ECH bool

	// Endpoint is what the lookup answered; zero if it gave none.
	Endpoint hostlookup.Endpoint
	// Level is where that answer came from. It means something if Looked is set.
	Level hostlookup.Level
	// Looked tells that a lookup was made and has answered.
	LookedUp bool
	// Fallback tells that the endpoint is Server.Fallback or Server.NoName.
	Fallback bool
	// Upstream is the address that was connected to last; not valid if none was.
	Upstream netip.AddrPort
	// Dials counts the attempts to connect.
	Dials int

	// Answer is what the router itself told the client: a status of HTTP (404), or the
	// description of a TLS alert (112), or 0.
	Answer int

	// Sent counts the bytes of the client that were handed to the upstream, without
	// what the router put before them; Received those to the client, answers included.
	// Both are 0 for a live connection.
	ToUpstream, ToClient int64

	// Start is when the connection was accepted.
	Start time.Time
	// Peek is the time from accept until the client had named a host. Lookup is the time until
	// the addresses of its endpoint were known. Dial is the time until the upstream was connected
	// or given up, over all attempts. Total is the time from accept to close. 0 means that the
	// phase did not end.
	//
	// All are exact: the clock is read at each border. The phases do not overlap, so their sum is
	// at most Total.
	Peek, Lookup, Dial, Total time.Duration

	// Phase is how far the connection came, or, with an error, where that happened. Of a
	// live connection PhaseRelay includes connecting.
	Phase Phase
	// Outcome sums it up. It is Open for a live connection.
	Outcome Outcome
	// Err is nil if both sides ended in good order.
	Err error
}

// Phase is a part of a connection's life.
type Phase uint8

// The phases, in their order.
const (
	PhaseAccept Phase = iota // being let in
	PhasePeek                // the client's first bytes
	PhaseLookup              // from the name to addresses
	PhaseDial                // connecting
	PhaseRelay               // bytes both ways
)

// String returns the phase as a word in lower case.
func (p Phase) String() string {
	return word(p, "accept", "peek", "lookup", "dial", "relay")
}

// Outcome is what became of a connection, in few enough words for a metric.
type Outcome uint8

// The outcomes.
const (
	Open         Outcome = iota // not ended
	Relayed                     // it reached an upstream; Err tells how it ended
	NotFound                    // the host is not known, or none was named
	Rejected                    // not the protocol, malformed, too large, no valid name, a bad PROXY header
	Limited                     // one more than a limit allows, or pushed out by others
	TimedOut                    // no host within HelloTimeout
	Gone                        // the client left before it was connected
	LookupFailed                // the endpoint is unknown for now
	DialFailed                  // no address of the endpoint could be or may be connected to
	Aborted                     // ended by Shutdown or Close before it was connected
)

// String returns the outcome in lower case with underscores, as metrics have it.
func (o Outcome) String() string {
	return word(o, "open", "relayed", "not_found", "rejected", "limited", "timed_out", "gone",
		"lookup_failed", "dial_failed", "aborted")
}

func word[T ~uint8](v T, words ...string) string {
	if int(v) < len(words) {
		return words[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

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
	ErrEvicted = errors.New("sniproxy: made room for others before it named a host")

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
	errClientGone = errors.New("sniproxy: client left before it named a host")
)

// closed turns the engine's word for an orderly end into ours.
func serverClosed(err error) error {
	if errors.Is(err, relay.ErrClosed) {
		return ErrServerClosed
	}
	return err
}
