//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/sandbox"
	"github.com/headgate/headgate/examples/internal/cli"
)

const labCommand = program + " lab"

// runLab is the command "lab". The process outside the sandbox, which creates the sandbox, and the
// process inside both call runLab.
func runLab(ctx context.Context, inv cli.Invocation) int {
	var s settings
	fs := cli.NewFlagSet(labCommand)
	s.registerFiles(fs)
	var names []string
	names, inv.Args = cli.CutArguments(fs, inv.Args)
	if code, done := inv.Parse(fs); done {
		return code
	}
	if len(names) == 0 {
		return inv.Fail(cli.ExitUsage, labCommand, "want the name of a cluster (-h shows an example)")
	}
	if err := s.passBin(); err != nil {
		return inv.Fail(cli.ExitUsage, labCommand, "%v", err)
	}
	if sandbox.Current() == sandbox.Inside {
		return labInside(ctx, inv, s, names)
	}
	if err := missing(s.bin, "kubectl"); err != nil {
		return inv.Fail(cli.ExitUsage, labCommand, "%v", err)
	}
	return outside(inv, labCommand, true)
}

func labInside(ctx context.Context, inv cli.Invocation, s settings, names []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	const dir = sandbox.Dir + "/lab"
	l, err := lab.New(lab.Options{Bin: s.bin, Dir: dir, Logs: cmp.Or(s.logs, dir+"/logs")})
	if err != nil {
		return inv.Fail(cli.ExitUsage, labCommand, "%v", err)
	}
	code, err := labShell(ctx, l, s.bin, names)
	if err != nil {
		return inv.Fail(cli.ExitFailed, labCommand, "%v", err)
	}
	return min(code, cli.ExitFailed) // a shell may end with an exit code that means something else here
}

// labShell starts the clusters and the shell, and returns the exit status of the shell.
func labShell(ctx context.Context, l *lab.Lab, bin string, names []string) (int, error) {
	start := time.Now()
	var specs []lab.ClusterSpec
	for _, name := range names {
		spec := lab.ClusterSpec{Name: name}
		for _, zone := range []string{"a", "b", "c"} {
			spec.Nodes = append(spec.Nodes, lab.NodeSpec{Name: name + "-" + zone, Zone: zone})
		}
		specs = append(specs, spec)
	}
	clusters, err := l.StartClusters(ctx, specs...)
	if err != nil {
		return 0, err
	}
	config, err := l.WriteKubeconfig(clusters)
	if err != nil {
		return 0, err
	}
	edge, err := l.Edge(clusters)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	kubelets, kctx := errgroup.WithContext(ctx)
	defer func() {
		cancel()
		_ = kubelets.Wait()
	}()
	for _, c := range clusters {
		kubelets.Go(func() error { return c.RunKubelets(kctx) })
	}
	fmt.Printf("The clusters run after %s. This shell is on the machine %q, %s. The lab ends with the shell.\n", time.Since(start).Round(time.Second), edge.Name, edge.Addr)
	shell := exec.CommandContext(ctx, "bash")
	shell.Env = append(os.Environ(), "KUBECONFIG="+config, "PATH="+bin+":"+os.Getenv("PATH"))
	shell.Stdin, shell.Stdout, shell.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := edge.Do(shell.Start); err != nil {
		return 0, err
	}
	var exit *exec.ExitError
	if err := shell.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return max(shell.ProcessState.ExitCode(), 0), nil
}
