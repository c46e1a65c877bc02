package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// node is a simulated node of a cluster. On the node port of each service, an HTTP server replaces
// kube-proxy and the pods. The agents are real (package nodeagent).
type node struct {
	cluster, name, addr string
	manifests           string // directory that the agents read
	fault               string // part that is broken on this node, "" for none

	servers   []*http.Server
	listeners *nodeagent.Listeners
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu      sync.Mutex
	states  int            // how often the agents have read the manifests
	answers map[string]int // answered checks by service ("namespace/name"; "" is the node's own agent)
}

func newNode(cluster string, n *corev1.Node, manifests, fault string) *node {
	return &node{cluster: cluster, name: n.Name, addr: addrOf(n), manifests: manifests, fault: fault, answers: map[string]int{}}
}

// start starts the HTTP servers of the services, and the agents.
func (n *node) start(services []*corev1.Service) error {
	for _, svc := range services {
		for _, port := range svc.Spec.Ports {
			if n.fault == faultBackend && svc.Name == "web" {
				continue
			}
			if err := n.serve(n.cluster+"/"+svc.Namespace+"/"+svc.Name, port.NodePort); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.listeners = &nodeagent.Listeners{Host: n.addr, Finished: func(service string, _ agentcheck.Exchange) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.answers[service]++
	}}
	opened := make(chan error, 1)
	n.running.Go(func() { n.follow(ctx, opened) })
	return <-opened
}

func (n *node) serve(service string, port int32) error {
	l, err := net.Listen("tcp", net.JoinHostPort(n.addr, strconv.Itoa(int(port))))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("node %s: %w; does another quickstart run? -network 1 uses other addresses", n.name, err)
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Node", n.name)
			w.Header().Set("X-Service", service)
			fmt.Fprintf(w, "%s on node %s\n", service, n.name)
		}),
	}
	n.servers = append(n.servers, srv)
	n.running.Go(func() { _ = srv.Serve(l) })
	return nil
}

// follow updates the node's agents whenever the manifests change, until ctx ends. It sends the
// error of the first update, or nil, to the channel "opened".
func (n *node) follow(ctx context.Context, opened chan<- error) {
	var once sync.Once
	report := func(err error) { once.Do(func() { opened <- err }) }
	rules := nodeagent.Rules{Node: n.name}
	if n.fault == faultDrain {
		rules.Signals = []nodeagent.Signal{} // a cordon does not drain this node
	}
	err := manifest.WatchDir(ctx, n.manifests, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		state, err := rules.State(objects)
		if errors.Is(err, nodeagent.ErrNoNode) {
			err = nil // the node was replaced, and its agents drain it until it stops
		}
		if n.fault == faultWeight {
			for i := range state.Answers {
				state.Answers[i].Reply.Weight = agentcheck.Percent(100)
			}
		}
		for _, p := range problems {
			err = errors.Join(err, p)
		}
		report(errors.Join(err, n.listeners.Update(state)))
		n.mu.Lock()
		defer n.mu.Unlock()
		n.states++
	})
	report(err)
}

// agent is one agent of a node. service is "namespace/name", or "" for the node's own agent.
type agent struct {
	node    *node
	service string
}

// checks returns the number of agent checks that the agent has answered.
func (a agent) checks() int {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	return a.node.answers[a.service]
}

// states returns how many times the node of this agent has read the manifests for its agents.
func (a agent) states() int {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	return a.node.states
}

// stop stops the node. Running requests have one second to finish.
func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, srv := range n.servers {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	}
	if n.cancel != nil {
		n.cancel()
		n.listeners.Close()
	}
	n.running.Wait()
}
