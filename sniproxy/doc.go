// Package sniproxy routes TCP connections by host name. It reads the name from the first bytes of
// the client: the server name in a TLS ClientHello, the Host of an HTTP/1 request, or the
// :authority of an HTTP/2 request with prior knowledge. It terminates neither TLS nor HTTP and has
// no certificate: the upstream gets exactly the bytes that the client sent.
//
//	cache := &hostlookup.Cache{Source: &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}}
//	srv := &sniproxy.Server{Lookup: cache, MaxPeeking: 10_000}
//	go srv.Serve(l443, peek.TLS)
//	go srv.Serve(l80, peek.HTTP1|peek.HTTP2)
//	…
//	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
//	defer cancel()
//	err := srv.Shutdown(ctx)
//
// # The phases of a connection
//
// Each connection goes through the same phases. Each phase has its own bounds:
//
//	accept  MaxConns, MaxConnsPerSource
//	peek    HelloTimeout, MaxHello, MaxPeeking
//	lookup  LookupTimeout
//	dial    DialTimeout, over all addresses of the endpoint
//	relay   IdleTimeout
//
// At the end, the Server calls Finished once. A connection with one ended direction (TCP
// half-close) stays open until the other direction ends or IdleTimeout expires.
//
// The subpackages do the parts, and can be used alone: peek parses the first bytes, hostlookup
// finds endpoints and caches them, relay moves the bytes. On Linux an idle connection takes two
// descriptors and about 1 KiB, and no goroutine, buffer or pipe.
//
// # Answers to clients
//
// A client that is not relayed gets an answer:
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
//	loop                508             alert 80
//
// After an answer, the Server ends its direction and reads for up to 2 s, so that no RST destroys
// the answer. The Server closes a connection that exceeds a limit without an answer.
//
// Only an error that wraps hostlookup.ErrNotFound makes a host unknown. A connection that is
// malformed, too large, or names an invalid host reaches no upstream, neither NoName nor Fallback.
//
// # Endpoints
//
// The Server checks each address before it connects, after DNS: see Server.AllowEndpoints. An
// endpoint that is a name may have several addresses. The Server tries them in turn; this is safe,
// because it sends the client's bytes only over a connection that was made. The Server does not
// cache DNS answers. For a name with more than a few connections a second, use a caching resolver
// nearby.
//
// The Server refuses a connection that leads back to it: to an address that it listens on, to the
// address that the client connected to according to a PROXY header, and, with ProxyOut 2, a
// connection that comes back through other routers. Only MaxConns bounds a loop through a balancer
// that sends no PROXY header. List the addresses of such balancers in DenyEndpoints.
//
// # The PROXY protocol
//
// The Server accepts headers of version 1 and 2 only from the networks in ProxyFrom, because a
// header replaces the address of the client. A header of version 2 with the command LOCAL means
// that the proxy itself is the client. A header may arrive in any number of segments, and has at
// most 4 KiB.
//
// # What it does not do
//
// The Server sees only the first request of an HTTP connection. With keep-alive, later requests may
// name other hosts, and reach the same upstream: let the upstream refuse foreign hosts with status
// 421. The Server sees only the outer name of an encrypted ClientHello. It does not balance load,
// check health, or support QUIC. It logs only accept errors: make access logs with Finished.
package sniproxy
