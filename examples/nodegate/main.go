// Nodegate says which nodes of a Kubernetes cluster somebody may take away now, for a reboot or a
// replacement. It grants nodes to the programs that replace them; a granted node counts as away.
//
//	nodegate may worker-7 -cluster eu-1=kubeconfig:eu-1.kubeconfig -report http://edge-1:9709/report.json
//	nodegate may worker-7 … -take -holder kured -ttl 1h -wait 10m
//	nodegate wave … -max-away 2 -estimate
//	nodegate drain worker-7 … -timeout 10m
//	nodegate grants …
//	nodegate release worker-7 …
//	nodegate protect … -tool karpenter
//	nodegate serve … -listen :9711 -token-file token
//
// README.md describes the flags. Package nodeselect/disruption/gate/keeper does the work.
//
// A script may let the nodes go only after the exit status 0.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

const program = "nodegate"

func main() { cli.Main(run) }

// command is a subcommand.
type command interface {
	register(*flag.FlagSet)
	// check checks the flags and arguments of the command, and returns an error for the first wrong
	// flag or argument. The argument "nodes" contains the arguments of the command line that are
	// neither the name of the command nor flags.
	check(nodes []string) error
	run(ctx context.Context, inv cli.Invocation, s *settings, nodes []string) (code int, err error)
}

var commandLine = cli.Program{
	Name:    program,
	Summary: "Says which nodes of a Kubernetes cluster may go now, and grants them to the programs that replace them.",
	Readme:  readme,
	Commands: []cli.Command{
		{
			Name: "may", Args: "NODE …", Summary: "Says whether nodes may go now.",
			Example: "nodegate may worker-7 -cluster eu-1=kubeconfig:FILE -report http://edge-1:9709/report.json -take -holder kured",
			Exits:   map[int]string{cli.ExitOK: "the nodes may go", cli.ExitFailed: "nodegate cannot decide, so the nodes must stay", cli.ExitDiffer: "at least one node must stay now"},
			Run:     runCommand("may", func() command { return &may{} }),
		},
		{
			Name: "wave", Args: "[NODE …]", Summary: "Lists the nodes that may go at the same time.",
			Example: "nodegate wave -cluster eu-1=kubeconfig:FILE -report http://edge-1:9709/report.json -max-away 2 -estimate",
			Run:     runCommand("wave", func() command { return &wave{} }),
		},
		{
			Name: "drain", Args: "NODE", Summary: "Cordons a node, and waits until no request to it is left.",
			Example: "nodegate drain worker-7 -cluster eu-1=kubeconfig:FILE -report http://edge-1:9709/report.json -timeout 10m",
			Run:     runCommand("drain", func() command { return &drain{} }),
		},
		{
			Name: "grants", Summary: "Lists the grants.",
			Example: "nodegate grants -cluster eu-1=kubeconfig:FILE -report http://edge-1:9709/report.json",
			Run:     runCommand("grants", func() command { return &grants{} }),
		},
		{
			Name: "release", Args: "NODE", Summary: "Ends the grant of a node.",
			Example: "nodegate release worker-7 -cluster eu-1=kubeconfig:FILE",
			Run:     runCommand("release", func() command { return &release{} }),
		},
		{
			Name: "serve", Summary: "Answers the programs that replace nodes, over HTTP.",
			Example: "nodegate serve -cluster eu-1=in-cluster -report http://edge-1:9709/report.json -listen :9711 -token-file token",
			Run:     runCommand("serve", func() command { return &serve{} }),
		},
		{
			Name: "protect", Summary: "Keeps tools that do not ask away from nodes that must stay.",
			Example: "nodegate protect -cluster eu-1=in-cluster -report http://edge-1:9709/report.json -tool karpenter",
			Run:     runCommand("protect", func() command { return &protectCommand{} }),
		},
	},
}

var run = commandLine.Run

// runCommand returns the function that runs a command with this name.
func runCommand(name string, newCommand func() command) cli.Run {
	return func(ctx context.Context, inv cli.Invocation) int { return runWith(ctx, inv, name, newCommand()) }
}

func runWith(ctx context.Context, inv cli.Invocation, name string, cmd command) int {
	s := &settings{}
	fs := cli.NewFlagSet(program + " " + name)
	s.register(fs)
	cmd.register(fs)
	var nodes []string
	nodes, inv.Args = cli.CutArguments(fs, inv.Args)
	if code, done := inv.Parse(fs); done {
		return code
	}
	err := s.check(name)
	if err == nil {
		err = cmd.check(nodes)
	}
	if err != nil {
		return inv.Fail(cli.ExitUsage, program+" "+name, "%v (-h shows the flags)", err)
	}
	kubeconn.LogTo(nil) // log nothing: the errors of the requests are enough
	code, err := cmd.run(ctx, inv, s, nodes)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program+" "+name, "%v", err)
	}
	return code
}

// may is "nodegate may".
type may struct {
	take, json bool
	holder     string
	ttl, wait  time.Duration
}

