// Package quicrelay relays QUIC connections between clients and backends without decrypting them.
// The Relay reads the server name of each connection with package quic, and asks a function for the
// backend.
//
//	relay := &quicrelay.Relay{Route: func(ctx context.Context, req quicrelay.Request) (quicrelay.Backend, error) {
//		if req.Err == nil && req.Hello.Name == "shop.example" {
//			return quicrelay.Backend{Addr: netip.MustParseAddrPort("10.0.0.1:443")}, nil
//		}
//		return quicrelay.Backend{}, &quicrelay.Refusal{Alert: 112, Reason: "unknown host"}
//	}}
//	go relay.Serve(conn) // a *net.UDPConn that clients send to
//	…
//	relay.Close()
//
// # Paths
//
// A path is a client address and a socket that is connected to a backend, which sees only the
// address of this socket. An Initial packet begins a path, and the server name in it chooses the
// backend. These are the phases of a path and their bounds:
//
//	peek   HelloTimeout, MaxPeeking, the limits of quic.Reader
//	route  RouteTimeout, MaxPeeking
//	relay  IdleTimeout, MaxPaths
//
// Until the backend of a path is known, the path stores up to 32 KiB of the client's datagrams. It
// drops further datagrams, which the client sends again. For the limit MaxPeeking, such a path
// counts as one path, and as one more for each 4 KiB that it stores.
//
// If a limit is reached, package fairshare chooses the path that ends. In general, this path
// belongs to the source (an IPv4 address or an IPv6 /64) that has the most paths.
//
// An open path needs one file descriptor and one goroutine and, on Linux, a buffer only while a
// datagram passes.
//
// The packets that close a connection are encrypted. So a path ends when no datagram has come for
// IdleTimeout or, while Shutdown waits, for 30 s: few clients and servers wait longer for the other
// side.
//
// # Which path a datagram belongs to
//
// Several connections can come from one client address. The Relay applies these rules in order,
// until one of them finds the path of the datagram:
//
//  1. The client address, and the destination ID of the first Initial packet of the path.
//  2. An ID that a backend has chosen. The Relay reads the IDs in the long headers of the packets of
//     the backend, and ignores IDs of fewer than 4 bytes.
//  3. For Handshake packets, packets with a short header, and Initial packets with an ID of fewer than
//     8 bytes: the newest path of the client address.
//
// A client can use IDs that the Relay has not seen, because NEW_CONNECTION_ID frames are encrypted.
// The clients of quic-go do so in their first Handshake packet. Rule 3 finds their path if the
// client uses one port for each connection, as DialAddr of quic-go does.
//
// If such a client uses one port for several connections, packets of an older connection can go to
// the backend of the newest one, and the older connection fails.
//
// # Clients that move
//
// If a client moves to another address or port, the Relay finds the backend by rule 2, and begins a
// second path to it. For the backend, the client has moved too, so the backend validates the new
// path (RFC 9000 section 9). The old path ends after IdleTimeout.
//
// A client cannot move if it uses an ID from a NEW_CONNECTION_ID frame, or if its backend uses IDs
// of fewer than 4 bytes: the Relay drops its datagrams. So when a NAT changes the port of a client,
// the client keeps its connection only with the first ID of the backend.
//
// # Amplification
//
// Until the address of a client is confirmed, the Relay sends to it at most three times the bytes
// that came from it (RFC 9000 section 8.1). These packets of a client confirm its address:
//
//   - a packet whose destination ID is an ID of at least 4 bytes that the backend has sent on this
//     path: only a client that gets the packets of the backend sees this ID
//   - after the first packet of the backend, a Handshake packet or a packet with a short header
//     whose ID the Relay does not know: the ID can come from a NEW_CONNECTION_ID frame
//
// RFC 9000 asks for 8 bytes in the first case, but the IDs of quic-go have 4. A sender with a
// forged address can invent a packet of the second kind. But a backend that keeps to RFC 9000 has
// the same limit of three times, until a packet with the keys of the handshake arrives.
//
// A path of a client that has moved has no limit in the Relay: the backend must apply the limit of
// three times until it has validated the path (RFC 9000 section 9.3).
//
// # Answers
//
// If Route returns a Refusal, the client gets an Initial packet with its TLS alert. It gets alert
// 80 (internal_error) if the Relay can open no socket, or if the backend's system answers the first
// datagrams with "port unreachable". After another error of Route, the client gets no answer.
//
// The Relay remembers the last 1,024 refused connections. If a client repeats its first packet, it
// gets the same answer, or none, without a call of Route.
//
// If a client uses a version of QUIC that package quic cannot read, the Relay answers with the
// versions 1 and 2. Other datagrams that belong to no path get no answer. During Shutdown, new
// connections get the error CONNECTION_REFUSED.
//
// # Batches
//
// On Linux, the kernel joins datagrams of one sender that arrive together (UDP_GRO), and the Relay
// passes them on in one system call (UDP_SEGMENT), or one by one if the kernel refuses. The Relay
// itself joins datagrams of a backend that have arrived one by one.
//
// The goroutine of Serve never waits for a backend: if the send buffer of the backend's socket is
// full, the Relay drops the datagram.
//
// # Several addresses
//
// A client accepts answers only from the address that it has sent to. For a socket bound to 0.0.0.0
// or ::, the Relay sends from this address on Linux. On other systems with several addresses, call
// Serve with a socket for each address.
//
// # What it does not do
//
// The Relay does not tell the backend the address of the client, does not balance load, and does
// not follow clients to new connection IDs. It does not pass on ECN marks; the endpoints find out
// that ECN does not work (RFC 9000 section 13.4.2). It does not check which addresses Route
// returns.
package quicrelay
