// Package quic finds the server name in the first datagrams of a QUIC connection, whose Initial
// packets contain the TLS ClientHello (the hello) in CRYPTO frames. Everybody who sees the first
// packet can derive the keys of Initial packets (RFC 9001 section 5.2).
//
// The package turns bytes into values, without sockets or clocks. A router keeps one Reader for
// each connection, identified by the client address and the destination ID of the first packet. It
// also keeps the datagrams until the hello is complete:
//
//	var r quic.Reader
//	var held [][]byte
//	for datagram := range received {
//		hello, err := r.Read(datagram)
//		switch err.(type) {
//		case peek.NeedMore:
//			held = append(held, datagram)
//			continue // the hello has more datagrams
//		case *quic.Ignored:
//			continue // the datagram has no part of the hello
//		}
//		…                      // err, or hello.Name is the server name in normal form
//	}
//
// ParseHeader reads the part of a packet that is not encrypted, to find the connection of a
// datagram. Hello.AppendClose makes a datagram that tells the client why the router does not relay
// its connection. Header.AppendVersionNegotiation makes the answer to an unknown version.
//
// # Results
//
// Read returns peek.NeedMore until the hello is complete; with a post-quantum key share, it needs
// two datagrams. Datagrams, packets and frames may arrive in any order, more than once, or overlap.
// The errors of a hello are those of package peek:
//
//	peek.NeedMore        not complete yet
//	peek.ErrNoName       well-formed, but names no host: may go to a default route
//	peek.ErrTooLarge     the hello exceeds MaxBytes, or has more than 256 pieces out of order
//	peek.ErrMalformed    breaks the rules of QUIC or TLS: must never go to a default route
//	peek.ErrInvalidName  the name is not a host name
//	ErrTooManyPackets    incomplete after MaxPackets packets
//	ErrClosed            the client has closed its connection
//
// # Datagrams that a Reader ignores
//
// Anybody can send a datagram with the source address of a client. So for a datagram that does not
// belong to the hello, Read returns an *Ignored with the reason. The Reader ends after MaxPackets
// packets, ignored ones included. These are the rules:
//
//   - A datagram of less than 1,200 bytes with an Initial packet is ignored, because servers
//     discard it (RFC 9000 section 14.1).
//   - A packet that does not authenticate is ignored.
//   - The first packet that authenticates sets the version of the connection. For an unknown
//     version, the reason is ErrVersion.
//   - A 0-RTT or Handshake packet is ignored, even before the Initial packet. A router may pass it
//     on after the hello is complete.
//   - After a Retry or a Version Negotiation packet, the client starts again with new keys, and its
//     packets need a new Reader.
//   - After the first packet of a datagram, Read skips packets with another destination ID or a
//     short header, and bytes that are no packet.
//
// # Strictness
//
// The error is peek.ErrMalformed if two CRYPTO frames contain different values for the same byte of
// the hello, because two servers could then read different names.
//
// It is also peek.ErrMalformed for packets for which servers close a connection: a frame that must
// not be in an Initial packet, reserved bits that are set, or no frames.
//
// Read ignores bytes of the CRYPTO stream after the hello.
//
// # Cost
//
// Read derives the keys of a connection, with about 50 allocations, at the first Initial packet. It
// copies the bytes of the hello once.
//
// # What it does not do
//
// The package reads versions 1 and 2 of QUIC, no drafts, and only the packets of the client up to
// the end of its first ClientHello. It makes no Retry packets, does not check tokens, and does not
// acknowledge packets. Of an encrypted ClientHello (ECH), it sees only the outer name.
package quic
