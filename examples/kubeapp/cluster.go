package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/routefiles"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/kubeapp/apply"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// target are the flags that name the cluster and its declarations.
type target struct {
	cluster string
	routes  cli.Strings
	timeout time.Duration

	where kubeconn.Cluster // zero without -cluster
	uses  []change.Use
}

func (t *target) register(fs *flag.FlagSet) {
	fs.StringVar(&t.cluster, "cluster", "", cli.Meaning("cluster", "kubeapp applies no objects to dir:DIR; default: the account of the pod, and outside of a pod the configuration of kubectl"))
	fs.Var(&t.routes, "routes", cli.Meaning("routes", "their services must keep their ports; needs -cluster"))
	fs.DurationVar(&t.timeout, "timeout", 30*time.Second, cli.Meaning("timeout", "kubeapp only sends requests to the API server, so the default is short"))
}

// resolve checks the flags, and reads the declarations. It prints the problems of declarations.
func (t *target) resolve(inv cli.Invocation) error {
	if t.timeout <= 0 {
		return fmt.Errorf("-timeout: %v: must be positive", t.timeout)
	}
	if t.cluster != "" {
		clusters, err := kubeconn.ParseClusters([]string{t.cluster})
		if err != nil {
			return fmt.Errorf("-cluster: %w", err)
		}
		t.where = clusters[0]
	}
	if len(t.routes) == 0 {
		return nil
	}
	if t.cluster == "" {
		return errors.New("-routes needs -cluster, because declarations name clusters")
	}
	declared, err := (&routefiles.Files{Names: t.routes}).Read()
	if err != nil {
		return fmt.Errorf("-routes: %w", err)
	}
	if len(declared.Unread) > 0 {
		return fmt.Errorf("-routes: %s cannot be read: %v", declared.Unread[0], declared.Problems)
	}
	for _, p := range declared.Problems {
		fmt.Fprintf(inv.Stderr, "%s: problem: %v\n", program, p)
	}
	for _, r := range declared.Table.Routes() {
		for _, b := range r.Backends {
			if b.Cluster == t.where.Name {
				t.uses = append(t.uses, change.Use{
					Ref:   nodeselect.Ref{Namespace: b.Namespace, Service: b.Service, Port: b.Port},
					Route: fmt.Sprintf("%s (%v)", r.Name(), r.Position),
				})
			}
		}
	}
	return nil
}

// applier returns an Applier for the cluster. It prints the warnings of the API server.
func (t *target) applier(inv cli.Invocation) (*apply.Applier, error) {
	config, err := t.where.Config() // without -cluster, that of kubectl
	if err != nil {
		return nil, err
	}
	return apply.New(config, func(warning string) { fmt.Fprintf(inv.Stderr, "%s: warning: %s\n", program, warning) })
}
