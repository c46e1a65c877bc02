// Package quic finds the server name in the first datagrams of a QUIC connection. These datagrams
// contain Initial packets, and the CRYPTO frames of these packets contain the TLS ClientHello (the
// hello). Initial packets are encrypted, but everybody who sees the first packet can derive the
// keys (RFC 9001 section 5.2).
//
// The package does not use sockets or clocks. It only turns bytes into values. A router keeps one
// Reader for each connection whose hello is incomplete. The client address and the destination ID
// of the first packet identify the connection. The router also keeps the datagrams, and passes them
// on after the hello is complete:
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
// Anybody can send a datagram with the source address of a client. So a datagram that does not
// belong to the hello does not end the Reader: Read returns an *Ignored with the reason. The Reader
// counts such datagrams too, and ends after MaxPackets packets, so that nobody makes it work for
// ever. These are the rules:
//
//   - A datagram of less than 1,200 bytes with an Initial packet is ignored, because servers discard
//     it (RFC 9000 section 14.1).
//   - A packet that does not authenticate is ignored.
//   - The version of the first packet that authenticates is the version of the connection. If a
//     datagram has an unknown version, the reason is ErrVersion.
//   - A 0-RTT or Handshake packet is ignored, even if it arrives before the Initial packet. A
//     router may keep such a datagram, and pass it on after the hello is complete.
//   - After a Retry or a Version Negotiation packet, the client starts again with new keys. The
//     program that has sent such a packet reads the new packets with a new Reader.
//   - A datagram may contain several packets. After its first packet, Read skips packets with
//     another destination ID than that of the first packet, packets with a short header, and bytes
//     that are no packet.
//
// # Strictness
//
// Two CRYPTO frames may contain different values for the same byte of the hello. Two servers could
// then read different names, so the error is peek.ErrMalformed.
//
// The error is also peek.ErrMalformed for a frame that must not be in an Initial packet, for
// reserved bits that are set, and for a packet without frames: servers close a connection with such
// a packet.
//
// Read ignores bytes of the CRYPTO stream after the hello.
//
// # Cost
//
// Read derives the keys of a connection when it reads the first Initial packet. This costs about 50
// allocations. For a datagram without an Initial packet, Read derives no keys. Read copies the
// bytes of the hello once.
//
// # What it does not do
//
// The package reads versions 1 and 2 of QUIC, and no drafts. It reads only the packets of the
// client up to the end of its first ClientHello. It makes no Retry packets, does not check tokens,
// and does not acknowledge packets. If the client encrypts its ClientHello (ECH), the package sees
// only the outer name.
package quic
