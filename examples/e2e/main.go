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
	"context"
	_ "embed"
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
	"github.com/headgate/headgate/examples/internal/cli"
)

const program = "e2e"

//go:embed README.md
var readme string // its table of flags groups the help

var commandLine = cli.Program{
	Name:    program,
	Summary: "Runs the end-to-end test on Kubernetes clusters of its own.",
	Readme:  readme,
	Commands: []cli.Command{
		{
			Example: "e2e -only smoke",
			Exits: map[int]string{
				cli.ExitOK:     "all scenarios succeeded",
				cli.ExitFailed: "a scenario failed, or a signal ended the test",
				cli.ExitUsage:  exitUsage,
			},
			Run: runTest,
		},
		{
			Name: "lab", Args: "CLUSTER …",
			Summary: "Starts small Kubernetes clusters with these names, and a shell on a machine at their edge. Each cluster has three nodes, in the zones a, b and c. KUBECONFIG names all clusters, and the context of a cluster is its name. Everything ends with the shell.",
			Example: "e2e lab eu-1 eu-2",
			Exits: map[int]string{
				cli.ExitOK:     "the last command of the shell succeeded",
				cli.ExitFailed: "the clusters did not start, or the last command of the shell failed",
				cli.ExitUsage:  exitUsage,
			},
			Run: runLab,
		},
	},
}

const exitUsage = "a flag is wrong, or the machine lacks something that the test needs"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "pod" { // only the lab runs this command, so -h does not show it
		os.Exit(runPod(os.Args[2:]))
	}
	if sandbox.Current() == sandbox.Init {
		sandbox.RunInit()
	}
	cli.Main(func(ctx context.Context, inv cli.Invocation) int {
		if sandbox.Current() == sandbox.Inside {
			inv.Environ = nil // the process outside the sandbox has already warned of mistyped variables
		}
		return commandLine.Run(ctx, inv)
	})
}

// settings are the values of the flags.
type settings struct {
	only       cli.Strings
	bin, logs  string
	keep, list bool
}

// registerFiles defines the flags that the test and the lab have.
func (s *settings) registerFiles(fs *flag.FlagSet) {
	fs.StringVar(&s.bin, "bin", "", "`directory` that build.sh built into; if empty, the directory of e2e if the programs are there, and otherwise bin")
	fs.StringVar(&s.logs, "logs", "", "`directory` to keep the logs of all processes in; if empty, only a test that fails keeps them, in a new directory in /tmp")
}

// passBin makes the path of the bin directory absolute, and passes it in the environment to the
// process inside the sandbox. In a chroot, this process may be unable to find its own path.
func (s *settings) passBin() error {
	if s.bin == "" {
		s.bin = "bin"
		if exe, err := os.Executable(); err == nil && executable(filepath.Join(filepath.Dir(exe), "kube-apiserver")) {
			s.bin = filepath.Dir(exe)
		}
	}
	var err error
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return err
	}
	return os.Setenv(cli.EnvPrefix+"BIN", s.bin) // the variable of the flag -bin
}

// runTest is the command without a name.
func runTest(ctx context.Context, inv cli.Invocation) int {
	var s settings
	fs := cli.NewFlagSet(program)
	s.registerFiles(fs)
	fs.Var(&s.only, "only", cli.Meaning("only", "a scenario, or several with commas between them", "all scenarios except the long ones if missing"))
	fs.BoolVar(&s.keep, "keep", false, "leave everything running at the end, until Ctrl-C, and say how to look around")
	fs.BoolVar(&s.list, "list", false, "list the scenarios")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if s.list {
		for _, sc := range scenarios.All() {
			fmt.Fprintf(inv.Stdout, "%-12s %s\n", sc.Name, sc.About)
		}
		return cli.ExitOK
	}
	selected, err := scenario.Select(scenarios.All(), strings.Join(s.only, ","))
	if err == nil {
		err = s.passBin()
	}
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	if sandbox.Current() == sandbox.Inside {
		return inside(ctx, inv, s, selected)
	}
	if err := missing(s.bin); err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	return outside(inv, program, false)
}

// The function "outside" runs this command again inside the sandbox, and returns the exit code.
func outside(inv cli.Invocation, command string, foreground bool) int {
	code, err := sandbox.RunOutside(foreground)
	if err != nil {
		return inv.Fail(cli.ExitUsage, command, "%v", err)
	}
	if code > cli.ExitUsage { // a signal has killed a stage of the sandbox
		return inv.Fail(cli.ExitFailed, command, "the sandbox ended with exit status %d", code)
	}
	return code
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
func inside(ctx context.Context, inv cli.Invocation, s settings, selected []scenario.Scenario[*scenarios.Env]) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
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
		return inv.Fail(cli.ExitUsage, program, "%v", err)
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
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	if s.keep && ctx.Err() == nil {
		fmt.Print(l.Guide(sandbox.HostPID()))
		<-ctx.Done()
	}
	if failed {
		return cli.ExitFailed
	}
	return cli.ExitOK
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
