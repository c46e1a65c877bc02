package main

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// controller returns the Controller that the flags describe. The caller must set the fields Logger
// and Elector. The Controller calls the function "warned" with all warnings of HAProxy.
func (s *settings) controller(warned func([]deploy.Diagnostic)) *controller.Controller {
	dir := s.dir(warned)
	s.WarnOfForeign(dir, warned)
	c := s.Controller(dir, warned)
	c.ForceFirst, c.Journal = s.force, s.journal()
	if s.orders != nil {
		c.Fleet = s.orders
	}
	c.KeepWorkers = len(s.Fragment) > 0 // the workers have streams of foreign frontends
	c.MaxOldWorkers, c.MaxReloadWait = cli.NoneIfZero(s.maxOldWorkers), cli.NoneIfZero(s.maxReloadWait)
	if s.reload != "" {
		c.OldWorkers = deploy.Workers{Master: runtimeapi.Socket{Path: s.reload}}
	}
	once := s.once || s.diff
	for _, k := range s.Clusters {
		var source controller.ClusterSource = controller.Manifests{Dir: k.Dir, LocalEndpoints: s.LocalEndpoints}
		if k.Live() {
			source = &controller.Live{
				Config: k.Config, Quiet: max(s.quiet, 1), MaxWait: max(s.maxWait, 1),
				LocalEndpoints: s.LocalEndpoints, AllowEmpty: s.force && once,
			}
		}
		c.Clusters = append(c.Clusters, controller.Cluster{Name: k.Name, Source: source})
	}
	return c
}

// journal returns the journal in the directory -out.
func (s *settings) journal() *journal.Dir {
	return &journal.Dir{Path: filepath.Join(s.out, "journal")}
}

func (s *settings) dir(warned func([]deploy.Diagnostic)) *deploy.Dir {
	dir := &deploy.Dir{Path: s.out}
	if s.groupReadsKeys {
		dir.PrivateMode = 0o640
	}
	if s.reload != "" {
		reloader := deploy.Reloader{
			Master:    runtimeapi.Socket{Path: s.reload},
			StateFile: s.Builder.Edge.Global.StateFile,
			Config:    dir.ConfigFile(),
			Foreign:   s.Foreign(dir),
			Warned: func(err error) {
				warned([]deploy.Diagnostic{{Severity: "WARNING", Text: "a replaced process may send requests to servers that are gone: " + err.Error()}})
			},
		}
		dir.Reload, dir.Redirect = reloader.Reload, reloader.Redirect
		dir.SetMap, dir.ReplaceMaps, dir.CompareMaps = reloader.SetMap, reloader.ReplaceMaps, reloader.CompareMaps
		dir.Runtime = &deploy.Runtime{
			Stats: runtimeapi.Socket{Path: s.Builder.Edge.Global.StatsSocket}, Master: reloader.Master,
			ChangedOnly: true, Wait: 100 * time.Millisecond,
		}
	}
	return dir
}

// resolveFleet sets the field "lease" to the Elector of -lease, and the field "orders" to the Store
// of -fleet.
func (s *settings) resolveFleet() (err error) {
	if s.orders, err = s.fleet.Store(s.Clusters); err != nil {
		return err
	}
	s.lease, err = s.fleet.Elector(s.Clusters)
	switch {
	case err != nil || s.lease == nil:
		return err
	case s.once || s.diff:
		return errors.New("-lease cannot be used with -once or -diff")
	case s.force: // this terminator may begin to lead, and make its first change, long after the start
		return errors.New("-force cannot be used with -lease: use POST /force of the terminator that leads")
	}
	return nil
}
