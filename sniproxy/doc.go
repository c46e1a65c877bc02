// Package sniproxy routes TCP and QUIC connections by host name: the server name in a TLS
// ClientHello, the Host of an HTTP/1 request, or the :authority of an HTTP/2 request with prior
// knowledge. It terminates neither TLS nor HTTP and has no certificate. The upstream gets exactly
// the bytes of the client, with these exceptions:
//
//   - The Server removes a PROXY header, and can add one of its own.
//   - The Server removes empty lines before an HTTP/1 request.
//   - The Server can decrypt an encrypted ClientHello, and sends the decrypted one.
//
// This program routes TLS, HTTP and QUIC connections, and ends after a graceful shutdown:
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
// Each connection goes through these phases, each with its own bounds:
//
//	accept  MaxConns, MaxConnsPerSource, the descriptors of the process
//	peek    HelloTimeout, MaxHello, MaxPeeking
//	lookup  LookupTimeout, MaxConnsPerHost, MaxRatePerHost
//	dial    DialTimeout, over all addresses of the endpoint
//	relay   IdleTimeout, HalfCloseTimeout
//
// When a connection has ended, the Server calls Finished once. If only one side has ended its
// direction (TCP half-close), the connection stays open until the other side ends its direction or
// no byte has moved for HalfCloseTimeout. If one side resets its connection, the other side still
// gets every byte that the Server's system has received; see package relay.
//
// Package peek parses the first bytes, package hostlookup finds and caches endpoints, and package
// relay moves the bytes. On Linux, an idle connection needs two descriptors and about 1 KiB of
// memory. It needs no goroutine, buffer or pipe.
//
// # Shares of the sources
//
// A source is the IPv4 address, or the IPv6 /64, of a client. With a PROXY header, the client is
// the one that the header names. While no limit is reached, a source may hold any number of
// connections. A connection is silent until its client has named a host.
//
// When MaxConns or the descriptors of the process are used up, a new connection needs the place of
// another one. The largest source is the source with the most connections; a silent connection
// counts as 8. The Server applies the first of these rules that fits:
//
//   - If the largest source has a silent connection, the Server closes its oldest silent connection.
//   - If the largest source has more connections than its share, and the new connection comes from
//     another source, the Server closes the connection of the largest source on which no byte has
//     moved for the longest time. The share is the number of all connections divided by the number
//     of sources.
//   - In all other cases, the Server closes the new connection.
//
// MaxPeeking limits the silent connections. Above this limit, the Server closes the oldest silent
// connection of the source with the most silent connections. So it spares slow clients of other
// sources.
//
// The Server leaves an eighth of the process's descriptors, but at least 24 and at most 512, to the
// rest of the process. If descriptors run out nevertheless, it closes an eighth of the silent
// connections. It chooses them in the same way as for MaxPeeking.
//
// MaxConnsPerSource and the share do not apply to a connection from a network in TrustedSources. The
// Server closes such a connection to make room only if the connection is silent, and if no other
// connection can be closed.
//
// # Answers to clients
//
// A client that the Server cannot relay to the endpoint of its host gets one of these answers.
// "Fallback" and "NoName" are endpoints that replace the answer if they are set. "A close" is a
// close without an answer; "or a close" applies if CloseUnknownTLS is set:
//
//	                    HTTP            TLS
//	host not found      404             alert 112 unrecognized_name, or Fallback, or a close
//	no host named       400, or NoName  alert 109 or 112, or NoName, or a close
//	no valid host name  400             alert 112
//	malformed           400             alert 50 decode_error
//	wrong ECH           none            alert 47 illegal_parameter, 50, 51 or 109
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
// After an answer, the Server sends FIN. Then it reads and drops the bytes that the client still
// sends, because a TCP reset could destroy the answer if the Server closed without reading them. It
// closes when the client sends FIN, when the client has acknowledged no byte of the answer for 2 s,
// or when HalfCloseTimeout has passed since the accept. Above MaxConns, MaxConnsPerSource or
// MaxPeeking, the Server closes without an answer.
//
// "Host not found" means that the error of the lookup wraps hostlookup.ErrNotFound. First bytes
// that are malformed, too large, or name an invalid host reach no upstream, not even NoName or
// Fallback.
//
// # Endpoints
//
// An endpoint is an address or a name, with or without a port. End a complete name with a dot, such
// as "web.shop.svc.cluster.local.". Without the dot, a resolver with the setting "ndots:5" of
// Kubernetes first tries the name with each search domain of /etc/resolv.conf.
//
// The Server checks each address after DNS and before it connects; see Server.AllowEndpoints. If a
// name has several addresses, it tries them in turn, and sends the client's bytes only after a
// connection succeeds. The Server does not cache DNS answers: for a name with more than a few
// connections a second, use a caching resolver nearby.
//
// The Server refuses an endpoint that leads back to it: an address that it listens on, or the
// destination address in the PROXY header of the client's connection. With ProxyOut 2, the Server
// also refuses a connection that it has made itself and that comes back to it through other
// routers. Only MaxConns bounds a loop through a balancer that sends no PROXY header, so list its
// addresses in DenyEndpoints.
//
// # The PROXY protocol
//
// The Server accepts PROXY headers, of version 1 and 2, only from the networks in ProxyFrom,
// because the address in a header replaces that of the client. A header has at most 4 KiB, in any
// number of TCP segments. The result depends on the header:
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
// The Server ignores up to 16 empty lines, with CRLF or LF, before an HTTP/1 request (RFC 9112
// section 2.2). It does not pass them on, because some servers close the connection after an empty
// line.
//
// # Encrypted ClientHello
//
// With ECHKeys, the Server is the client-facing server of the split mode of RFC 9849. It decrypts the
// ClientHello of a TLS client, and looks up the inner name. The backend gets the inner ClientHello in
// the place of the outer one, and later bytes unchanged. Package ech lists the checks. A client that
// breaks RFC 9849 gets an alert. Stats.ECHResult is the result.
//
// The backend of an inner name must confirm the inner hello in its ServerHello (RFC 9849 section 7.2).
// If the backend does not, the handshake of the client fails. A server of crypto/tls confirms the
// inner hello, and needs no key for this.
//
// If no key opens the hello, the Server routes by the outer name, and the backend gets the unchanged
// bytes of the client. This happens to a client with an old ECHConfig. To get a new ECHConfig, the
// client needs retry_configs from the backend of the public name. A server of crypto/tls sends them
// if Config.EncryptedClientHelloKeys is set. If the backend of the public name completes the handshake
// without retry_configs, Chromium connects again without ECH, and everybody sees the inner name.
//
// After an inner hello, the Server waits for the first bytes of the backend, within DialTimeout. If
// they are a HelloRetryRequest, the Server decrypts the second hello of the client too. From then on,
// two goroutines relay this connection, which needs more memory. The relay of all other connections
// is the same as without ECH.
//
// # QUIC
//
// ServeQUIC routes QUIC connections (HTTP/3) by the server name in their ClientHello to a server
// that speaks QUIC at the endpoint. Package quicrelay documents how the Server finds the connection
// of a datagram, and which clients can move to another address. These are the differences from TLS
// connections:
//
//   - The upstream sees the address of the Server. The PROXY protocol has no form for QUIC, so
//     ProxyOut has no effect, and ServeQUIC fails if ProxyRequired is set.
//   - The packets that close a connection are encrypted. So a connection counts for the limits
//     until no datagram has come for QUICIdleTimeout (2 min).
//   - MaxConns, MaxConnsPerSource and MaxPeeking apply to the QUIC connections of all sockets
//     together, without TCP. For QUIC, a MaxPeeking of 0 means 1,000. QUIC connections use at most a
//     quarter of the descriptors. If neither MaxConns nor the process has a limit, there are at most
//     10,000 QUIC connections.
//   - MaxConnsPerHost and MaxRatePerHost count the TCP and QUIC connections of a host together.
//   - Of the addresses of a name, the Server uses only the first one that the checks allow.
//     DialTimeout, IdleTimeout, HalfCloseTimeout, KeepAlive, DialContext and Page have no effect.
//   - The client gets an alert as the error code of a QUIC CONNECTION_CLOSE frame: 0x100 plus the
//     number of the alert (RFC 9001 section 4.8), which Chromium shows as ERR_QUIC_PROTOCOL_ERROR.
//     If the port of the upstream is closed, the alert is 80. Where a TLS client gets a close, the
//     QUIC client waits for its own time-out.
//   - If a client moves to another address, its datagrams are a new connection. The Server makes no
//     lookup for this connection, does not count it for MaxConnsPerHost, and calls Finished for it
//     too.
//
// # What it does not do
//
// The Server sees only the first request of an HTTP connection. Later requests may name other
// hosts, but reach the same upstream, which should answer 421 for a host that it does not serve.
// Without ECHKeys, and for QUIC, the Server sees only the outer name of an encrypted ClientHello. It
// does not balance load or check health. It logs only accept errors; to log each connection, use
// Finished.
package sniproxy
