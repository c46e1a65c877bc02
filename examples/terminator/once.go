package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// runOnce makes the configuration and, unless it is only to be shown, writes it.
func (s *settings) runOnce(ctx context.Context, now time.Time, inv cli.Invocation) (changed bool, err error) {
	kubeconn.LogTo(nil) // what matters of it is in errors
	last, err := s.readReport()
	if err != nil {
		return false, err
	}
	in, err := s.read(ctx, last)
	if err != nil {
		return false, err
	}
	b := s.build(in, last, now)
	for _, p := range b.report.Problems {
		kind := "problem"
		if p.Warning {
			kind = "warning"
		}
		fmt.Fprintf(inv.Stderr, "%s: %s: %v\n", program, kind, p)
	}
	dir := s.dir(func(warnings []deploy.Diagnostic) {
		for _, w := range warnings {
			fmt.Fprintf(inv.Stderr, "%s: haproxy warns: %v\n", program, w)
		}
	})
	if s.diff {
		diff, err := dir.Diff(b.config)
		if err != nil {
			return false, err
		}
		_, err = fmt.Fprint(inv.Stdout, diff.String(), diff.Text)
		return false, err
	}
	plan, err := dir.Plan(b.config)
	if err != nil {
		return false, err
	}
	if share := plan.Diff.ServerShare(); share > s.maxChange && !s.force {
		return false, fmt.Errorf("%w: see -diff, and -force if it is meant", tooLarge(share, s.maxChange, plan.ID()))
	}
	if b.report.Changes = last.Changes; !plan.Diff.Empty() {
		changes := kube.NewChanges(now.UTC().Truncate(time.Millisecond), last, b.report, plan.Diff.Servers, []kube.Cause{{What: "terminator -once"}})
		b.report.Changes = &changes
	}
	files, err := s.beside(in.table, b.report)
	if err != nil {
		return false, err
	}
	return plan.Apply(ctx, files...)
}

// read reads declarations and clusters side by side. A file or directory that
// cannot be read at all ends it: to go on would take all that it holds out of
// service. A live cluster that does not answer keeps the servers that the last report
// has of it; it ends it as well if there are none.
func (s *settings) read(ctx context.Context, last kube.Report) (state, error) {
	in := state{clusters: make([]clusterState, len(s.clusters))}
	files, err := readRoutes(s.routes)
	if err != nil {
		return in, err
	}
	in.table, in.routeProblems = files.merged()
	refs := kube.Refs(in.table)
	var group errgroup.Group
	for i, c := range s.clusters {
		group.Go(func() (err error) {
			k := clusterState{name: c.name, synced: true}
			if c.live() {
				k, err = s.list(ctx, c, refs[c.name], last.Subsets(c.name))
				if _, known := last.Selection(c.name); err != nil && known && ctx.Err() == nil {
					k.err, err = err, nil
				}
			} else {
				k.objects, k.problems, err = manifest.ReadDir(c.dir)
			}
			if err != nil {
				return fmt.Errorf("cluster %s: %w", c.name, err)
			}
			in.clusters[i] = k
			return nil
		})
	}
	return in, group.Wait()
}
