//go:build linux

// Package scenarios is what the end-to-end test shows, one file for each scenario.
package scenarios

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// All are the scenarios, in the order in which they run.
func All() []scenario.Scenario[*Env] {
	return []scenario.Scenario[*Env]{
		scale,
		smoke,
		parts,
		routed,
		cordon,
		weight,
		replace,
		agentKill,
		floor,
		drain,
		faults,
		local,
		rbac,
		leader,
		outage,
		vanish,
	}
}

// Env is what scenarios share.
type Env struct {
	Lab  *lab.Lab
	Logf func(format string, args ...any)

	mu       sync.Mutex
	clusters []*lab.Cluster
	started  time.Duration

	system    *System
	systemErr error
}

// Zones of a cluster's three nodes.
var zones = []string{"a", "b", "c"}

// Clusters returns the clusters eu-1 and eu-2, of three nodes each (eu-1-a in zone a,
// and so on), which it starts when they are first asked for.
func (e *Env) Clusters(ctx context.Context) ([]*lab.Cluster, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clusters != nil {
		return e.clusters, nil
	}
	var specs []lab.ClusterSpec
	for _, name := range []string{"eu-1", "eu-2"} {
		spec := lab.ClusterSpec{Name: name}
		for _, zone := range zones {
			spec.Nodes = append(spec.Nodes, lab.NodeSpec{Name: name + "-" + zone, Zone: zone})
		}
		specs = append(specs, spec)
	}
	start := time.Now()
	clusters, err := e.Lab.StartClusters(ctx, specs...)
	if err != nil {
		return nil, fmt.Errorf("start clusters: %w", err)
	}
	e.clusters, e.started = clusters, time.Since(start)
	return clusters, nil
}
