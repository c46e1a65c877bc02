//go:build linux

// Package scenarios contains the scenarios of the end-to-end test, one file for each.
package scenarios

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// All returns the scenarios in the order in which they run.
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
		nodegate,
		nodegateLong,
		adapters,
		drain,
		faults,
		local,
		evenness,
		rbac,
		published,
		shipped,
		leader,
		orders,
		outage,
		cutover,
		regions,
		frontStart,
		frontScale,
		frontRollout,
		frontPolicy,
		frontRestart,
		frontEject,
		frontRetry,
		frontOverload,
		frontKilled,
		frontZones,
		frontDiscovery,
		frontOutages,
		frontZoneLost,
		vanish,
	}
}

// Env is shared by all scenarios.
type Env struct {
	Lab  *lab.Lab
	Logf func(format string, args ...any)

	mu       sync.Mutex
	clusters []*lab.Cluster
	started  time.Duration

	system    *System
	systemErr error
}

// zones are the zones of a cluster's three nodes.
var zones = []string{"a", "b", "c"}

// Clusters returns the clusters eu-1 and eu-2. Each has three nodes: eu-1-a in zone a, and so on.
// The first call starts them.
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
