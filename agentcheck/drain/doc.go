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
// [Drainer.Run]. [Drainer.Undo] ends the drain; after SIGTERM this is not possible. Without Run,
// the listeners stay open, and the program still serves every request.
//
// An idle HTTP connection does not delay the end of the drain, because Run closes it.
//
// # What tells the balancer
//
//   - [Drainer.ReadyHandler] answers HTTP health checks of a balancer, and the readiness probe of a
//     kubelet.
//   - A Drainer is an agentcheck.Handler. During a drain, it answers HAProxy's agent-check with
//     "drain" and the progress, which HAProxy's statistics page shows.
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
// README.md in the directory of this package has the table for kubelet, HAProxy and cloud
// balancers, and the preStop hooks.
//
// # HTTP/2
//
// When a server of net/http sends GOAWAY, it drops the requests that are on their way to it. Some
// clients do not repeat them: HAProxy 2.6 without retries, and net/http if the request has a body
// and no GetBody. So the Drainer sends GOAWAY only in the second half of Delay, when balancers that
// check readiness have stopped sending requests.
//
// One case can still fail: the HTTP/2 client is behind a TCP balancer and always has several
// requests open. It gets GOAWAY only when Run closes the listeners, and can lose a POST that it
// cannot repeat.
//
// # What it does not do
//
// Package drain does not close hijacked connections, and writes no log; see Drainer.Changed. It
// does not coordinate the replicas of a program: use a PodDisruptionBudget to limit how many pods
// drain at the same time.
package drain
