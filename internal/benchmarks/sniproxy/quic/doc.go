// Command quic compares snirouter as a router of QUIC with nginx as a plain UDP proxy.
//
//	cd internal/benchmarks && go run ./sniproxy/quic           # about a minute
//	cd internal/benchmarks && go run ./sniproxy/quic -quick    # seconds, to check that it works
//
// nginx of Debian cannot route QUIC by server name, because ssl_preread does not read QUIC; so here
// it sends every client to the same backend. HAProxy and dlundquist's sniproxy do not relay UDP.
//
// It needs Linux and two processors. It writes a table in Markdown to standard output.
//
// # Method
//
// The router has one processor for itself, and works with one thread. The client and the backend
// are one process on another processor. All traffic is on loopback. In each round, the command runs
// every router once, and measures:
//
//   - handshakes: a client with a new port sends the two datagrams of a hello with a post-quantum key
//     share, made by quic-go. The backend answers with three datagrams of 1,200 bytes, and the client
//     sends a datagram of 60 bytes;
//   - round trips: 64 bytes to the backend and back, one at a time;
//   - bulk: the backend sends datagrams of 1,200 bytes on 4 connections. It sends 16 datagrams on a
//     connection. When the client has received all 16, the backend sends the next 16. The command
//     measures this twice. For the figures "bundles", the backend sends 16 datagrams with one
//     system call (UDP_SEGMENT), as servers such as quic-go do. For the figures "singly", it makes
//     a system call for each datagram.
//
// After the hello, the datagrams only look like QUIC, because their contents are not encrypted.
// Processor time is the time of all processes of the router, from the clock of the scheduler.
package main
