package controller

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg/kube"
)

// Plan reads the sources once and returns what they would change. It writes nothing. Apply applies
// the Change. cause is what the report gives as the cause of the change, such as the name of a
// command.
//
// A cluster that does not answer keeps the servers that the report has of it. Plan fails if the
// report has none, and if routes or manifests cannot be read as a whole. If it fails later than
// that, it returns a Change with a Report besides the error.
func (c *Controller) Plan(ctx context.Context, cause string) (*Change, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	last, err := c.readReport()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	in, err := c.read(ctx, last)
	if err != nil {
		return nil, err
	}
	return c.plan(in, last, func(kube.Input) []kube.Cause { return []kube.Cause{{What: cause}} }, now)
}

// Apply applies a Change of Plan. The error is nil if the outcome is Written or Unchanged. Unlike
// Run, Apply does not record a refused change in the report. MaxShare(1) is the Limit that refuses
// nothing.
func (c *Controller) Apply(ctx context.Context, ch *Change) (Outcome, error) {
	if err := c.refusal(ch, never); err != nil {
		return Refused, err
	}
	changed, err := ch.apply(ctx)
	switch {
	case err != nil:
		return Failed, err
	case changed:
		return Written, nil
	}
	return Unchanged, nil
}

// read reads the routes and then all clusters at the same time.
func (c *Controller) read(ctx context.Context, last kube.Report) (inputs, error) {
	in := inputs{clusters: make([]cluster, len(c.Clusters))}
	var err error
	if in.routes, err = c.Routes.Read(); err != nil {
		return in, err
	}
	c.setRefs(in.routes.Table)
	var group errgroup.Group
	for i := range c.Clusters {
		group.Go(func() error {
			name := c.Clusters[i].Name
			state, err := c.readCluster(ctx, i, last)
			if err == nil && !state.Synced {
				if _, known := last.Selection(name); !known || ctx.Err() != nil {
					err = state.Err
				}
			}
			if err != nil {
				return fmt.Errorf("cluster %s: %w", name, err)
			}
			in.clusters[i] = cluster{name: name, ClusterState: state} // since when is not known
			return nil
		})
	}
	return in, group.Wait()
}

// readCluster reads the i-th cluster. A state that is not synced has an Err.
func (c *Controller) readCluster(ctx context.Context, i int, last kube.Report) (ClusterState, error) {
	ctx, cancel := context.WithTimeout(ctx, c.startTimeout())
	defer cancel()
	state, err := c.Clusters[i].Source.Read(ctx, c.start(i, last))
	if err != nil || state.Synced {
		return state, err
	}
	if ctx.Err() != nil {
		return ClusterState{Err: fmt.Errorf("no answer within %v: %w", c.startTimeout(), state.Err)}, nil
	}
	return state, nil
}
