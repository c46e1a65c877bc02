//go:build linux

// Package lab is Kubernetes clusters and other machines on one machine: every machine
// is a network namespace on one bridge, every program a plain process in one of them.
//
// A [Lab] has [Machine]s, for terminators and clients, and [Cluster]s. A cluster is a
// control machine with a real etcd, kube-apiserver and kube-controller-manager, and
// [Node]s: machines with a real kube-proxy in nftables mode, a Node object, and
// [Pod]s, each of which is a small HTTP server in a namespace of its own that is
// routed through its node. There is no kubelet, no scheduler and no container runtime:
// the lab writes the status of Nodes and Pods itself, and kube-controller-manager makes
// the EndpointSlices from them, so that everything that is downstream of a Pod's status
// is Kubernetes itself.
//
//	l, err := lab.New(lab.Options{Bin: "bin", Dir: "/run/lab", Logs: "/run/lab/logs"})
//	clusters, err := l.StartClusters(ctx, lab.ClusterSpec{Name: "eu-1", Nodes: []lab.NodeSpec{{Name: "eu-1-a", Zone: "a"}}})
//	app, err := clusters[0].Deploy(ctx, lab.App{Namespace: "media", Name: "tracks"})
//	client, err := l.Machine("client")
//	res, err := client.Client().Get(...)
//
// It must run as root in a sandbox (package sandbox): it takes fixed addresses and
// ports, names namespaces, and leaves everything to end with the sandbox.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where a lab finds and keeps things.
type Options struct {
	// Bin holds etcd, kube-apiserver, kube-controller-manager, kube-proxy and e2e.
	Bin string
	// Dir takes certificates, kubeconfigs and etcd's data; Logs a file for each process.
	// Both are made if need be.
	Dir, Logs string
}

// Lab is a set of machines on one network. Its methods may be called from any goroutine.
type Lab struct {
	opts Options
	// links numbers the host's ends of veth pairs.
	links atomic.Int64

	mu        sync.Mutex
	machines  map[string]*Machine
	others    int
	clusters  []*Cluster
	processes []*Process
}

// New makes the network.
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
		// No spanning tree and no multicast snooping: a port forwards at once.
		"link add lab0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		fmt.Sprintf("addr add %s/%d dev lab0", Gateway, Network.Bits()),
		"link set lab0 up",
	)
}

// Dir returns the path of a file of the lab's own directory.
func (l *Lab) Dir(elem ...string) string {
	return filepath.Join(append([]string{l.opts.Dir}, elem...)...)
}

// Cluster returns the cluster of that name, or nil.
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

// Died returns an error for every process that ended though nobody asked it to, with
// the end of its log; nil when all is well.
func (l *Lab) Died() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, p := range l.processes {
		errs = append(errs, p.died())
	}
	return errors.Join(errs...)
}

// Process returns the process of that name, or nil.
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

// lookPath finds a program in the lab's bin directory, else where commands are.
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

// Until calls check until it returns nil, and returns how long that took. After within
// it returns an error that says what was waited for, what check said last, and the ends
// of the logs given.
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
		// That the time is up is no news; what was wrong before is.
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

// ipBatch runs lines of ip(8), in the named namespace or, without one, in the lab's own.
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