func (c *may) register(fs *flag.FlagSet) {
	fs.BoolVar(&c.take, "take", false, "if the answer is yes, grant the nodes to -holder, so that they count as away from now on")
	fs.StringVar(&c.holder, "holder", "", cli.Meaning("holder"))
	fs.DurationVar(&c.ttl, "ttl", keeper.DefaultTTL, "time within which the holder must start")
	fs.DurationVar(&c.wait, "wait", 0, "longest time to wait for the answer yes; 0 means that nodegate asks once")
	fs.BoolVar(&c.json, "json", false, cli.Meaning("json"))
}

func (c *may) check(nodes []string) error {
	switch {
	case len(nodes) == 0:
		return errors.New("name at least one node")
	case c.take:
		return keeper.CheckTake(c.holder, c.ttl)
	case c.holder != "":
		return errors.New("-holder needs -take")
	}
	return nil
}

// askEvery is how long "nodegate may -wait" waits after the answer "no" before it reads the reports
// again and decides again.
const askEvery = 2 * time.Second

func (c *may) run(ctx context.Context, inv cli.Invocation, s *settings, nodes []string) (int, error) {
	defer inv.Progress("waiting for the answer yes for %s", strings.Join(nodes, ", ")).Stop()
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	deadline := time.Now().Add(c.wait)
	for {
		answer, err := c.ask(ctx, k, nodes)
		if err == nil && answer.OK || !time.Now().Add(askEvery).Before(deadline) {
			if err != nil {
				return 0, fmt.Errorf("cannot tell, so no: %w", err)
			}
			code := cli.ExitOK
			if !answer.OK {
				code = cli.ExitDiffer
			}
			return code, print(inv.Stdout, c.json, answer, answer.String())
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return 0, fmt.Errorf("cannot tell, so no: %w", ctx.Err())
		}
	}
}

func (c *may) ask(ctx context.Context, k *keeper.Keeper, nodes []string) (gate.Answer, error) {
	if c.take {
		return k.Take(ctx, c.holder, c.ttl, nodes...)
	}
	return k.May(ctx, nodes...)
}

// wave is "nodegate wave".
type wave struct {
	steps          int
	estimate, json bool
}

func (c *wave) register(fs *flag.FlagSet) {
	fs.IntVar(&c.steps, "search-steps", 0, "`number` of steps of the search for a larger wave")
	fs.BoolVar(&c.estimate, "estimate", false, "also print about how many waves all nodes need")
	fs.BoolVar(&c.json, "json", false, cli.Meaning("json"))
}

func (c *wave) check([]string) error {
	if c.steps < 0 || c.steps > 10_000_000 {
		return errors.New("-search-steps must be from 0 to 10000000")
	}
	return nil
}

func (c *wave) run(ctx context.Context, inv cli.Invocation, s *settings, nodes []string) (int, error) {
	defer inv.Progress("searching the nodes that may go at the same time").Stop()
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	w, err := k.Wave(ctx, nodes, c.steps, c.estimate)
	if err != nil {
		return 0, err
	}
	text := strings.Join(w.Nodes, "\n")
	if w.Estimate != nil {
		text += "\n# " + w.Estimate.String()
	}
	return cli.ExitOK, print(inv.Stdout, c.json, w, text)
}

// grants is "nodegate grants".
type grants struct{ json bool }

func (c *grants) register(fs *flag.FlagSet) { fs.BoolVar(&c.json, "json", false, cli.Meaning("json")) }

func (c *grants) check(nodes []string) error { return noArguments(nodes) }

func (c *grants) run(ctx context.Context, inv cli.Invocation, s *settings, _ []string) (int, error) {
	defer inv.Progress("reading the grants").Stop()
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	all, err := k.Refresh(ctx)
	if err != nil {
		return 0, err
	}
	now, lines := time.Now(), []string{}
	for _, g := range all {
		line := fmt.Sprintf("%s, age %v", g, now.Sub(g.Taken).Round(time.Second))
		if g.Expired(now) {
			line += ", its TTL is over"
		}
		lines = append(lines, line)
	}
	return cli.ExitOK, print(inv.Stdout, c.json, keeper.List(all, now), strings.Join(lines, "\n"))
}

// release is "nodegate release".
type release struct{ holder string }

func (c *release) register(fs *flag.FlagSet) {
	fs.StringVar(&c.holder, "holder", "", cli.Meaning("holder", "without it, nodegate ends the grant of any holder"))
}

func (c *release) check(nodes []string) error {
	if len(nodes) != 1 {
		return errors.New("name one node")
	}
	return nil
}

func (c *release) run(ctx context.Context, inv cli.Invocation, s *settings, nodes []string) (int, error) {
	defer inv.Progress("ending the grant of %s", nodes[0]).Stop()
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	found, err := k.Release(ctx, nodes[0], c.holder)
	if err == nil && !found {
		err = fmt.Errorf("there is no grant for %s", nodes[0])
	}
	return cli.ExitOK, err
}

func noArguments(nodes []string) error {
	if len(nodes) > 0 {
		return fmt.Errorf("unexpected argument %q", nodes[0])
	}
	return nil
}

// print writes the value v as JSON if asJSON is true, and otherwise the text.
func print(w io.Writer, asJSON bool, v any, text string) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(v)
	}
	if text != "" {
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}
