// Package quicrelay relays QUIC connections between clients and backends. It does not decrypt the
// connections: the TLS handshake is between the client and the backend. The Relay reads the server
// name of each connection with package quic, and asks a function for the backend.
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
// A path is a client address and a socket that is connected to a backend. The backend sees the
// address of this socket, and not the address of the client. An Initial packet begins a path, and the
// server name in it chooses the backend. These are the phases of a path and their bounds:
//
//	peek   HelloTimeout, MaxPeeking, the limits of quic.Reader
//	route  RouteTimeout, MaxPeeking
//	relay  IdleTimeout, MaxPaths
//
// A path holds the client's datagrams until its backend is known, but at most 32 KiB. It drops
// further datagrams, and the client sends them again. For MaxPeeking, a path counts as one path,
// and as one more for each 4 KiB that it holds. A source is an IPv4 address or an IPv6 /64. If a
// limit is reached, package fairshare chooses the path that ends: in general, a path of the source
// with the most paths.
//
// A path needs one file descriptor. While it is open, it also needs one goroutine, but a buffer only
// while a datagram passes (on Linux).
//
// The Relay cannot see the end of a connection, because the packets that close it are encrypted. So
// a path ends when no datagram has come for IdleTimeout. While Shutdown waits, a path ends after 30
// s without a datagram, because few clients and servers wait longer than 30 s for the other side.
//
// # Which path a datagram belongs to
//
// Several connections can come from one client address. The Relay chooses the path of a datagram by
// the first of these rules that finds one:
//
//  1. The client address, and the destination ID of the first Initial packet of the path.
//  2. An ID that a backend has chosen. The Relay reads the IDs in the long headers of the packets of
//     the backend, and ignores IDs of fewer than 4 bytes.
//  3. For Handshake packets, packets with a short header, and Initial packets with an ID of fewer than
//     8 bytes: the newest path of the client address.
//
// A client can use IDs that the Relay has not seen, because NEW_CONNECTION_ID frames are encrypted.
// The clients of quic-go do so in their first Handshake packet. Rule 3 finds the path of such a
// client if the client uses a separate port for each connection, as DialAddr of quic-go does. If a
// client uses one port for several connections, and uses such IDs, the packets of an older
// connection can go to the backend of the newest one, and the older connection fails.
//
// # Clients that move
//
// If a client moves to another address or port, the Relay finds the backend by rule 2, and begins a
// second path to this backend. For the backend, the client has then moved too: the backend validates
// the new path (RFC 9000 section 9). The old path ends after IdleTimeout.
//
// A client that uses an ID from a NEW_CONNECTION_ID frame cannot move: the Relay drops its datagrams.
// So a client whose port changes because of a NAT keeps its connection only if it still uses the
// first ID of the backend. If a backend uses IDs of fewer than 4 bytes, its clients cannot move.
//
// # Amplification
//
// Until the address of a client is confirmed, the Relay sends to this address at most three times
// the bytes that came from it (RFC 9000 section 8.1). These packets of a client confirm its
// address:
//
//   - a packet whose destination ID is an ID of at least 4 bytes that the backend has sent on this
//     path: only a client that gets the packets of the backend sees this ID
//   - after the first packet of the backend, a Handshake packet or a packet with a short header
//     whose ID the Relay does not know: the ID can come from a NEW_CONNECTION_ID frame
//
// For the first kind of packet, RFC 9000 asks for an ID of at least 8 bytes. The Relay accepts 4
// bytes, because the IDs of quic-go have 4. A sender with a forged address can invent a packet of
// the second kind. It gains nothing from a backend that keeps to RFC 9000, because the backend has
// the same limit of three times until a packet with the keys of the handshake arrives.
//
// A path of a client that has moved has no limit in the Relay: the backend must not send more than
// three times the received bytes before it has validated the path (RFC 9000 section 9.3).
//
// # Answers
//
// If Route returns a Refusal, the client gets an Initial packet with its TLS alert. The client also
// gets alert 80 (internal_error) if the Relay can open no socket, or if the backend's system
// answers the first datagrams with "port unreachable". If the client sends its first packet again,
// it gets the answer again, and the Relay does not call Route: the Relay remembers the last 1,024
// refused connections. If Route returns another error, the client gets no answer: the Relay
// remembers this connection too, and drops its packets.
//
// If a client uses a version of QUIC that package quic cannot read, the Relay answers with the
// versions 1 and 2. Other datagrams that belong to no path get no answer. During Shutdown, the
// client of a new connection gets the error CONNECTION_REFUSED.
//
// # Batches
//
// On Linux, the kernel joins datagrams of one sender that arrive together (UDP_GRO), and the Relay
// passes them on in one system call (UDP_SEGMENT). If the datagrams of a backend arrive one by one,
// and several have arrived before the Relay reads them, the Relay joins them itself. If the kernel
// refuses to send several datagrams in one system call, the Relay sends them one by one. The
// goroutine of Serve never waits for a backend: if the send buffer of a backend's socket is full,
// the Relay drops the datagram.
//
// # Several addresses
//
// If a socket is bound to 0.0.0.0 or ::, and the machine has several addresses, an answer must come
// from the address that the client has sent to: the client ignores other answers. The Relay sends from
// this address on Linux. On other systems, call Serve with a socket for each address.
//
// # What it does not do
//
// The Relay does not tell the backend the address of the client, does not balance load, does not
// follow clients to new connection IDs, and does not pass on ECN marks. The endpoints find out by
// themselves that ECN does not work (RFC 9000 section 13.4.2). The Relay does not check which
// addresses Route returns.
package quicrelay
