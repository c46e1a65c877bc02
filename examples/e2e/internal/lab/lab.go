//go:build linux

// Package lab runs Kubernetes clusters and other machines on one computer. Every machine is a
// network namespace on one bridge. Every program is an ordinary process in one of these namespaces.
//
// A [Lab] has [Machine]s, for terminators and clients, and [Cluster]s. A cluster has a control
// machine with a real etcd, kube-apiserver and kube-controller-manager, and [Node]s. A [Node] has a
// real kube-proxy in nftables mode, and [Pod]s. A [Pod] is a small HTTP server in its own
// namespace. There is no kubelet, no scheduler and no container runtime: the lab writes the status
// of Nodes and Pods itself.
//
//	l, err := lab.New(lab.Options{Bin: "bin", Dir: "/run/lab", Logs: "/run/lab/logs"})
//	clusters, err := l.StartClusters(ctx, lab.ClusterSpec{Name: "eu-1", Nodes: []lab.NodeSpec{{Name: "eu-1-a", Zone: "a"}}})
//	app, err := clusters[0].Deploy(ctx, lab.App{Namespace: "media", Name: "tracks"})
//	client, err := l.Machine("client")
//	res, err := client.Client().Get(...)
//
// The package must run as root in a sandbox (package sandbox), which removes the named namespaces.
// It uses fixed addresses and ports.
package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

// Options are the directories of a lab.
type Options struct {
	// Bin is the directory of the programs etcd, kube-apiserver, kube-controller-manager,
	// kube-proxy and e2e.
	Bin string
	// Dir is the directory for certificates, kubeconfigs and the data of etcd. Logs is the
	// directory with one log file for each process. The lab creates both if they are missing.
	Dir, Logs string
}

// Lab is a set of machines on one network. Goroutines may call its methods concurrently.
type Lab struct {
	opts Options
	// links is the number of veth pairs so far. The names of their ends on the host contain this
	// number.
	links atomic.Int64

	mu        sync.Mutex
	machines  map[string]*Machine
	others    int
	clusters  []*Cluster
	processes []*Process
}

// New creates the network of a lab.
func New(opts Options) (*Lab, error) {
	for _, dir := range []*string{&opts.Bin, &opts.Dir, &opts.Logs} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		*dir = abs
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	l := &Lab{opts: opts, machines: make(map[string]*Machine)}
	return l, ipBatch("",
		"link set lo up",
		// Switch off spanning tree and multicast snooping, so that a new port of the bridge
		// forwards packets immediately.
		"link add lab0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		fmt.Sprintf("addr add %s/%d dev lab0", Gateway, Network.Bits()),
		"link set lab0 up",
	)
}

// Dir returns the path of a file in the lab's own directory.
func (l *Lab) Dir(elem ...string) string {
	return filepath.Join(append([]string{l.opts.Dir}, elem...)...)
}

// Cluster returns the cluster called name, or nil.
func (l *Lab) Cluster(name string) *Cluster {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.clusters {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Died returns an error for every process that ended without Stop or Kill, with the end of its log.
// It returns nil if all processes run.
func (l *Lab) Died() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, p := range l.processes {
		errs = append(errs, p.died())
	}
	return errors.Join(errs...)
}

// Process returns the process called name, or nil.
func (l *Lab) Process(name string) *Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func (l *Lab) own(p *Process) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.processes {
		if other.Name != p.Name {
			continue
		}
		if other.Running() {
			return fmt.Errorf("lab: a process %q is running", p.Name)
		}
		l.processes[i] = p
		return nil
	}
	l.processes = append(l.processes, p)
	return nil
}

// lookPath finds a program in the bin directory of the lab, or on PATH.
func (l *Lab) lookPath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	if path := filepath.Join(l.opts.Bin, name); executable(path) {
		return path
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return name
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Until calls "check" again and again until it returns nil, and returns how long this took. If
// check still fails after the time "within", the error contains the text "what", the last error of
// check, and the last lines of each log.
func Until(ctx context.Context, what string, within time.Duration, check func(context.Context) error, logs ...*Process) (time.Duration, error) {
	const every = 20 * time.Millisecond
	start := time.Now()
	deadline, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for {
		err := check(deadline)
		if err == nil {
			return time.Since(start), nil
		}
		// After the deadline, the function "check" may fail only because of the deadline. So keep
		// the error of the last call before the deadline: this error says more.
		if last == nil || deadline.Err() == nil {
			last = err
		}
		select {
		case <-deadline.Done():
			if ctx.Err() != nil {
				return time.Since(start), fmt.Errorf("lab: waiting for %s: %w", what, context.Cause(ctx))
			}
			errs := []error{fmt.Errorf("lab: waited %s for %s: %w", within, what, last)}
			for _, p := range logs {
				if p != nil {
					errs = append(errs, tail(p.Log, 15))
				}
			}
			return time.Since(start), errors.Join(errs...)
		case <-time.After(every):
		}
	}
}

// ipBatch runs commands of ip(8), one in each line, in a network namespace. The argument "netns" is
// the name of the namespace; "" means the lab's own namespace.
func ipBatch(netns string, lines ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: ip %s: %w: %s: in:\n%s", strings.Join(args, " "), err, out, strings.Join(lines, "\n"))
	}
	return nil
}

// EntryNode returns the node whose port received a request, or nil if the cluster does not have
// this node. It finds the node by the source address in the pod's answer: kube-proxy masquerades
// with the address of the node. With externalTrafficPolicy Local, kube-proxy does not masquerade,
// and the request enters through the node of the pod.
func (c *Cluster) EntryNode(answer pod.Answer) *Node {
	source, err := netip.ParseAddr(answer.Source)
	if err == nil {
		for _, n := range c.Nodes() {
			if source == n.Addr || source == n.Plan.PodGateway {
				return n
			}
		}
	}
	return c.Node(answer.Node)
}

// Guide returns instructions for a user who wants to inspect a running lab. pid is the process ID
// of the first process in the lab's sandbox.
func (l *Lab) Guide(pid int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, `
Everything is left running, until Ctrl-C. To look around:
  nsenter -a -t %-7d bash            a shell inside, beside the bridge
  ip netns exec MACHINE bash            a shell on a machine, from there
  export KUBECONFIG=%s/CLUSTER/admin.kubeconfig
  ls %s
Machines:
`, pid, l.opts.Dir, l.opts.Logs)
	for _, name := range slices.Sorted(maps.Keys(l.machines)) {
		fmt.Fprintf(&b, "  %-24s %s\n", name, l.machines[name].Addr)
	}
	fmt.Fprintln(&b, "Clusters:")
	for _, c := range l.clusters {
		fmt.Fprintf(&b, "  %-24s %s\n", c.Name, c.Server())
	}
	return b.String()
}
