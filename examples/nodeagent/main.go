// Nodeagent answers HAProxy's agent checks on a Kubernetes node. It answers for the node on a fixed
// port, and for every Service on the agent port in the annotations of the Service.
//
//	nodeagent -node node-a -admin :9708                        in a pod, or with the configuration of kubectl
//	nodeagent -node node-a -kubeconfig agent.kubeconfig:eu-1   with one context of a kubeconfig file
//	nodeagent -node node-a -dir manifests                      with files instead of an API server
//
// Package agentcheck/nodeagent describes the answers. README.md describes how to run the program
// and drain a node.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
)

const program = "nodeagent"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Answers HAProxy's agent checks for a Kubernetes node and for its services.",
	Readme:  readme,
	Commands: []cli.Command{
		{Example: "nodeagent -node node-a -listen :9707 -admin :9708 -admin unix:/run/headgate/nodeagent.sock", Run: runAgent},
		{
			Name: "drain", Summary: "Drains the node of a running nodeagent.",
			Example: "nodeagent drain -admin unix:/run/headgate/nodeagent.sock -timeout 10s",
			Exits:   map[int]string{cli.ExitOK: "every HAProxy knows of the drain, or -undo has ended it"},
			Run:     runDrain,
		},
	},
}

var run = commandLine.Run

func main() {
	// Collect garbage twice as often as usual, so that the agent needs less memory: other programs
	// on its node need the memory too. The agent allocates little, so the additional collections
	// cost little CPU time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	cli.Main(run)
}

func runAgent(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	log := inv.Logger(s.logFormat, slog.LevelInfo)
	kubeconn.LogTo(log)
	cli.ReadAgainOnHangup(ctx, log)
	a, err := newAgent(s, log)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	if s.admin.Wanted(ctx) {
		admin := cli.Admin{Gatherer: a.metrics, Ready: a.ready, Detail: a.detail, Extra: drainHandler(ctx, a, log)}
		listeners, err := s.admin.Listen(ctx, &admin)
		if err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		for _, addr := range cli.TCPAddrs(listeners) {
			a.Watcher.Rules.Reserved = append(a.Watcher.Rules.Reserved, addr.Port())
		}
		group.Go(func() error { return admin.Serve(ctx, listeners...) })
	}
	group.Go(func() error { return a.Run(ctx) })
	err = group.Wait()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if a.Listeners.Shutdown(stop) != nil {
		a.log.Warn("cut off checks that did not end within 2 s")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}
