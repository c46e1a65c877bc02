package main

import (
	_ "embed"
	"errors"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings of an agent, from its flags.
type settings struct {
	rules      nodeagent.Rules
	host       string // the host of all ports
	dir        string
	kubeconfig string
	files      []string
	admin      cli.AdminFlags
	logFormat  cli.LogFormat
}

// parseSettings reads the flags. If done is true, the program must exit with the exit status in
// code.
func parseSettings(inv cli.Invocation) (s settings, code int, done bool) {
	fs := cli.NewFlagSet(program)
	fs.StringVar(&s.rules.Node, "node", "", "`name` of the node to answer for")
	listen := fs.String("listen", ":"+strconv.Itoa(nodeagent.DefaultPort), cli.Meaning("listen", "the agents of Services listen on the same host"))
	fs.StringVar(&s.dir, "dir", "", cli.Meaning("dir", "nodeagent reads the nodes and services"))
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", cli.Meaning("kubeconfig"))
	fs.StringVar(&s.rules.Annotations.Prefix, "annotation-prefix", nodeselect.DefaultPrefix, cli.Meaning("annotation-prefix"))
	maxDrain := fs.String("max-drain", "30%", cli.Meaning("max-drain", "at least one node; further nodes wait. Below 100%, at least one node keeps its traffic. All agents need the same value"))
	holdDown := fs.Duration("hold-down", nodeagent.DefaultHoldDown, "how long a node continues to drain after its last drain request ended")
	zeroWeightDelay := fs.Duration("zero-weight-delay", nodeagent.DefaultZeroWeightDelay, "how long a service keeps its last weight after its annotation fell to 0, so that HAProxy first sees a weight that rises in another cluster: longer than -agent-inter of the terminators")
	var labels, taints cli.Strings
	fs.Var((*cli.Strings)(&s.files), "drain-file", "`file` that drains the node while it exists; may be given several times")
	fs.Var(&labels, "drain-label", "`key` of a label that drains a node, unless its value is false; may be given several times")
	fs.Var(&taints, "drain-taint", "`key` of a taint that drains a node; may be given several times")
	s.admin.Register(fs, "/metrics, /healthz and /readyz", "the drain command")
	s.logFormat.Register(fs)
	if code, done := inv.Parse(fs); done {
		return s, code, done
	}
	fail := func(format string, args ...any) (settings, int, bool) {
		return s, inv.Fail(cli.ExitUsage, program, format, args...), true
	}
	if s.rules.Node == "" {
		return fail("-node is needed (-h shows the flags)")
	}
	if err := s.admin.Check(); err != nil {
		return fail("%v", err)
	}
	if s.dir != "" && s.kubeconfig != "" {
		return fail("-dir and -kubeconfig exclude each other")
	}
	var err error
	if s.host, s.rules.Port, err = splitListen(*listen); err != nil {
		return fail("-listen %s: %v", *listen, err)
	}
	if s.rules.MaxDrain, err = cli.ParseShare(*maxDrain); err != nil {
		return fail("-max-drain %s: %v", *maxDrain, err)
	}
	if s.rules.MaxDrain == 0 {
		return fail("-max-drain %s: want a share of more than 0%%", *maxDrain)
	}
	s.rules.HoldDown = cli.NoneIfZero(*holdDown)
	s.rules.ZeroWeightDelay = cli.NoneIfZero(*zeroWeightDelay)
	s.rules.Signals = nodeagent.DefaultSignals(s.rules.Annotations)
	for _, key := range labels {
		if faults := validation.IsQualifiedName(key); faults != nil {
			return fail("-drain-label %s: %s", key, faults[0])
		}
		s.rules.Signals = append(s.rules.Signals, nodeagent.Labelled(key))
	}
	if len(taints) > 0 {
		s.rules.Signals = append(s.rules.Signals, nodeagent.Tainted(taints...))
	}
	return s, cli.ExitOK, false
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
