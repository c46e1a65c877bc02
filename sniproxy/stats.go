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

// Stats describes one connection. Server.Finished gets the Stats of a connection that has ended,
// and Server.Connections returns the Stats of the open connections.
type Stats struct {
	// ID numbers the connections of a Server from 1.
	ID uint64

	// Client is the address of the client: from a PROXY header, or else Peer.
	Client netip.AddrPort
	// Peer is the address of the other end of the connection: the client, or a proxy in front of
	// it. It is not valid if the connection has no IP address.
	Peer netip.AddrPort
	// Listener is the address that Serve or ServeQUIC listens on.
	Listener string

	// Protocol is the protocol of the client. It is 0 if the client has not sent enough bytes to
	// recognise it, and always QUIC for a connection of ServeQUIC.
	Protocol peek.Protocol
	// Name is the host that the client named, in normal form. Name is "" if the client named no
	// valid host.
	Name string
	// RawName is the name that the client sent, if this name is not a valid host name. RawName is
	// "" if the name is valid. It can contain any bytes, so quote it in logs.
	RawName string
	// ALPN are the first 8 application protocols that a TLS client offers. They can contain any
	// bytes, so quote them in logs. Do not change the slice.
	ALPN []string
	// TLSVersion is the highest version that a TLS client offers, such as tls.VersionTLS13.
	TLSVersion uint16
	// ECH reports whether the client offers an encrypted hello. If it does, and ECHResult is not
	// ECHAccepted, Name may be the name of a provider instead of the real host.
	ECH bool
	// ECHResult says what the Server has done with the encrypted hello. It is ECHNone without
	// Server.ECHKeys, and for QUIC.
	ECHResult ECHResult

	// Endpoint is the endpoint of the host. It is zero if the lookup returned an error.
	Endpoint hostlookup.Endpoint
	// Level says where the answer of the lookup came from. Level has no meaning if LookedUp is
	// false.
	Level hostlookup.Level
	// LookedUp reports whether a lookup has returned.
	LookedUp bool
	// Fallback reports whether Endpoint is Server.Fallback or Server.NoName.
	Fallback bool
	// Upstream is the address to which the Server last tried to connect. It is not valid if the
	// Server has not tried to connect.
	Upstream netip.AddrPort
	// Dials is the number of times that the Server has tried to connect to an upstream for this
	// connection.
	Dials int

	// Answer is the code of the answer that the Server itself sent to the client: an HTTP status
	// such as 404, or the number of a TLS alert such as 112 (unrecognized_name). 0 means no answer.
	Answer int

	// ToUpstream is the number of the client's bytes that the Server wrote to the upstream, without
	// a PROXY header. ToClient is the number of bytes that it wrote to the client, including its
	// own answer. Both are 0 while the connection is open. For QUIC, headers of UDP and IP do not
	// count.
	ToUpstream, ToClient int64

	// Start is the time of accept.
	Start time.Time
	// These are times of the connection, in this order:
	//
	//   - Peek: from accept until the client had named a host.
	//   - Lookup: after Peek, until the Server had the addresses of the endpoint.
	//   - Dial: after Lookup, until the Server had connected to the upstream or had given up. After an
	//     encrypted hello, Dial also contains the wait for the first bytes of the upstream.
	//   - Total: from accept to close. For an open connection, from accept until now.
	//
	// 0 means that the phase did not end. Peek, Lookup and Dial together are at most Total. For
	// QUIC, Start is the arrival of the first datagram, and Dial is 0.
	Peek, Lookup, Dial, Total time.Duration

	// Phase is the phase in which the connection ended, or the phase that an open connection is in.
	// For an open connection, PhaseRelay can also mean that the Server is still connecting to the
	// upstream.
	Phase Phase
	// Outcome is the result in one word. It is Open for an open connection.
	Outcome Outcome
	// Err says why the connection failed or was refused. It is nil if both sides ended cleanly.
	Err error
}

// Phase is a part of the life of a connection.
type Phase uint8

