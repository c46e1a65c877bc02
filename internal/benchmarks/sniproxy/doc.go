// Command sniproxy compares routers by server name in one run: nginx (ssl_preread) with and without
// half-close, HAProxy (TCP mode, splice), sniproxy, tcpproxy, a router in plain Go, and headgate's
// snirouter.
//
//	cd internal/benchmarks && go run ./sniproxy            # about five minutes
//	cd internal/benchmarks && go run ./sniproxy -quick     # half a minute, to check that it works
//	cd internal/benchmarks && go run ./sniproxy -hellos    # half a minute, counts routed hellos
//	cd internal/benchmarks && go run ./sniproxy -scaling   # less than 12 minutes, measures at growing sizes
//	cd internal/benchmarks && go run ./sniproxy -paired    # two minutes, compares processor times precisely
//
// The command needs Linux, two processors and the routers, but no root. It leaves out a missing
// router and prints a note. It writes tables in Markdown to standard output, progress to standard
// error, and all figures to the file of -json.
//
// # Method
//
// The router runs alone on one processor, with one worker thread. The load (clients and backends)
// runs in one thread on another processor. All traffic is on loopback. Only -scaling also measures
// routers on two processors.
//
// A client sends the ClientHello of crypto/tls with one of the known names, and then plain bytes
// instead of TLS. The router passes the stream to one of two backends, and the client checks that
// this is the right backend.
//
// In each round, the benchmark measures each router with these sizes:
//
//   - few known names and few open connections;
//   - few names and many connections;
//   - after a restart of the router: many names and few connections.
//
// Within a round, the benchmark makes the same measurement with one router after another, so a
// disturbance of the machine affects all routers. Each round begins with another router. If
// the time of -limit is too short for another round, the benchmark ends.
//
// Each measurement consists of:
//
//   - connections: 16 at a time; each gets an answer of 1 KiB, and the backend closes it;
//   - round trips: 64 bytes to the backend and back, one round trip at a time; each open connection
//     has its turn;
//   - memory and descriptors: the growth since the router had no open connection, divided by the
//     number of open connections, after each of them has carried round trips;
//   - bulk, only in the first measurement of a round: a transfer from the backend to the client,
//     over 4 connections;
//   - leaks, only in the last measurement before the benchmark stops the router: the descriptors
//     that the router still has open two seconds after the clients have closed all connections.
//
// Processor time is the sum over all processes of the router, from the scheduler's clock (1 ns). It
// includes the work of the kernel for these processes, but not the kernel's work on the processor
// of the load. Resident memory does not include the memory of the kernel for sockets and pipes.
//
// # Scaling
//
// With -scaling, the command measures each router at these growing sizes in every round:
//
//   - on one and on two processors, with 100, 1,000 and 8,000 open connections and 10 names:
//     connections, round trips, memory, and the processor time while all connections are idle;
//   - on one processor, with 100 open connections and 1,000, 100,000 and 1,000,000 names:
//     connections, memory, and the time from the start of the process to the first answer. The
//     router starts again for each number of names.
//
// A router with n processors has n worker threads or processes: worker_processes of nginx, nbthread
// of HAProxy, GOMAXPROCS of the routers in Go. On a machine with two processors, the load shares a
// processor with a router that has two. So the command compares only the processor times of these
// routers. It does not compare their rates or their times of round trips.
//
// The command does not start Traefik with more than 20,000 names, because the start would take too
// long.
//
// With 8,000 open connections, the clients and backends have 16,000 descriptors in one process. A
// router with two descriptors for each connection also has 16,000. This is below 20,000, the limit
// of a process on many machines. A router that needs more than the limit has no figures with 8,000
// connections.
//
// The command compares two routers by the ratio of their figures in the same round.
//
// # Pairs
//
// With -paired, the command runs all routers at the same time on the same processor. In each of many
// short rounds, it measures one router right after another: connections, and round trips. The other
// routers have no clients meanwhile. A disturbance of the machine that is longer than a round affects
// all routers alike. So the ratio of two routers in the same round depends less on the machine than
// their figures. With -other, the command also compares snirouter with another snirouter.
//
// # Hellos
//
// With -hellos, the command only counts, for each router, the hellos of real clients that reach the
// right backend:
//
//   - Each client makes a handshake with a backend, without a router. The backend records the
//     hello.
//   - The command sends the recorded hello through the router several times, divided into segments
//     and TLS records in the ways that package hellos lists. Each time, the field "random" has
//     another value. The hello counts if the backend of its server name has received exactly the
//     sent bytes within 3 s after the last segment.
//   - Each client makes a whole handshake through the router. The handshake counts if the client
//     gets its answer and the backend of the server name has completed the handshake.
//
// The command leaves out a missing client with a note. With -quick, it fails if a hello or a
// handshake does not get through snirouter.
//
// # Settings of the routers
//
// Package peer writes the configurations and explains each setting.
package main
