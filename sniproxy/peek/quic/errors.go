package quic

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/sniproxy/peek"
)

// These errors are the reasons why a Reader ignores a datagram. Test for them with errors.Is.
var (
	// ErrNotQUIC means that the datagram does not begin with a QUIC packet.
	ErrNotQUIC = errors.New("quic: not a QUIC packet")
	// ErrVersion means that the first packet of the datagram has a version that the package cannot
	// read. A server that does not know the version answers with a Version Negotiation packet.
	ErrVersion = errors.New("quic: unknown version")
	// ErrNotInitial means that the datagram has no Initial packet. For example, 0-RTT packets can
	// arrive before the Initial packet.
	ErrNotInitial = errors.New("quic: no Initial packet")
	// ErrSmall means that the datagram has an Initial packet, but fewer than MinDatagram bytes.
	ErrSmall = errors.New("quic: datagram too small for an Initial packet of a client")
	// ErrOtherConnection means that the Initial packet belongs to another connection: its version
	// or its source connection ID differs from that of the earlier packets.
	ErrOtherConnection = errors.New("quic: Initial packet of another connection")
	// ErrAuthentication means that the Initial packet does not authenticate: its bytes have changed,
	// or its sender has not seen the first packet of the client.
	ErrAuthentication = errors.New("quic: Initial packet does not authenticate")
)

// These errors end a Reader. peek.ErrMalformed, peek.ErrTooLarge, peek.ErrNoName and
// peek.ErrInvalidName end it too.
var (
	// ErrTooManyPackets means that the hello was not complete after Reader.MaxPackets packets.
	ErrTooManyPackets = errors.New("quic: too many packets before the hello was complete")
	// ErrClosed means that the client has closed the connection before its hello was complete.
	ErrClosed = errors.New("quic: the client closed the connection")
)

// Ignored is the error for a datagram that has not changed the state of a Reader, except for the
// count of packets. The Reader can read further datagrams.
type Ignored struct {
	Err    error  // the reason: one of the variables in this package
	What   string // the field and its error, or ""
	Offset int    // the offset of the packet or of the field in the datagram
}

func (e *Ignored) Error() string {
	if e.What == "" {
		return fmt.Sprintf("%v, at byte %d", e.Err, e.Offset)
	}
	return fmt.Sprintf("%v: %s, at byte %d", e.Err, e.What, e.Offset)
}

// Unwrap returns the reason.
func (e *Ignored) Unwrap() error { return e.Err }

func notQUIC(offset int, what string) error {
	return &Ignored{Err: ErrNotQUIC, What: what, Offset: offset}
}

func malformed(offset int, what string) error {
	return &peek.Error{Err: peek.ErrMalformed, What: what, Offset: offset}
}
