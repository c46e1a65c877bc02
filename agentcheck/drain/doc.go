// Package drain stops a server behind a balancer without a failed request. It works for servers of
// net/http with HTTP/1 and HTTP/2, for other TCP servers, and for programs that run another server
// as a child process.
//
//	d := &drain.Drainer{Settings: drain.Settings{Delay: 10 * time.Second, Timeout: 15 * time.Second}}
//	mux := http.NewServeMux()
//	mux.Handle("/readyz", d.ReadyHandler(nil))
//	mux.Handle("/", app)
//	err := d.Run(ctx, &http.Server{Addr: ":8080", Handler: mux}) // drains on SIGTERM
//
// # The steps of a drain
//
//	serving    Readiness succeeds.
//	draining   Readiness fails, for the time Settings.Delay. The server still serves new requests,
//	           because balancers may not have noticed the failing readiness yet. With HTTP/1, each
//	           response has "Connection: close". With HTTP/2, responses in the second half of Delay
//	           come with GOAWAY.
//	waiting    Run has closed the listeners. It waits for requests and connections, at most for
//	           Settings.Timeout.
//	done       Nothing is open any more.
//	expired    Timeout is over, and something is still open.
//
// A drain begins with [Drainer.Begin], with a request to [Control], or with SIGTERM under
// [Drainer.Run]. [Drainer.Undo] ends it, unless [Drainer.Shutdown] has been called; Run calls it on
// SIGTERM. Without Run, the listeners stay open in the steps waiting and done, and the program
// still serves every request.
//
// An idle HTTP connection does not delay the end of the drain, because Run closes it. A client that
// has sent a request during Delay has no idle connection any more: the response has told the client
// to close its connection.
//
// # What tells the balancer
//
//   - [Drainer.ReadyHandler] answers HTTP health checks of a balancer, and the readiness probe of a
//     kubelet.
//   - A Drainer is an agentcheck.Handler. During a drain, it answers HAProxy's agent-check with
//     "drain" and the progress. So HAProxy's statistics page shows how many connections and
//     requests the drain waits for.
//   - [Control] is the endpoint POST /drain, for operators and preStop hooks. [Request] is its
//     client, for a subcommand of a program whose container has no shell.
//
// # Choosing the times
//
//	Delay    >= fall x (inter + timeout of a check) of the slowest balancer, plus its time to react
//	         twice that for HTTP/2
//	Timeout  >= the longest request
//	terminationGracePeriodSeconds >= Delay + Timeout + 2 s
//
// README.md in the directory of this package has the table for kubelet, HAProxy and cloud balancers,
// and the preStop hooks.
//
// # HTTP/2
//
// When a server of net/http sends GOAWAY, it drops the requests that are on their way to the server
// at this moment. HTTP/2 allows clients to repeat these requests. But two clients do not repeat
// them, so the requests fail: HAProxy 2.6 without retries, and net/http if the request has a body
// and no GetBody. So the Drainer sends GOAWAY only in the second half of Delay: at that time, a
// balancer that checks readiness has stopped sending requests. For this reason, make Delay twice as
// long for HTTP/2. The Drainer sends GOAWAY with a response, and only if the connection has no
// other running request.
//
// One case can still fail: an HTTP/2 connection comes through a TCP balancer, and its client always
// has several requests open. This connection gets GOAWAY only when Run closes the listeners. The
// client can then lose a POST that it cannot repeat.
//
// # What it does not do
//
// Package drain does not close hijacked connections. It does not see messages inside connections
// that are not HTTP. It does not coordinate the replicas of a program: use a PodDisruptionBudget to
// limit how many pods drain at the same time. It writes no log; see Drainer.Changed.
package drain
