package drain_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/agentcheck/drain"
)

// A server drains when its context ends, as it does on SIGTERM. The port for /drain must not be
// reachable for the clients of the server.
func Example() {
	d := &drain.Drainer{Settings: drain.Settings{Delay: 50 * time.Millisecond}}
	d.Changed = func(p drain.Progress) { fmt.Println("stopping:", p.Stopping) }
	mux := http.NewServeMux()
	mux.Handle("/readyz", d.ReadyHandler(nil))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })

	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	fmt.Println(d.Run(ctx, &http.Server{Addr: "127.0.0.1:0", Handler: mux}))
	fmt.Println(d.Progress())
	// Output:
	// stopping: true
	// <nil>
	// done; 0 connections, 0 requests
}
