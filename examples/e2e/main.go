//go:build linux

// E2e runs headgate's end-to-end test. It starts real etcd, kube-apiserver,
// kube-controller-manager, kube-proxy and HAProxy, and headgate's binaries. Each node and each pod
// is a network namespace.
//
//	./build.sh && bin/e2e
//	bin/e2e lab eu-1 eu-2    a shell beside two clusters, to try headgate by hand
//
// It needs Linux, root, and some commands; e2e lists the commands that are missing. All processes
// of the test run in namespaces that disappear when e2e ends.
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
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/sandbox"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/examples/e2e/internal/scenarios"
)

// settings are the values of the flags.
type settings struct {
	only, bin, logs string
	keep, list      bool
}

const usage = `e2e -only smoke
Runs the end-to-end test on Kubernetes clusters of its own. Exit status: 0 all is well,
1 a scenario failed, 2 bad usage or something is missing.

`

func main() {
	if len(os.Args) > 1 && os.Args[1] == "pod" {
		os.Exit(runPod(os.Args[2:]))
	}
	if sandbox.Current() == sandbox.Init {
		sandbox.RunInit()
	}
	if len(os.Args) > 1 && os.Args[1] == "lab" {
		os.Exit(labMain(os.Args[2:]))
	}
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fail(err)
	}
	if s.list {
		for _, sc := range scenarios.All() {
			fmt.Printf("%-12s %s\n", sc.Name, sc.About)
		}
		return
	}
	selected, err := scenario.Select(scenarios.All(), s.only)
	if err != nil {
		fail(err)
	}
	if sandbox.Current() == sandbox.Inside {
		os.Exit(inside(s, selected))
	}
	if err := missing(s.bin); err != nil {
		fail(err)
	}
	code, err := sandbox.RunOutside(false)
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

// fail ends the program before it has run a scenario.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	os.Exit(2)
}

// binEnv is the environment variable that passes the bin directory to the stage inside the sandbox.
// In a chroot, that stage may be unable to find its own path.
const binEnv = "HEADGATE_E2E_BIN"

// defaultBin returns the directory of this program if this directory contains the programs of
// Kubernetes. Otherwise, defaultBin returns the value of binEnv, or "bin" if binEnv is not set.
func defaultBin() string {
	if exe, err := os.Executable(); err == nil && executable(filepath.Join(filepath.Dir(exe), "kube-apiserver")) {
		return filepath.Dir(exe)
	}
	return cmp.Or(os.Getenv(binEnv), "bin")
}

func parse(args []string) (settings, error) {
	bin := defaultBin()
	var s settings
	f := flag.NewFlagSet("e2e", flag.ContinueOnError)
	f.StringVar(&s.only, "only", "", "the `scenarios` to run, separated by commas (default all)")
	f.StringVar(&s.bin, "bin", bin, "the `directory` that build.sh built into")
	f.StringVar(&s.logs, "logs", "", "the `directory` to keep the logs of all processes in (default: a temporary one, and only if something fails)")
	f.BoolVar(&s.keep, "keep", false, "leave everything running at the end, until Ctrl-C, and say how to look around")
	f.BoolVar(&s.list, "list", false, "list the scenarios")
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var err error
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return s, err
	}
	return s, os.Setenv(binEnv, s.bin)
}

// missing returns an error that lists everything that the test needs and this machine does not
// have. programs are further programs in the directory bin.
func missing(bin string, programs ...string) error {
	// Debian installs some of these commands in directories that are not in the PATH of an ordinary
	// user.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root: it makes network namespaces")
	}
	for _, c := range []struct{ command, pkg string }{{"ip", "iproute2"}, {"nft", "nftables"}, {"haproxy", "haproxy"}} {
		if _, err := exec.LookPath(c.command); err != nil {
			lacks = append(lacks, fmt.Sprintf("the command %s (Debian: apt-get install %s)", c.command, c.pkg))
		}
	}
	for _, b := range append(programs, "etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "discovery", "e2e", "frontproxy", "kubeapp", "nodeagent", "nodegate", "terminator") {
		if !executable(filepath.Join(bin, b)) {
			lacks = append(lacks, fmt.Sprintf("%s (run build.sh)", filepath.Join(bin, b)))
		}
	}
	if lacks == nil {
		return nil
	}
	return fmt.Errorf("it needs:\n  %s", strings.Join(lacks, "\n  "))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// The function "inside" runs the scenarios and returns the exit status.
func inside(s settings, selected []scenario.Scenario[*scenarios.Env]) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	start := time.Now()
	logf := func(format string, args ...any) {
		fmt.Printf("%7.2fs %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}

	const dir = sandbox.Dir + "/lab"
	logs := s.logs
	if logs == "" {
		logs = filepath.Join(dir, "logs")
	}
	l, err := lab.New(lab.Options{Bin: s.bin, Dir: dir, Logs: logs})
	if err != nil {
		fail(err)
	}
	env := &scenarios.Env{Lab: l, Logf: logf}
	rows := scenario.Run(ctx, env, selected, l.Died, scenarios.WatchSlowness, logf)
	failed := scenario.Failed(rows)
	switch {
	case ctx.Err() != nil:
		logf("interrupted")
	case failed:
		if s.logs == "" {
			if logs, err = keepLogs(logs); err != nil {
				logf("the logs could not be kept: %v", err)
			}
		}
		logf("the logs of all processes are in %s", logs)
	}
	fmt.Println()
	if err := scenario.WriteTable(os.Stdout, rows); err != nil {
		fail(err)
	}
	if s.keep && ctx.Err() == nil {
		fmt.Print(l.Guide(sandbox.HostPID()))
		<-ctx.Done()
	}
	if failed {
		return 1
	}
	return 0
}

// keepLogs copies logs out of the sandbox.
func keepLogs(from string) (string, error) {
	// os.TempDir is inside the sandbox here.
	to, err := os.MkdirTemp("/tmp", "headgate-e2e-")
	if err != nil {
		return "", err
	}
	return to, os.CopyFS(to, os.DirFS(from))
}

// runPod is the main function of a pod.
func runPod(args []string) int {
	var id pod.Identity
	f := flag.NewFlagSet("e2e pod", flag.ContinueOnError)
	listen := f.String("listen", ":8080", "the `address` to answer on")
	f.StringVar(&id.Pod, "name", "", "the pod's name")
	f.StringVar(&id.App, "app", "", "the app it belongs to")
	f.StringVar(&id.Node, "node", "", "the node it runs on")
	f.StringVar(&id.Cluster, "cluster", "", "the cluster it runs in")
	if err := f.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := id.Serve(ctx, *listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
