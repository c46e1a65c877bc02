// Nodeagent answers HAProxy's agent checks for a Kubernetes node: on a fixed port
// for the node itself, and on a port of its own for every Service that is
// annotated with one.
//
//	nodeagent -node node-a -admin :9708                        in a pod, or as kubectl would connect
//	nodeagent -node node-a -kubeconfig agent.kubeconfig:eu-1   as a context of a file says
//	nodeagent -node node-a -dir manifests                      from files, with no API server
//
// It follows the cluster by watches that cost the same however many nodes there are,
// and needs no more rights than to list and watch nodes and services; directory
// kubernetes holds a DaemonSet. With -dir it reads the objects as kubectl get
// nodes,services -A -o yaml prints them, again whenever they change. What it answers
// and why is told by package agentcheck/nodeagent.
//
// A service's weight is in force as soon as HAProxy asks again, one that falls to 0 after
// another -zero-weight-delay: so a service moves from one cluster to another without a gap
// if both are annotated at once.
//
// -admin serves /metrics, /healthz and /readyz. While the API server is away the last
// answers stay in force: /readyz goes on to say ok, and says since when and why below. It
// also says so of a service whose port cannot be opened, which is tried again.
//
// A node is drained when its cluster asks for it, while the file of -drain-file is
// there, and from
//
//	nodeagent drain -admin 127.0.0.1:9708 -wait 10s
//
// on, which asks the running agent and returns when every balancer that has asked
// lately has been told. nodeagent drain -off takes that back, and so does a restart of
// the agent. Of more than -max-drain of the cluster's nodes the further ones wait,
// whatever asks.
package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
)

const program = "nodeagent"

func main() {
	// An agent does little and shares its machine with those who do more: half the
	// usual room for garbage costs it next to nothing.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	cli.Main(run)
}

func run(ctx context.Context, inv cli.Invocation) int {
	if len(inv.Args) > 0 && inv.Args[0] == "drain" {
		inv.Args = inv.Args[1:]
		return runDrain(ctx, inv)
	}
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	log := inv.Logger()
	kubeconn.LogTo(log)
	a, err := newAgent(s, log)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	if s.admin != "" {
		l, err := net.Listen("tcp", s.admin)
		if err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		if addr, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
			a.Watcher.Rules.Reserved = []uint16{addr.Port()}
		}
		admin := cli.Admin{Gatherer: a.metrics.registry, Ready: a.ready, Detail: a.detail, Extra: drainHandler(ctx, a, log)}
		group.Go(func() error { return admin.Serve(ctx, l) })
	}
	group.Go(func() error { return a.Run(ctx) })
	err = group.Wait()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if a.Listeners.Shutdown(stop) != nil {
		a.log.Warn("checks that did not end are cut off")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

func splitListen(address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("want a port, 1 to 65535")
	}
	return host, uint16(n), nil
}
