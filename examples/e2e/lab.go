//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/sandbox"
)

const labUsage = `e2e lab eu-1 eu-2
Starts small Kubernetes clusters with these names, and a shell on a machine at their edge. Each
cluster has three nodes, in the zones a, b and c. KUBECONFIG names all clusters, and the context of
a cluster is its name. Everything ends with the shell.

`

// labMain runs "e2e lab", and returns the exit status. main calls labMain twice: in the process
// outside the sandbox, which creates the sandbox, and in the process inside.
func labMain(args []string) int {
	f := flag.NewFlagSet("e2e lab", flag.ContinueOnError)
	logs := f.String("logs", "", "the `directory` to keep the logs of all processes in (default: they disappear with the lab)")
	f.Usage = func() {
		fmt.Fprint(f.Output(), labUsage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	bin, err := filepath.Abs(cmp.Or(os.Getenv(binEnv), defaultBin()))
	if err == nil {
		err = os.Setenv(binEnv, bin)
	}
	if err != nil {
		fail(err)
	}
	if sandbox.Current() == sandbox.Inside {
		return labInside(bin, *logs, f.Args())
	}
	if len(f.Args()) == 0 {
		f.Usage()
		return 2
	}
	if err := missing(bin, "kubectl"); err != nil {
		fail(err)
	}
	code, err := sandbox.RunOutside(true)
	if err != nil {
		fail(err)
	}
	return code
}

func labInside(bin, logs string, names []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	const dir = sandbox.Dir + "/lab"
	l, err := lab.New(lab.Options{Bin: bin, Dir: dir, Logs: cmp.Or(logs, dir+"/logs")})
	if err != nil {
		fail(err)
	}
	code, err := labShell(ctx, l, bin, names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e lab:", err)
		return 2
	}
	return code
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
