// Command sniproxy compares routers by server name in one run: nginx (ssl_preread), HAProxy (TCP
// mode, splice), sniproxy, tcpproxy, a router in plain Go, and headgate's snirouter.
//
//	cd internal/benchmarks && go run ./sniproxy            # about five minutes
//	cd internal/benchmarks && go run ./sniproxy -quick     # half a minute, to check that it works
//	cd internal/benchmarks && go run ./sniproxy -hellos    # half a minute, counts named hellos
//
// It needs Linux, two processors, no root, and the routers. If a router is missing, it leaves the
// router out and prints a note. It writes tables in Markdown to standard output, progress to
// standard error, and all figures of all rounds to the file of -json.
//
// # Method
//
// The router has one processor to itself and one thread of work. The load (clients and backends,
// one thread) has another processor. All traffic is on loopback. A client sends the ClientHello of
// crypto/tls, including the post-quantum key share, with one of the known names. The router passes
// the stream to one of two backends, and the client checks that this is the right backend. After
// the hello, the client sends plain bytes instead of TLS. The router cannot notice that, because it
// passes the stream on.
//
// In each round, the benchmark runs every router once, one after another (A, B, C, A, B, C), so a
// disturbance of the machine affects all of them. It starts a router with few known names, and
// measures the router first with few open connections and then with many. Then it starts the router
// again with many known names, and measures it with few open connections. Each of these
// measurements consists of:
//
//   - connections: 16 at a time; each gets an answer of 1 KiB, and the backend closes it;
//   - round trips: 64 bytes to the backend and back, one round trip at a time; each open connection
//     has its turn;
//   - memory and descriptors: the growth since the router had no open connection, divided by the
//     number of open connections. Each of these connections has carried round trips;
//   - bulk, only in the first measurement of a round: a transfer from the backend to the client,
//     over 4 connections;
//   - leaks, only before the router ends: the descriptors that the router still has open two
//     seconds after the clients have closed all connections.
//
// Processor time is the sum over all processes of the router. The benchmark reads it from the
// scheduler's clock of each process, which has a resolution of 1 ns. Processor time includes the
// work of the kernel for these processes, but not the work that the kernel does for a router on the
// processor of the load. Resident memory does not include the memory of the kernel for sockets and
// pipes.
//
// # Hellos
//
// With -hellos, the command measures nothing. It counts for each router which hellos of real clients
// reach the right backend:
//
//   - Each client makes a handshake with a backend, without a router. The backend keeps the hello of
//     the client.
//   - The command sends this hello through the router again, cut into segments and records in the
//     ways that package hellos lists. The hello has another field "random" each time, so the command
//     can tell which hello a backend has received. A hello counts if the backend of its server name
//     has received exactly the sent bytes within 3 s after the last segment.
//   - Each client makes a whole handshake through the router. The handshake counts if the client gets
//     its answer and if the backend of the server name has completed the handshake.
//
// A client that is not on the machine is left out, with a note. With -quick, the command fails if a
// hello or a handshake does not get through snirouter.
//
// # Settings of the routers
//
// Package peer writes the configurations and explains each setting.
package main
