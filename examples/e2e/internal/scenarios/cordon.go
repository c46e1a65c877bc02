//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var cordon = scenario.Scenario[*Env]{
	Name:  "cordon",
	About: "a cordoned node gets no new requests within 3 s, and gets them again when it is uncordoned",
	Run:   underLoad(runCordon),
}

func runCordon(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	for _, c := range s.Clusters {
		nodes, err := s.subsetNodes(c, tracks)
		if err != nil {
			return err
		}
		n := nodes[0]
		if err := s.drains(ctx, t, n, "cordon", "cordoned", n.Cordon); err != nil {
			return err
		}
		if err := s.undrains(ctx, t, n, "uncordon", n.Uncordon); err != nil {
			return err
		}
	}
	return nil
}

// The method "drains" calls the function "do", which must drain the node n, and adds a row to the
// report. The row fails in three cases:
//
//   - A request comes through the node later than 3 s after the call of do.
//   - The agent of the node does not report a drain with the given reason.
//   - HAProxy does not drain the node.
func (s *System) drains(ctx context.Context, t *traffic, n *lab.Node, what, reason string, do func(context.Context) error) error {
	if _, err := t.first(ctx, "by "+n.Name, time.Now(), through(n)); err != nil {
		return err
	}
	start := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", what, n.Name, err)
	}
	took, err := t.last(ctx, "by "+n.Name, start, through(n))
	if err == nil {
		err = s.isDrained(ctx, n, reason)
	}
	return t.row(scenario.Row{What: fmt.Sprintf("%s %s: no new request", what, n.Name), Took: took, Within: effect, Err: err}, start)
}

// isDrained returns an error if the agent of a node does not answer "drain" with the given reason,
// or if HAProxy does not drain the node.
func (s *System) isDrained(ctx context.Context, n *lab.Node, reason string) error {
	for _, port := range []uint16{nodeAgentPort, tracksAgentPort} {
		reply, err := s.Agents[n.Name].Answer(ctx, s.Edge, port)
		if err != nil {
			return err
		}
		if reply.State != agentcheck.Up || reply.Admin != agentcheck.Drain || !strings.Contains(reply.Reason, reason) {
			return fmt.Errorf("the agent of %s answers %q on port %d, without %q", n.Name, reply, port, reason)
		}
	}
	if err := s.Agents[n.Name].wantMetric(ctx, s.Client, "headgate_agent_drain_effective", 1); err != nil {
		return err
	}
	return s.drainedInHAProxy(ctx, n)
}

// drainedInHAProxy checks that HAProxy drains the node because of the agent's answer, and that
// HAProxy drains every server on the node. It returns an error if not.
func (s *System) drainedInHAProxy(ctx context.Context, n *lab.Node) error {
	stats, err := s.HAProxy.Stats(ctx)
	if err != nil {
		return err
	}
	servers := 0
	for _, stat := range stats {
		if !at(stat, n) {
			continue
		}
		servers++
		if !strings.HasPrefix(stat.Status, "DRAIN") {
			return fmt.Errorf("%s/%s of %s is %s", stat.Proxy, stat.Server, n.Name, stat.Status)
		}
	}
	if servers < 2 {
		return fmt.Errorf("HAProxy has %d servers at %s", servers, n.Name)
	}
	return nil
}

// The method "undrains" calls "do", which must end the drain of node n, and adds a row to the
// report. The node continues to drain for the time holdDown. HAProxy must send requests to n after
// holdDown, and at most 3 s later.
func (s *System) undrains(ctx context.Context, t *traffic, n *lab.Node, what string, do func(context.Context) error) error {
	start := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", what, n.Name, err)
	}
	took, err := t.first(ctx, "by "+n.Name, start, through(n))
	if err == nil && took < holdDown {
		err = fmt.Errorf("it got requests after %s, but the hold-down is %s", took, holdDown)
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("%s %s: requests again, after a hold-down of %s", what, n.Name, holdDown), Took: took, Within: holdDown + effect, Err: err}, start); err != nil {
		return err
	}
	_, err = lab.Until(ctx, n.Name+" to be as before", patience, func(ctx context.Context) error { return s.nodeSound(ctx, n) }, s.Agents[n.Name].Process)
	return err
}

// readyz returns an error unless the page /readyz has the status 200 and contains the wanted text.
// status, body and err are the result of the request.
func readyz(status int, body string, err error, want string) error {
	if err != nil {
		return err
	}
	if status != http.StatusOK || !strings.Contains(body, want) {
		return fmt.Errorf("/readyz: status %d, %q, without %q", status, body, want)
	}
	return nil
}
