//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var floor = scenario.Scenario[*Env]{
	Name:  "floor",
	About: "when all nodes of a cluster are cordoned, one node drains, the others wait, and requests continue",
	Run:   underLoad(runFloor),
}

func runFloor(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	c := s.Clusters[0]
	stop := s.countDraining(ctx, c)
	defer stop()
	start := time.Now()
	if err := forEachNode(ctx, c, (*lab.Node).Cordon); err != nil {
		return err
	}
	var drains *lab.Node
	took, err := lab.Until(ctx, "one node to drain and two to wait", patience, func(ctx context.Context) (err error) {
		drains, err = s.onlyOneDrains(ctx, c)
		return err
	}, s.Agents[c.Nodes()[0].Name].Process)
	if err := t.row(scenario.Row{What: fmt.Sprintf("all nodes of %s cordoned: 1 of 3 drains, 2 wait", c.Name), Took: took, Within: effect, Err: err}, start); err != nil {
		return err
	}
	settled := time.Now()
	if err := t.await(ctx, 4*loadRate, settled); err != nil {
		return err
	}
	err = s.floorHolds(ctx, t, c, drains, settled)
	if n := stop(); err == nil && n != 1 {
		err = fmt.Errorf("HAProxy drained %d nodes at once", n)
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("never more than one node drains, requests continue in %s", c.Name), Err: err}, start); err != nil {
		return err
	}

	// Uncordon the draining node, so that one of the two waiting nodes drains. Measure the time
	// from here until this node drains.
	start = time.Now()
	if err := drains.Uncordon(ctx); err != nil {
		return err
	}
	var next *lab.Node
	took, err = lab.Until(ctx, "the next node to drain", patience, func(ctx context.Context) (err error) {
		if next, err = s.onlyOneDrains(ctx, c, drains); err == nil && next == drains {
			err = fmt.Errorf("%s still drains", next.Name)
		}
		return err
	}, s.Agents[drains.Name].Process)
	if err := t.row(scenario.Row{What: "the draining node uncordoned: another node drains after the hold-down", Took: took, Within: holdDown + effect, Err: err}, start); err != nil {
		return err
	}
	return forEachNode(ctx, c, (*lab.Node).Uncordon)
}

// countDraining counts the nodes of a cluster that HAProxy drains, again and again in the
// background. The returned function "stop" ends the counting, and returns the largest count.
func (s *System) countDraining(ctx context.Context, c *lab.Cluster) (stop func() int) {
	ctx, cancel := context.WithCancel(ctx)
	seen := 0
	var counting sync.WaitGroup
	counting.Go(func() {
		tick := time.Tick(50 * time.Millisecond)
		for ctx.Err() == nil {
			stats, _ := s.HAProxy.Stats(ctx) // empty during a reload
			now := 0
			for _, stat := range stats {
				if stat.Proxy == nodesProxy+c.Name && strings.HasPrefix(stat.Status, "DRAIN") {
					now++
				}
			}
			seen = max(seen, now)
			select {
			case <-ctx.Done():
			case <-tick:
			}
		}
	})
	return func() int {
		cancel()
		counting.Wait()
		return seen
	}
}

func forEachNode(ctx context.Context, c *lab.Cluster, do func(*lab.Node, context.Context) error) error {
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes() {
		group.Go(func() error { return do(n, gctx) })
	}
	return group.Wait()
}

// onlyOneDrains returns the only node of the cluster that drains, both in the answers of the agents
// and in HAProxy. Every other node must wait, unless it is in the list "uncordoned". If a node
// neither drains nor waits as it must, onlyOneDrains returns an error.
func (s *System) onlyOneDrains(ctx context.Context, c *lab.Cluster, uncordoned ...*lab.Node) (drains *lab.Node, err error) {
	for _, n := range c.Nodes() {
		a := s.Agents[n.Name]
		reply, err := a.Answer(ctx, s.Edge, nodeAgentPort)
		if err != nil {
			return nil, err
		}
		stat, err := s.HAProxy.NodeStat(ctx, n)
		if err != nil {
			return nil, err
		}
		waiting, err := a.Metric(ctx, s.Client, "headgate_agent_drain_waiting")
		if err != nil {
			return nil, err
		}
		asked := !slices.Contains(uncordoned, n)
		switch {
		case reply.Admin == agentcheck.Drain && strings.HasPrefix(stat.Status, "DRAIN") && drains == nil && waiting == 0:
			drains = n
		case reply.Admin == agentcheck.Ready && stat.Status == "UP" && !asked:
		case reply.Admin == agentcheck.Ready && stat.Status == "UP" && waiting == 1 && strings.Contains(reply.Reason, "wait"):
		default:
			return nil, fmt.Errorf("%s: the agent answers %q, headgate_agent_drain_waiting is %v, HAProxy says %s", n.Name, reply, waiting, stat.Status)
		}
	}
	if drains == nil {
		return nil, fmt.Errorf("no node of %s drains", c.Name)
	}
	return drains, nil
}

// floorHolds returns an error unless three conditions are true:
//
//   - The node "draining" is still the only node that drains.
//   - The node "draining" has received no request that began after "since".
//   - Each other node in the subset of the service "tracks" has received a request that began
//     after "since".
func (s *System) floorHolds(ctx context.Context, t *traffic, c *lab.Cluster, draining *lab.Node, since time.Time) error {
	now, err := s.onlyOneDrains(ctx, c)
	if err != nil {
		return err
	}
	if now != draining {
		return fmt.Errorf("%s drained at first, and now %s drains", draining.Name, now.Name)
	}
	if err := s.stillDrained(ctx, t, draining, since); err != nil {
		return err
	}
	came := t.entries(c, since)
	for _, n := range c.Nodes() {
		if subset, err := s.subsetNodes(c, tracks); err != nil {
			return err
		} else if slices.Contains(subset, n) && n != draining && came[n.Name] == 0 {
			return fmt.Errorf("no request came through %s: %v", n.Name, came)
		}
	}
	return nil
}
