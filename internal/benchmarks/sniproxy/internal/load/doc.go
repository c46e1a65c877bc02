// Package load is both ends of a router under test, its clients and its backends, with
// raw sockets, one epoll and one thread: so cheap that one core of load keeps a core of
// router busy, and so plain that a round trip shows the router rather than the load.
//
// A client sends the ClientHello that crypto/tls makes, with a host name put into it,
// and no TLS after it: a router that passes streams on cannot tell. What the client
// wants of the backend stands in the random of the hello. Backends answer with their
// number, so that a connection that reached the wrong one is a failure.
package load
