package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/certfiles"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// controller returns the Controller that the flags describe. The caller must set the fields Logger
// and Elector. The Controller calls the function warned with all warnings about HAProxy.
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
		MaxInterval:  max(s.maxInterval, 1),

		MaxOldWorkers: cli.NoneIfZero(s.maxOldWorkers), MaxReloadWait: cli.NoneIfZero(s.maxReloadWait),
	}
	if s.reload != "" {
		c.OldWorkers = deploy.Workers{Master: runtimeapi.Socket{Path: s.reload}}
	}
	if s.haproxy != "" {
		checker := deploy.Checker{Haproxy: s.haproxy, Warned: warned}
		c.Dir.Check, c.Version = checker.Check, checker.Version
	}
	if s.text.certs != "" && len(s.text.https) > 0 {
		c.Certificates = &certfiles.Source{Path: s.text.certs}
		if s.haproxy != "" {
			c.Certificates.Haproxy = s.haproxy
			c.Certificates.Check = deploy.Checker{Haproxy: s.haproxy}.CheckCertificates
		}
	}
	once := s.once || s.diff
	for _, k := range s.clusters {
		var source controller.ClusterSource = controller.Manifests{Dir: k.Dir, LocalEndpoints: s.localEndpoints}
		if k.Live() {
			source = &controller.Live{
				Config: k.Config, Quiet: max(s.quiet, 1), MaxWait: max(s.maxWait, 1),
				LocalEndpoints: s.localEndpoints, AllowEmpty: s.force && once,
			}
		}
		c.Clusters = append(c.Clusters, controller.Cluster{Name: k.Name, Source: source})
	}
	return c
}

func (s *settings) dir(warned func([]deploy.Diagnostic)) *deploy.Dir {
	dir := &deploy.Dir{Path: s.out}
	if s.reload != "" {
		reloader := deploy.Reloader{
			Master:    runtimeapi.Socket{Path: s.reload},
			StateFile: s.builder.Edge.Global.StateFile,
			Config:    filepath.Join(s.out, "haproxy.cfg"),
			Warned: func(err error) {
				warned([]deploy.Diagnostic{{Severity: "WARNING", Text: "a replaced process may send requests to servers that are gone: " + err.Error()}})
			},
		}
		dir.Reload, dir.Redirect, dir.SetMap = reloader.Reload, reloader.Redirect, reloader.SetMap
	}
	return dir
}

// shifts returns the Runner that moves routes between clusters.
func (s *settings) shifts(c *controller.Controller, log *slog.Logger) *shift.Runner {
	last := ""
	return &shift.Runner{
		Control: c, Counters: c.ShiftCounters(s.counters().Worker),
		Changed: func(x shift.Shift) {
			if x.Status == shift.Paused {
				log.Error("shift", "state", x)
				return
			}
			log.Info("shift", "state", x)
		},
		Failed: func(err error) {
			if text := err.Error(); text != last && !errors.Is(err, controller.ErrNotLeading) {
				log.Error("shift", "err", err)
				last = text
			}
		},
	}
}

// files returns the additional output files: dns.zone if -dns-origin is set, and cdn.json if
// -cdn-origin is set.
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

// resolveLease parses -lease and finds its cluster.
func (s *settings) resolveLease() error {
	f := &s.text
	if f.lease == "" {
		if f.leaseCluster != "" {
			return errors.New("-lease-cluster needs -lease")
		}
		return nil
	}
	if s.once || s.diff {
		return errors.New("-lease cannot be used with -once or -diff")
	}
	if s.force { // this terminator may begin to lead, and make its first change, long after the start
		return errors.New("-force cannot be used with -lease: use POST /force of the terminator that leads")
	}
	namespace, name, _ := strings.Cut(f.lease, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return fmt.Errorf("-lease: %q: want NAMESPACE/NAME", f.lease)
	}
	for _, c := range s.clusters {
		if c.Live() && (f.leaseCluster == "" || f.leaseCluster == c.Name) {
			s.lease = &lease.Elector{Config: c.Config, Namespace: namespace, Name: name}
			return nil
		}
	}
	if f.leaseCluster == "" {
		return errors.New("-lease needs a live cluster, which holds the Lease")
	}
	return fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
