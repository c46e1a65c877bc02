// Drill simulates faults, such as the loss of a zone, and says which changes a terminator
// (examples/terminator) would apply or refuse, and how many servers each service would keep. Drill
// changes nothing in the clusters and in HAProxy.
//
//	drill -routes routes.yaml -cluster eu-1=dir:manifests/eu-1 -cluster eu-2=kubeconfig:eu-2.kubeconfig
//
// README.md in this directory describes the drills, the output and the policy. Package
// haproxycfg/controller/drill does the work.
//
// The exit status is 0 if all drills meet the policy, 3 if a drill exceeds a limit of the policy, 1
// after an error, and 2 if the flags cannot be used.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/drill"
	"github.com/headgate/headgate/haproxycfg/deploy"
)

const program = "drill"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Simulates faults, such as the loss of a zone, and says what a terminator would do. It changes nothing.",
	Readme:  readme,
	Commands: []cli.Command{{
		Example: "drill -routes routes.yaml -cluster eu-1=dir:manifests/eu-1",
		Exits:   map[int]string{cli.ExitOK: "all drills meet the policy", cli.ExitDiffer: "a drill exceeds a limit of the policy"},
		Run:     runDrills,
	}},
}

var run = commandLine.Run

func main() { cli.Main(run) }

func runDrills(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	code, err := s.run(ctx, inv)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return code
}

func (s *settings) run(ctx context.Context, inv cli.Invocation) (code int, err error) {
	kubeconn.LogTo(nil) // the errors of the sources are enough
	p := inv.Progress("reading %d clusters", len(s.Clusters))
	defer p.Stop()
	runner := drill.Runner{Controller: s.newController, Start: s.start, MaxDrain: s.maxDrain}
	if runner.Clusters, err = s.readClusters(ctx, inv); err != nil {
		return 0, err
	}
	if err := s.printProblems(inv); err != nil {
		return 0, err
	}
	drills, err := runner.Standard()
	if err != nil {
		return 0, err
	}
	if err := s.policy.Check(drills); err != nil {
		return 0, fmt.Errorf("-policy: %s: %w", s.policyFile, err)
	}
	if drills, err = s.choose(drills); err != nil {
		return 0, err
	}
	ended := 0
	p.Set("0 of %d drills", len(drills))
	results, err := runner.RunAll(ctx, drills, func(r drill.Result) {
		ended++
		p.Set("%d of %d drills, the last one was %.40s", ended, len(drills), r.Drill)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, errors.New("interrupted")
	case err != nil:
		return 0, err
	}
	report := drill.NewReport(s.policy, results)
	if err := s.print(inv.Stdout, report); err != nil {
		return 0, err
	}
	if len(report.Violations) > 0 {
		return cli.ExitDiffer, nil
	}
	return cli.ExitOK, nil
}

func (s *settings) newController() *controller.Controller {
	c := s.Controller(&deploy.Dir{}, nil)
	c.ForceHint = func(id string) string { return "to apply it: POST /force?id=" + id + ", or terminator -once -force" }
	return c
}

// readClusters reads the nodes and services of each cluster once. It prints the problems that it
// finds in manifests.
func (s *settings) readClusters(ctx context.Context, inv cli.Invocation) (clusters []drill.Cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(s.StartTimeout, 1))
	defer cancel()
	for _, k := range s.Clusters {
		var source controller.ClusterSource = controller.Manifests{Dir: k.Dir, LocalEndpoints: s.LocalEndpoints}
		if k.Live() {
			source = &controller.Live{Config: k.Config, LocalEndpoints: s.LocalEndpoints, AllowEmpty: true}
		}
		state, err := source.Read(ctx, controller.Start{Selector: s.Builder.NodeSelector()})
		switch {
		case err != nil:
		case !state.Synced:
			err = state.Err
		case len(state.Objects.Nodes) == 0:
			err = errors.New("it has no nodes")
		}
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", k.Name, err)
		}
		for _, p := range state.Problems {
			fmt.Fprintf(inv.Stderr, "%s: %s: %s: %v\n", program, kindOf(p.Warning), k.Name, p)
		}
		clusters = append(clusters, drill.Cluster{Name: k.Name, Objects: state.Objects})
	}
	return clusters, nil
}

// printProblems prints the problems of the declarations.
func (s *settings) printProblems(inv cli.Invocation) error {
	declared, err := s.newController().Routes.Read()
	for _, p := range declared.Problems {
		fmt.Fprintf(inv.Stderr, "%s: problem: %v\n", program, p)
	}
	return err
}

func kindOf(warning bool) string {
	if warning {
		return "warning"
	}
	return "problem"
}

// choose returns the drills whose names or kinds -only lists. Without -only, it returns all drills.
func (s *settings) choose(all []drill.Drill) ([]drill.Drill, error) {
	if len(s.only) == 0 {
		return all, nil
	}
	var chosen []drill.Drill
	for _, d := range all {
		if slices.Contains(s.only, d.Name) || slices.Contains(s.only, d.Kind) {
			chosen = append(chosen, d)
		}
	}
	for _, name := range s.only {
		if !slices.ContainsFunc(all, func(d drill.Drill) bool { return d.Name == name || d.Kind == name }) {
			var names []string
			for _, d := range all {
				names = append(names, d.Name)
			}
			return nil, fmt.Errorf("-only: %q: no such drill; there are %s", name, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

func (s *settings) print(w io.Writer, r drill.Report) error {
	if s.json {
		return r.WriteJSON(w)
	}
	if err := r.WriteTable(w); err != nil || !s.details {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return r.WriteDetails(w)
}
