package main

import (
	"log/slog"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// controller returns the Controller of the settings, without log and Elector. warned is called with
// the warnings of haproxy -c.
func (s *settings) controller(warned func([]deploy.Diagnostic)) *controller.Controller {
	c := &controller.Controller{
		Routes:       &controller.RouteFiles{Names: s.routes},
		Builder:      s.builder,
		Dir:          s.dir(warned),
		Files:        s.files(),
		Limit:        controller.MaxShare(s.maxChange),
		ForceFirst:   s.force,
		MinInterval:  max(s.minInterval, 1), // 0 would mean the default
		StartTimeout: max(s.startTimeout, 1),
	}
	once := s.once || s.diff
	if once && s.force {
		c.Limit = controller.MaxShare(1)
	}
	for _, k := range s.clusters {
		var source controller.ClusterSource = controller.Manifests{Dir: k.dir}
		if k.live() {
			source = &controller.Live{
				Config: k.config, Quiet: max(s.quiet, 1), MaxWait: max(s.maxWait, 1),
				LocalEndpoints: s.localEndpoints, AllowEmpty: s.force && once,
			}
		}
		c.Clusters = append(c.Clusters, controller.Cluster{Name: k.name, Source: source})
	}
	return c
}

func (s *settings) dir(warned func([]deploy.Diagnostic)) *deploy.Dir {
	dir := &deploy.Dir{Path: s.out}
	if s.haproxy != "" {
		dir.Check = deploy.Checker{Haproxy: s.haproxy, Warned: warned}.Check
	}
	if s.reload != "" {
		dir.Reload = deploy.Reloader{
			Master:    runtimeapi.Socket{Path: s.reload},
			StateFile: s.builder.Edge.Global.StateFile,
		}.Reload
	}
	return dir
}

// files are dns.zone and cdn.json, if they are asked for.
func (s *settings) files() (files []controller.File) {
	if s.zone.Origin != "" {
		files = append(files, controller.File{
			Name: "dns.zone", Select: s.zone.Publishable,
			Append: func(dst []byte, t routes.Table) ([]byte, error) { return routes.AppendZone(dst, t, s.zone) },
		})
	}
	if s.cdn.Origin != "" {
		files = append(files, controller.File{
			Name: "cdn.json", Select: s.cdn.Publishable,
			Append: func(dst []byte, t routes.Table) ([]byte, error) { return routes.AppendCDN(dst, t, s.cdn) },
		})
	}
	return files
}

// elector returns the Elector of -lease, nil without -lease.
func (s *settings) elector(log *slog.Logger) controller.Elector {
	if s.lease.name == "" {
		return nil
	}
	return &lease.Elector{Config: s.lease.cluster.config, Namespace: s.lease.namespace, Name: s.lease.name, Logger: log}
}
