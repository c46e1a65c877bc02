//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var drain = scenario.Scenario[*Env]{
	Name:  "drain",
	About: "a file on the node drains it, and so does `nodeagent drain`, which a preStop hook calls",
	Run:   underLoad(runDrain),
}

func runDrain(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	nodes, err := s.subsetNodes(s.Clusters[1], tracks)
	if err != nil {
		return err
	}
	n := nodes[0]
	a := s.Agents[n.Name]
	if err := s.drains(ctx, t, n, "drain file on", "file", func(context.Context) error {
		return os.WriteFile(a.DrainFile, nil, 0o600)
	}); err != nil {
		return err
	}
	if err := s.undrains(ctx, t, n, "no drain file on", func(context.Context) error { return os.Remove(a.DrainFile) }); err != nil {
		return err
	}

	if _, err := t.first(ctx, "by "+n.Name, time.Now(), through(n)); err != nil {
		return err
	}
	start := time.Now()
	said, err := a.DrainCommand(ctx, "-timeout", "10s")
	if err != nil {
		return err
	}
	done := time.Now()
	t.report.Logf("nodeagent drain: %s", said)
	// When `nodeagent drain` has returned, its caller may stop the node. So from then on, no
	// request may come through the node.
	err = t.await(ctx, quietRequests, done)
	if err == nil {
		err = s.isDrained(ctx, n, "drain command")
	}
	if r, ok := t.First(done, through(n)); ok && err == nil {
		err = fmt.Errorf("a request through %[2]s was sent %[1]s after the command had returned", r.Start.Sub(done), n.Name)
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("nodeagent drain on %s: no new request after it returns", n.Name), Took: done.Sub(start), Within: effect, Err: err}, start); err != nil {
		return err
	}
	return s.undrains(ctx, t, n, "nodeagent drain -undo on", func(ctx context.Context) error {
		_, err := a.DrainCommand(ctx, "-undo")
		return err
	})
}
