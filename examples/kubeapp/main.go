// Kubeapp turns flags into the Kubernetes objects of an application: a Namespace, one Service for
// one Deployment, a PodDisruptionBudget and an Ingress. It prints the objects as YAML, or applies
// them to a cluster if the change drops no node port.
//
//	kubeapp -name tracks -namespace media -image tracks:1.4.2 -port http=8080 -node-port 30080
//	kubeapp -name tracks … -apply
//	kubeapp check -f manifests -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig
//
// README.md in this directory describes the flags. The packages nodeselect/kubeapp,
// nodeselect/kubeapp/change and nodeselect/kubeapp/apply do the work.
//
// The exit status is 0 after success, 3 if the change would hurt traffic, 1 after an error, and 2
// if the flags cannot be used. The standard output lists each object that kubeapp has applied, also
// after an error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/kubeapp/apply"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

const program = "kubeapp"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Makes the Kubernetes objects of an application, and prints them or applies them to a cluster.",
	Readme:  readme,
	Commands: []cli.Command{
		{
			Example: "kubeapp -name tracks -namespace media -image tracks:1.4.2 -port http=8080 -node-port 30080 -apply",
			Exits:   map[int]string{cli.ExitDiffer: "nothing is applied, because the change would hurt traffic"},
			Run:     runObjects,
		},
		{
			Name: "check", Summary: "Says which parts of a change would hurt traffic.",
			Example: "kubeapp check -f manifests -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig",
			Exits:   map[int]string{cli.ExitDiffer: "the change would hurt traffic"},
			Run:     runCheck,
		},
	},
}

var run = commandLine.Run

func main() { cli.Main(run) }

func runObjects(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	kubeconn.LogTo(nil) // log nothing: the errors of the requests are enough
	if !s.apply {
		text, err := kubeapp.AppendYAML(nil, s.objects.List()...)
		if err == nil {
			_, err = inv.Stdout.Write(text)
		}
		if err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		return cli.ExitOK
	}
	code, err := s.applyObjects(ctx, inv)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return code
}

// applyObjects checks the change, and applies the objects if the change would not hurt traffic.
func (s *settings) applyObjects(ctx context.Context, inv cli.Invocation) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	p := inv.Progress("reading the objects of the cluster")
	defer p.Stop()
	a, err := s.applier(inv)
	if err != nil {
		return 0, err
	}
	a.Force, a.DryRun = s.force, s.dryRun
	c := change.Change{Uses: s.uses, New: change.Objects{
		Services: []*corev1.Service{s.objects.Service}, Deployments: []*appsv1.Deployment{s.objects.Deployment},
	}}
	if c.Old, err = a.Read(ctx, c.New.AllNamespaces()...); err != nil {
		return 0, err
	}
	if refused := report(inv.Stderr, c.Check()); refused > 0 {
		fmt.Fprintf(inv.Stderr, "%s: nothing is applied, because the change would hurt traffic\n", program)
		return cli.ExitDiffer, nil
	}
	p.Set("applying %d objects", len(s.objects.List()))
	results, err := a.Apply(ctx, s.objects.List()...)
	for _, r := range results {
		fmt.Fprintf(inv.Stdout, "%s: %s\n", r.Object, r.Action)
	}
	if _, conflict := errors.AsType[*apply.ConflictError](err); conflict {
		err = fmt.Errorf("%w\n-force-conflicts takes these fields from the other programs", err)
	}
	return cli.ExitOK, err
}

// report prints findings, which are the harmful parts of a change. It returns the number of those
// findings that no annotation allows.
func report(w io.Writer, findings []change.Finding) (refused int) {
	for _, f := range findings {
		fmt.Fprintln(w, f)
	}
	return len(change.Refused(findings))
}