// The phases, in order.
const (
	PhaseAccept Phase = iota // checking the limits of connections
	PhasePeek                // reading the first bytes of the client
	PhaseLookup              // looking up the endpoint and its addresses
	PhaseDial                // connecting to the upstream
	PhaseRelay               // relaying bytes both ways
)

// String returns the phase as a word in lower case.
func (p Phase) String() string {
	return word(p, "accept", "peek", "lookup", "dial", "relay")
}

// Outcome is the result of a connection. It can be the label of a metric, because there are few
// outcomes.
type Outcome uint8

// The outcomes.
const (
	Open         Outcome = iota // the connection has not ended
	Relayed                     // the connection reached an upstream; Err says how it ended
	NotFound                    // the host is unknown, or the client named no host
	Rejected                    // wrong protocol, malformed or too many first bytes, invalid name, or wrong PROXY header
	Limited                     // the connection exceeded a limit, or was evicted
	TimedOut                    // the client did not name a host within HelloTimeout
	Gone                        // the client left before an upstream was connected
	LookupFailed                // the lookup or the DNS query failed, or returned no usable address
	DialFailed                  // the Server could not or must not connect to any address of the endpoint
	Aborted                     // Shutdown or Close ended the connection before an upstream was connected
)

// String returns the outcome in lower case with underscores, the form for metrics.
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

// Stats.Err wraps one of these errors, or an error of package peek, hostlookup or relay, or of the
// system. Test with errors.Is.
var (
	// ErrServerClosed is the error of Serve after Shutdown or Close.
	ErrServerClosed = errors.New("sniproxy: server closed")

	// ErrTooManyConns means that the connection exceeded MaxConns or the descriptors of the
	// process, and that the Server could close no other connection to make room. There are two
	// reasons:
	//
	//   - The source of this connection was the source with the most connections.
	//   - No source had more connections than its share: the number of all connections divided by
	//     the number of sources.
	ErrTooManyConns = errors.New("sniproxy: too many connections")
	// ErrTooManyFromSource means that the connection exceeded MaxConnsPerSource.
	ErrTooManyFromSource = errors.New("sniproxy: too many connections from this source")
	// ErrEvicted means that the Server closed the connection to make room for newer connections,
	// because of MaxConns, MaxPeeking or a lack of descriptors. The client had not named a host
	// yet.
	ErrEvicted = errors.New("sniproxy: evicted before it named a host")
	// ErrEvictedIdle means that the Server closed the connection to make room for newer
	// connections, because of MaxConns or a lack of descriptors. Its source held more connections
	// than its share, which is the number of all connections divided by the number of sources. Of
	// the connections of this source, this was the one on which no byte had moved for longest.
	ErrEvictedIdle = errors.New("sniproxy: evicted as the longest idle connection of its source")

	// ErrTooManyForHost means that the connection exceeded MaxConnsPerHost.
	ErrTooManyForHost = errors.New("sniproxy: too many connections for this host")
	// ErrHostRate means that the connection exceeded MaxRatePerHost.
	ErrHostRate = errors.New("sniproxy: too many new connections for this host")

	// ErrProxyHeader means that a PROXY header is missing, malformed, or comes from a network that
	// must not send one.
	ErrProxyHeader = errors.New("sniproxy: PROXY header")

	// ErrLoop means that the connection leads back to this Server.
	ErrLoop = errors.New("sniproxy: loop")
	// ErrForbidden means that the Server must not connect to an address of the endpoint.
	ErrForbidden = errors.New("sniproxy: forbidden address")
	// ErrNoAddress means that the endpoint is a name without an address.
	ErrNoAddress = errors.New("sniproxy: name without address")

	errClientGone = errors.New("sniproxy: client left before it named a host")
)

// IsClientReset reports whether err, from Stats.Err, means that the client reset a relayed
// connection while the Server waited for bytes of the client. If a client resets the connection
// while the Server writes to it, the result is false.
func IsClientReset(err error) bool {
	return errors.Is(err, relay.ErrClientReset)
}

// serverClosed replaces relay.ErrClosed by ErrServerClosed.
func serverClosed(err error) error {
	if errors.Is(err, relay.ErrClosed) {
		return ErrServerClosed
	}
	return err
}
