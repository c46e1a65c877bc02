//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var agentKill = scenario.Scenario[*Env]{
	Name:  "agent",
	About: "a node whose agent is killed stays drained, or stays in use",
	Run:   underLoad(runAgentKill),
}

func runAgentKill(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	nodes, err := s.subsetNodes(s.Clusters[0], tracks)
	if err != nil {
		return err
	}
	drained, used := nodes[0], nodes[1]
	if err := s.drains(ctx, t, drained, "cordon", "cordoned", drained.Cordon); err != nil {
		return err
	}
	start := time.Now()
	for _, n := range nodes {
		s.Agents[n.Name].Kill()
	}
	if err := s.awaitAgentGone(ctx, nodes); err != nil {
		return err
	}
	if err := t.await(ctx, 4*loadRate, time.Now()); err != nil {
		return err
	}
	err = s.stillDrained(ctx, t, drained, start)
	if err := t.row(scenario.Row{What: fmt.Sprintf("agent of %s killed while drained: stays drained", drained.Name), Err: err}, start); err != nil {
		return err
	}
	_, err = t.first(ctx, "by "+used.Name, time.Now(), through(used))
	if err := t.row(scenario.Row{What: fmt.Sprintf("agent of %s killed while in use: stays in use", used.Name), Err: err}, start); err != nil {
		return err
	}

	restart := time.Now()
	for _, n := range nodes {
		if err := s.Agents[n.Name].Start(); err != nil {
			return err
		}
	}
	if _, err := lab.Until(ctx, "the agents to answer again", patience, func(ctx context.Context) error {
		return s.isDrained(ctx, drained, "cordoned")
	}, s.Agents[drained.Name].Process); err != nil {
		return err
	}
	took := time.Since(restart)
	// Wait until HAProxy has sent several agent checks.
	if err := t.await(ctx, 4*loadRate, time.Now()); err != nil {
		return err
	}
	err = s.stillDrained(ctx, t, drained, start)
	if err := t.row(scenario.Row{What: fmt.Sprintf("agent of %s started again: still drained", drained.Name), Took: took, Within: 10 * time.Second, Err: err}, restart); err != nil {
		return err
	}
	return s.undrains(ctx, t, drained, "uncordon", drained.Uncordon)
}

// awaitAgentGone waits until HAProxy has noticed that the agents do not answer.
func (s *System) awaitAgentGone(ctx context.Context, nodes []*lab.Node) error {
	_, err := lab.Until(ctx, "HAProxy to miss the agents", patience, func(ctx context.Context) error {
		for _, n := range nodes {
			stat, err := s.HAProxy.NodeStat(ctx, n)
			if err != nil {
				return err
			}
			if stat.AgentStatus != "L4CON" {
				return fmt.Errorf("the status of the agent check of %s is %s", n.Name, stat.AgentStatus)
			}
		}
		return nil
	}, s.HAProxy.Process)
	return err
}

// stillDrained returns an error if a request came through node n after the time in the argument
// "since", or if HAProxy does not drain the node.
func (s *System) stillDrained(ctx context.Context, t *traffic, n *lab.Node, since time.Time) error {
	if r, ok := t.First(since, through(n)); ok {
		return fmt.Errorf("a request came through %s after %s", n.Name, r.Start.Sub(since).Round(time.Millisecond))
	}
	return s.drainedInHAProxy(ctx, n)
}
