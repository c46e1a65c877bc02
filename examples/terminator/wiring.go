package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/certfiles"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// controller returns the Controller that the flags describe. The caller sets its Logger and
// Elector. The Controller calls the function warned with each warning about HAProxy.
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
		var source controller.ClusterSource = controller.Manifests{Dir: k.dir, LocalEndpoints: s.localEndpoints}
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
		Control: c, Counters: c.ShiftCounters(s.countersSocket()),
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

// elector returns the Elector for the Lease that -lease names. Without -lease, it returns nil.
func (s *settings) elector(log *slog.Logger) controller.Elector {
	if s.lease.name == "" {
		return nil
	}
	return &lease.Elector{Config: s.lease.cluster.config, Namespace: s.lease.namespace, Name: s.lease.name, Logger: log}
}

// cluster is one value of -cluster. Its objects come from a directory of manifests or from an API
// server.
type cluster struct {
	name string
	dir  string // "" for an API server
	conn string // argument of kubeconn.Load
}

func (c cluster) live() bool { return c.dir == "" }

func (c cluster) config() (*rest.Config, error) { return kubeconn.Load(c.conn) }

// leaseName is the Lease of -lease.
type leaseName struct {
	namespace, name string
	cluster         cluster
}

const clusterForm = "want NAME=kubeconfig:FILE[:CONTEXT], NAME=in-cluster or NAME=dir:DIR"

func parseClusters(texts []string) ([]cluster, error) {
	var clusters []cluster
	for _, text := range texts {
		name, where, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c, ok := parseWhere(where)
		if !ok {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c.name = name
		if faults := validation.IsDNS1123Label(name); faults != nil { // routes name clusters by labels
			return nil, fmt.Errorf("%q: %q is no name of a cluster: %s", text, name, faults[0])
		}
		if slices.ContainsFunc(clusters, func(c cluster) bool { return c.name == name }) {
			return nil, fmt.Errorf("%q: the cluster is given twice", text)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// parseWhere parses the part of a -cluster value after "NAME=". The prefix "kubeconfig:" before
// FILE[:CONTEXT] may be missing.
func parseWhere(where string) (cluster, bool) {
	if dir, ok := strings.CutPrefix(where, "dir:"); ok {
		return cluster{dir: dir}, dir != ""
	}
	if where == kubeconn.InCluster {
		return cluster{conn: where}, true
	}
	file := strings.TrimPrefix(where, "kubeconfig:")
	return cluster{conn: file}, file != "" && file != kubeconn.InCluster
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
		if c.live() && (f.leaseCluster == "" || f.leaseCluster == c.name) {
			s.lease = leaseName{namespace, name, c}
			return nil
		}
	}
	if f.leaseCluster == "" {
		return errors.New("-lease needs a live cluster, which holds the Lease")
	}
	return fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
