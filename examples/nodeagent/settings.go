package main

import (
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
)

// settings of an agent, from its flags.
type settings struct {
	rules      nodeagent.Rules
	host       string // of all ports
	dir        string
	kubeconfig string
	files      []string
	admin      string
}

// parseSettings reads the flags. Where nothing is left to do, done is true and code
// the exit code.
func parseSettings(inv cli.Invocation) (s settings, code int, done bool) {
	fs := cli.NewFlagSet(program, "nodeagent -node node-a -listen :9707 -admin :9708\n  nodeagent drain -admin 127.0.0.1:9708 -wait 10s")
	node := fs.String("node", "", "`name` of the node to answer for")
	listen := fs.String("listen", ":"+strconv.Itoa(nodeagent.DefaultNodeAgentPort), "`address` of the node's agent; Services' agents listen on the same host")
	fs.StringVar(&s.dir, "dir", "", "`directory` with the cluster's nodes and services, as kubectl get -o yaml or -o json prints them, instead of an API server")
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "`FILE[:CONTEXT]` that says how to reach the API server; without it the pod's own account, or outside of a pod what kubectl would use")
	fs.StringVar(&s.rules.Annotations.Prefix, "annotation-prefix", nodeselect.DefaultPrefix, "`prefix` of the annotations that are followed")
	maxDrain := fs.String("max-drain", "30%", "`share` of the cluster's nodes that may drain at once; further ones wait. One may in any case, never all of them but with 100%. All agents need the same")
	holdDown := fs.Duration("hold-down", nodeagent.DefaultHoldDown, "for how long a node goes on draining when nothing asks for it any more")
	zeroDelay := fs.Duration("zero-weight-delay", nodeagent.DefaultZeroWeightDelay, "for how long a service whose weight falls to 0 keeps the weight before, so that HAProxy sees first what rises elsewhere: longer than the terminators' -agent-inter")
	var files, labels, taints cli.Strings
	fs.Var(&files, "drain-file", "`file` that drains the node while it exists; may be given several times")
	fs.Var(&labels, "drain-label", "`key` of a label that drains a node that has it, unless it is false; may be given several times")
	fs.Var(&taints, "drain-taint", "`key` of a taint that drains a node that has it; may be given several times")
	fs.StringVar(&s.admin, "admin", "", "`address` of /metrics, /healthz and /readyz, and of the drain command; none if empty")
	if code, done := inv.Parse(fs); done {
		return s, code, done
	}
	fail := func(format string, args ...any) (settings, int, bool) {
		return s, inv.Fail(cli.ExitUsage, program, format, args...), true
	}
	if *node == "" {
		return fail("-node is needed (-h shows the flags)")
	}
	if s.dir != "" && s.kubeconfig != "" {
		return fail("-dir and -kubeconfig exclude each other")
	}
	var err error
	s.rules.Node = *node
	if s.host, s.rules.Port, err = splitListen(*listen); err != nil {
		return fail("-listen %s: %v", *listen, err)
	}
	if s.rules.MaxDrain, err = cli.ParseShare(*maxDrain); err != nil {
		return fail("-max-drain %s: %v", *maxDrain, err)
	}
	if s.rules.MaxDrain == 0 {
		return fail("-max-drain %s: want a share of more than 0%%", *maxDrain)
	}
	s.rules.HoldDown = *holdDown
	if *holdDown == 0 {
		s.rules.HoldDown = -1
	}
	s.rules.ZeroWeightDelay = *zeroDelay
	if *zeroDelay == 0 {
		s.rules.ZeroWeightDelay = -1
	}
	s.files = files
	signals := nodeagent.DefaultSignals(s.rules.Annotations)
	for _, key := range labels {
		if faults := validation.IsQualifiedName(key); faults != nil {
			return fail("-drain-label %s: %s", key, faults[0])
		}
		signals = append(signals, nodeagent.Labelled(key))
	}
	if len(taints) > 0 {
		signals = append(signals, nodeagent.Tainted(taints...))
	}
	s.rules.Signals = signals
	return s, cli.ExitOK, false
}
