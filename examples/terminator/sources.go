package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// sourceRetry is how soon a source that could not even be begun is tried again.
const sourceRetry = time.Second

// followDir follows the manifests of the i-th cluster until ctx ends. A directory
// that is not there is a cluster that does not answer.
func followDir(ctx context.Context, i int, dir string, in *inbox) {
	for ctx.Err() == nil {
		err := manifest.WatchDir(ctx, dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
			in.cluster(i, time.Now(), func(c *clusterState) {
				c.objects, c.problems, c.synced = objects, problems, true
				c.err = lostDir(dir, problems)
			})
		})
		if ctx.Err() != nil {
			return
		}
		in.away(i, time.Now(), err)
		sleep(ctx, sourceRetry)
	}
}

// lostDir returns what is wrong with the directory as a whole.
func lostDir(dir string, problems []nodeselect.Problem) error {
	for _, p := range problems {
		if p.File == filepath.Clean(dir) {
			return errors.New(p.Message)
		}
	}
	return nil
}

// followRoutes follows files of declarations until ctx ends. publish is called with
// the table of each change.
func followRoutes(ctx context.Context, f *routeFiles, names []string, publish func(routes.Table, []routes.Problem)) error {
	return followFiles(ctx, names, func() {
		if f.reread() {
			publish(f.merged())
		}
	})
}
