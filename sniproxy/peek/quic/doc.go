// Package quic finds the server name in the first datagrams of a QUIC connection. These datagrams
// have Initial packets, which carry the TLS ClientHello in CRYPTO frames. Initial packets are
// encrypted, but everybody who sees the first packet can derive the keys (RFC 9001 section 5.2).
//
// The package does not use sockets or clocks. It only turns bytes into values. A router keeps one
// Reader for each connection whose hello is incomplete, that is, for each address of a client and
// destination ID of its first packet. It also keeps the datagrams, to pass them on later:
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
// ParseHeader reads the part of a packet that is not encrypted. A router needs it to find the
// connection of a datagram. Hello.AppendClose makes a datagram that tells the client why the router
// does not relay its connection. Header.AppendVersionNegotiation makes the answer to an unknown
// version.
//
// # Results
//
// Read returns peek.NeedMore until the hello is complete. The order of the datagrams, packets and
// frames does not matter, and parts may arrive more than once or overlap. A hello with a
// post-quantum key share needs two datagrams. The errors of a hello are those of package peek:
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
// Anybody can send a datagram in the name of a client. So a datagram that does not belong to the
// hello does not end the Reader. Read returns an *Ignored with the reason, and counts the packet. The
// count ends the Reader at MaxPackets, so that nobody makes it work for ever. These are the rules:
//
//   - A datagram of less than 1,200 bytes with an Initial packet is ignored, because servers discard
//     it (RFC 9000 section 14.1).
//   - A packet that does not authenticate is ignored.
//   - The version of the first packet that authenticates is the version of the connection. If a
//     datagram has an unknown version, the reason is ErrVersion.
//   - A 0-RTT or Handshake packet is ignored, also if it arrives before the Initial packet. A router
//     may hold such a datagram until the hello is complete.
//   - After a Retry or a Version Negotiation packet, the client starts again with new keys. The
//     program that has sent such a packet reads the new packets with a new Reader.
//   - In one datagram, packets after the first one with another destination ID, packets with a short
//     header, and bytes that are no packet are skipped.
//
// # Strictness
//
// If CRYPTO frames disagree about a byte of the hello, servers could read different names. The error
// is then peek.ErrMalformed. A frame that must not be in an Initial packet, reserved bits and a packet
// without frames are also peek.ErrMalformed, as servers close the connection because of them. Bytes
// of the stream after the hello are ignored.
//
// # Cost
//
// To derive the keys of a connection costs about 50 allocations, which the Read of its first packet
// makes. A datagram that is no Initial packet costs no keys. The hello costs one copy of its bytes.
//
// # What it does not do
//
// The package reads versions 1 and 2 of QUIC, and no drafts. It reads only the packets of the client
// up to the end of its first ClientHello. It makes no Retry packets, does not check tokens, and does
// not acknowledge packets. In an encrypted ClientHello it sees only the outer name.
package quic
