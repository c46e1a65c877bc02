// Command sniproxy compares routers by server name in one run: nginx (ssl_preread),
// HAProxy (TCP mode, splice), sniproxy, tcpproxy, a router in plain Go, and snirouter of
// this project.
//
//	cd internal/benchmarks && go run ./sniproxy            # about five minutes
//	cd internal/benchmarks && go run ./sniproxy -quick     # does it work: half a minute
//
// It needs Linux, two processors, no root, and the routers; those that are missing are
// left out, with a note. Tables in Markdown go to standard output, progress to standard
// error, and all figures of all rounds to the file that -json names.
//
// # How it measures
//
// The router has one processor to itself and one thread of work, and the load (clients
// and backends, one thread) has another. All traffic is on loopback. A client sends the
// ClientHello of crypto/tls, post-quantum key share and all, with one of the known
// names; the router passes the stream to one of two backends, and the client checks that
// it is the right one. There is no TLS behind the hello, for the router cannot tell.
//
// In each round each router is started afresh, one after the other (A, B, C, A, B, C),
// so that what disturbs the machine disturbs all. With few names known it is measured
// with few connections held open and then with more; started again with many names, with
// few connections held open. Each time:
//
//   - connections: 16 at a time, each gets an answer of 1 KiB and the backend's close;
//   - round trips: 64 bytes to the backend and back, one at a time, over each of the
//     open connections in turn;
//   - memory and descriptors: what they have grown by since none was open, divided by
//     the open connections, each of which has carried round trips;
//   - bulk, once a round: from the backend, over 4 connections;
//   - the descriptors that are left two seconds after the clients have closed.
//
// Processor time is that of all processes of the router, from the scheduler's clock of
// each, to the nanosecond, and so includes what the kernel did for them; what it did for
// them on the other processor is the load's, for each router alike. Resident memory
// leaves out what the kernel holds for sockets and pipes.
//
// # How the routers are set
//
// Package peer writes their configuration and says why each setting is as it is.
package main
