// Package sniproxy routes TCP connections by the host name that their first bytes carry:
// the server name of a TLS ClientHello, the Host of an HTTP/1 request, the :authority of an
// HTTP/2 request with prior knowledge. It ends neither TLS nor HTTP, holds no
// certificate, and gives the upstream exactly the bytes that the client sent.
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
// # A connection
//
// Each goes through the same phases, each with its own bound, none of which has an effect
// on a later one:
//
//	accept  MaxConns, MaxConnsPerSource
//	peek    HelloTimeout, MaxHello, MaxPeeking
//	lookup  LookupTimeout
//	dial    DialTimeout, over all addresses of the endpoint
//	relay   IdleTimeout
//
// Then Finished is told of it, once. The relay carries each direction on until it has
// ended, so a half-closed connection is none that is lost; IdleTimeout bounds it too.
//
// The subpackages do the parts and can be used without this one: peek parses, hostlookup
// finds endpoints and remembers them, relay moves the bytes. On Linux a connection takes
// two descriptors and about 1 KiB while it is idle, and no goroutine, buffer or pipe.
//
// # What clients are told
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
// A page and an alert reach the client: the router ends its direction and reads on for a
// moment, so that no reset overtakes them. Beyond a limit connections are closed without a word.
//
// Only a lookup that says hostlookup.ErrNotFound makes a host unknown. What is malformed,
// too large or names no valid host goes to no upstream at all, NoName and Fallback included.
//
// # Endpoints
//
// What a lookup answers is checked before a connection is made, after DNS: see
// Server.AllowEndpoints. An endpoint that is a name may have several addresses; they are
// tried in turn, and each may be because the client's bytes are sent only to the one that
// takes the connection. Addresses are not cached here: of a name with more than a
// few connections a second, let a resolver nearby answer.
//
// Loops end where they begin: an endpoint must not be an address on which this Server
// listens, nor the one that a PROXY header says the client connected to. With
// Server.ProxyOut 2 a connection that has been through other routers and comes back is
// recognised too. Other loops, through balancers that say nothing, are bounded by MaxConns
// only: list their addresses in DenyEndpoints.
//
// # The PROXY protocol
//
// Headers of version 1 and 2 are taken from the networks in ProxyFrom and from nobody else:
// who may send one says where the client is. Version 2 with LOCAL is a proxy speaking for
// itself. A header may come in any number of segments, of 4 KiB in all.
//
// # What it does not do
//
// Of HTTP it sees the first request of a connection. With keep-alive later ones may name
// other hosts, and go where the first one went: let the upstream refuse hosts that are
// not its own (421). Of an encrypted ClientHello it sees the outer name. It does
// not balance, check health, know QUIC, or log: Finished has what a log line takes.
package sniproxy
