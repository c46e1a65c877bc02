// Package sniproxy routes TCP and QUIC connections by host name. It reads the name from the first
// bytes of the client: the server name in a TLS ClientHello, the Host of an HTTP/1 request, or the
// :authority of an HTTP/2 request with prior knowledge. It terminates neither TLS nor HTTP and has
// no certificate: the upstream gets exactly the bytes that the client sent. There are two
// exceptions: the Server removes a PROXY header and empty lines before an HTTP/1 request, and it
// can add a PROXY header of its own.
//
//	cache := &hostlookup.Cache{Source: &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}}
//	srv := &sniproxy.Server{Lookup: cache, MaxPeeking: 10_000}
//	go srv.Serve(l443, peek.TLS)
//	go srv.Serve(l80, peek.HTTP1|peek.HTTP2)
//	go srv.ServeQUIC(udp443) // a *net.UDPConn, for HTTP/3
//	…
//	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
//	defer cancel()
//	err := srv.Shutdown(ctx)
//
// # The phases of a connection
//
// Each connection goes through the same phases. Each phase has its own bounds:
//
//	accept  MaxConns, MaxConnsPerSource, the descriptors of the process
//	peek    HelloTimeout, MaxHello, MaxPeeking
//	lookup  LookupTimeout, MaxConnsPerHost, MaxRatePerHost
//	dial    DialTimeout, over all addresses of the endpoint
//	relay   IdleTimeout, HalfCloseTimeout
//
// When a connection has ended, the Server calls Finished once. If only one side has ended its
// direction (TCP half-close), the connection stays open until the other side ends its direction or
// no byte has moved for HalfCloseTimeout. So a client that ends its direction after its request
// still gets the answer. If one side resets its connection, the other side still gets every byte
// that the Server's system has received; see package relay.
//
// Three subpackages do the work, and each can be used alone. Package peek parses the first bytes,
// package hostlookup finds endpoints and caches them, and package relay moves the bytes. On Linux
// an idle connection needs two descriptors and about 1 KiB of memory. It needs no goroutine, buffer
// or pipe.
//
// # Shares of the sources
//
// A source is an IPv4 address or an IPv6 /64. If the connection begins with a PROXY header, the
// source is the client that the header names. While no limit is reached, a source may hold any
// number of connections. A connection is silent until its client has named a host.
//
// When MaxConns or the descriptors of the process are used up, the largest source makes room for a
// new connection. The largest source is the source with the most connections, where a silent
// connection counts as 8 connections. The Server closes the oldest silent connection of this
// source.
//
// If the largest source has no silent connection, but more connections than its share, the Server
// closes its connection on which no byte has moved for the longest time. The share is the number of
// all connections divided by the number of sources. If the largest source has no more connections
// than its share, or if the new connection itself comes from the largest source, the Server closes
// the new connection instead.
//
// MaxPeeking limits the number of silent connections. When a new connection exceeds this limit, the
// Server closes the oldest silent connection of the source that has the most silent connections. So
// the Server does not close the connections of slow clients of other sources.
//
// The Server does not use all descriptors that the process may have. It leaves an eighth of them to
// the rest of the process, but at least 24 and at most 512. If descriptors run out nevertheless,
// the Server closes an eighth of the silent connections, in the same order as for MaxPeeking. The
// connections of TrustedSources belong to no source. The Server closes one of them to make room
// only if it can close no other connection, and only if the client has not named a host yet.
//
// # Answers to clients
//
// If the Server cannot relay a client to the endpoint of its host, the client gets one of these
// answers. "Fallback" and "NoName" mean that the Server relays the client to this endpoint instead,
// if it is set. "A close" means that the Server closes the connection without an answer; "or a
// close" applies if CloseUnknownTLS is set:
//
//	                    HTTP            TLS
//	host not found      404             alert 112 unrecognized_name, or Fallback, or a close
//	no host named       400, or NoName  alert 109 or 112, or NoName, or a close
//	no valid host name  400             alert 112
//	malformed           400             alert 50 decode_error
//	too large           431             alert 50
//	HelloTimeout        408             a close
//	other protocol      400             alert 40 handshake_failure
//	lookup fails        503             alert 80 internal_error
//	cannot connect      502, 503, 504   alert 80
//	no descriptors      503             alert 80
//	MaxConnsPerHost     503             alert 80
//	MaxRatePerHost      429             alert 80
//	loop                508             alert 80
//
// After an answer, the Server sends FIN. It then reads and drops the bytes that the client still
// sends, until the client has acknowledged no byte of the answer for 2 s. Without these reads, a
// TCP reset could destroy the answer. If a connection exceeds MaxConns, MaxConnsPerSource or
// MaxPeeking, the Server closes it without an answer.
//
// A host counts as not found only if the error of the lookup wraps hostlookup.ErrNotFound. If the
// first bytes are malformed, too large, or name an invalid host, the Server connects to no
// upstream, not even to NoName or Fallback.
//
// # Endpoints
//
// An endpoint is an address or a name, with or without a port. A name with a final dot, such as
// "web.shop.svc.cluster.local.", is complete. A resolver appends the search domains of
// /etc/resolv.conf to a name without a final dot. With the setting "ndots:5" of Kubernetes, the
// resolver asks for the name with each search domain first, so a final dot saves several DNS
// queries.
//
// The Server checks each address after DNS and before it connects; see Server.AllowEndpoints. If an
// endpoint is a name with several addresses, the Server tries the addresses in turn. This is safe,
// because the Server sends the client's bytes only when a connection is made. The Server does not
// cache DNS answers. If an endpoint that is a name gets more than a few connections a second, use a
// caching resolver on this machine or in its network.
//
// The Server refuses a connection whose endpoint leads back to the Server. Such an endpoint is
// either an address that the Server listens on, or the destination address in the PROXY header of
// the client's connection. With ProxyOut 2, the Server also refuses a connection that it has sent
// itself and that comes back through other routers. It cannot detect a loop through a balancer that
// sends no PROXY header: only MaxConns bounds such a loop. List the addresses of such balancers in
// DenyEndpoints.
//
// # The PROXY protocol
//
// The Server accepts PROXY headers, of version 1 and 2, only from the networks in ProxyFrom. The
// address in a header replaces the address of the client, so a header must come from a trusted
// proxy. A header may have at most 4 KiB. It may arrive in any number of TCP segments. The result
// depends on the header:
//
//	TCP4, TCP6                    the addresses in the header replace those of the connection
//	LOCAL, UNKNOWN                the proxy itself is the client
//	UNSPEC, UDP, Unix sockets     like LOCAL: the header names no TCP connection
//	unassigned command or family  a close, and ErrProxyHeader
//	CRC32C that does not match    a close, and ErrProxyHeader
//	TLVs that are malformed       a close, and ErrProxyHeader; ignored after LOCAL and UNSPEC
//
// With ProxyOut 2, the upstream gets the TLVs of the incoming header, without its CRC32C.
// ProxyAuthority and ProxyALPN add the host and the application protocol of the client as TLVs.
//
// # Empty lines before a request
//
// An HTTP/1 client may send empty lines before its request (RFC 9112 section 2.2). The Server
// ignores up to 16 of them, with CRLF or LF. The upstream does not get these lines, because some
// servers close the connection after one.
//
// # QUIC
//
// ServeQUIC routes QUIC connections (HTTP/3) by the server name in their ClientHello, with the same
// Lookup, checks of endpoints and Finished. The endpoint of a host must be a server that speaks
// QUIC at this address and port. Package quicrelay documents how the Server finds the connection of
// a datagram, and which clients can move to another address. The Server treats QUIC connections
// like TLS connections, with these differences:
//
//   - The upstream sees the address of the Server instead of the address of the client. The PROXY
//     protocol has no form for QUIC, so ProxyOut has no effect, and ServeQUIC fails if
//     ProxyRequired is set.
//   - The Server does not see the end of a connection, because the packets that close it are
//     encrypted. It keeps a connection until no datagram has come for QUICIdleTimeout (2 min). So a
//     connection still counts for the limits after its client has closed it.
//   - QUIC connections have limits of their own: MaxConns, MaxConnsPerSource and MaxPeeking apply to
//     the QUIC connections of all sockets together, and do not count TCP connections. If MaxPeeking is
//     0, the limit is 1,000. QUIC connections use at most a quarter of the descriptors, and at most
//     10,000 if neither MaxConns nor the process has a limit. MaxConnsPerHost and MaxRatePerHost count
//     the TCP and QUIC connections of a host together.
//   - If an endpoint is a name with several addresses, the Server uses only the first address that the
//     checks allow. DialTimeout, IdleTimeout, HalfCloseTimeout, KeepAlive, DialContext and Page have
//     no effect.
//   - The client gets an alert as the error code of a QUIC CONNECTION_CLOSE frame: 0x100 plus the
//     number of the alert (RFC 9001 section 4.8). For every such error, Chromium shows
//     ERR_QUIC_PROTOCOL_ERROR. If the port of the upstream is closed, the client gets alert 80.
//     Where a TLS client gets a close, the Server drops the datagrams of the QUIC client, which
//     then waits for its own time-out.
//   - If a client moves to another address, the Server treats this as a new connection: it calls
//     Finished once for the old address and once for the new one. The new connection has no lookup,
//     and does not count for MaxConnsPerHost.
//
// # What it does not do
//
// The Server sees only the first request of an HTTP connection. With keep-alive, later requests may
// name other hosts, but reach the same upstream. If a later request names a host that the upstream
// does not serve, let the upstream answer with status 421. The Server sees only the outer name of
// an encrypted ClientHello. It does not balance load or check health. It logs only accept errors.
// To log each connection, use Finished.
package sniproxy
