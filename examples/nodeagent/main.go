// Nodeagent answers HAProxy's agent checks for a Kubernetes node: on a fixed port
// for the node itself, and on a port of its own for every Service that is
// annotated with one.
//
//	nodeagent -node node-a -listen :9707 -dir manifests -admin 127.0.0.1:9708
//
// It reads the objects of the cluster from a directory of manifests, as kubectl
// get nodes,services -A -o yaml prints them, and reads them again whenever they
// change. What it answers and why is told by package agentcheck/kube.
package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/agentcheck/kube"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
)

const program = "nodeagent"

func main() { cli.Main(run) }

func run(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(program, "nodeagent -node node-a -listen :9707 -dir manifests -admin 127.0.0.1:9708")
	node := fs.String("node", "", "`name` of the node to answer for")
	listen := fs.String("listen", ":"+strconv.Itoa(kube.DefaultNodeAgentPort), "`address` of the node's agent; Services' agents listen on the same host")
	dir := fs.String("dir", "", "`directory` with the cluster's nodes and services, as kubectl get -o yaml or -o json prints them")
	prefix := fs.String("annotation-prefix", nodeselect.DefaultPrefix, "`prefix` of the annotations that are followed")
	admin := fs.String("admin", "", "`address` of /metrics, /healthz and /readyz; none if empty")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if *node == "" || *dir == "" {
		return inv.Fail(cli.ExitUsage, program, "-node and -dir are needed (-h shows the flags)")
	}
	host, port, err := splitListen(*listen)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "-listen %s: %v", *listen, err)
	}

	a := newAgent(kube.Rules{
		Node:        *node,
		Port:        port,
		Annotations: nodeselect.Annotations{Prefix: *prefix},
	}, host, inv.Logger())
	group, ctx := errgroup.WithContext(ctx)
	if *admin != "" {
		l, err := net.Listen("tcp", *admin)
		if err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		if addr, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
			a.rules.Reserved = []uint16{addr.Port()}
		}
		group.Go(func() error { return cli.Admin{Gatherer: a.metrics.registry, Ready: a.ready}.Serve(ctx, l) })
	}
	group.Go(func() error { return a.run(ctx) })
	group.Go(func() error {
		return nodeselect.WatchDir(ctx, *dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
			a.offer(ctx, objects, problems)
		})
	})
	err = group.Wait()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if a.listeners.Shutdown(stop) != nil {
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
