package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg/hostcluster"
	"github.com/headgate/headgate/haproxycfg/routefiles"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// sources reads the hosts from all files and directories, and publishes them after each change.
type sources struct {
	hostsFile   *hostlookup.File  // nil without -hosts
	routeFiles  *routefiles.Files // nil without -routes
	clusterDirs map[string]string // the directories of -cluster, by cluster
	endpoints   map[string]string // the addresses of -endpoint, by cluster

	api     *httpapi.Handler
	metrics *metrics
	log     *slog.Logger
	ready   chan struct{} // closed after the first publish

	mu       sync.Mutex
	fromFile *hostlookup.Hosts
	declared routefiles.Declarations
	chooser  hostcluster.Chooser
}

func newSources(s settings, api *httpapi.Handler, m *metrics, log *slog.Logger) *sources {
	src := &sources{
		clusterDirs: s.clusters, endpoints: s.endpoints,
		api: api, metrics: m, log: log, ready: make(chan struct{}),
		chooser: hostcluster.Chooser{
			Clusters:    slices.Sorted(maps.Keys(s.endpoints)),
			Services:    map[string]nodeselect.Objects{},
			Annotations: nodeselect.Annotations{Prefix: s.prefix},
		},
	}
	if s.hosts != "" {
		src.hostsFile = &hostlookup.File{Path: s.hosts, Interval: s.poll, Loaded: src.hostsLoaded}
	}
	if len(s.routes) > 0 {
		src.routeFiles = &routefiles.Files{Names: s.routes, Recheck: s.poll}
	}
	return src
}

// load reads the files of -hosts and -routes at the start. If it returns an error, the program
// ends.
func (s *sources) load() error {
	if s.routeFiles != nil {
		declared, err := s.routeFiles.Read()
		if err != nil {
			return err
		}
		s.declared = declared
	}
	if s.hostsFile != nil {
		return s.hostsFile.Load()
	}
	s.update(func() {})
	return nil
}

// watch follows all sources until ctx ends.
func (s *sources) watch(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	if s.hostsFile != nil {
		group.Go(func() error { return s.hostsFile.Watch(running) })
	}
	if s.routeFiles != nil {
		group.Go(func() error {
			return s.routeFiles.Follow(running, func(d routefiles.Declarations) {
				s.update(func() { s.declared = d })
			})
		})
	}
	for name, dir := range s.clusterDirs {
		group.Go(func() error {
			err := manifest.WatchDir(running, dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
				for _, p := range problems {
					s.log.Warn("manifest", "cluster", name, "err", p)
				}
				s.metrics.problems.WithLabelValues("cluster " + name).Set(float64(len(problems)))
				s.update(func() { s.chooser.Services[name] = objects })
			})
			return fmt.Errorf("cluster %s: %w", name, err)
		})
	}
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// hostsLoaded publishes the hosts of the hosts file, or logs the error. The file watcher calls it
// after each reading of the file.
func (s *sources) hostsLoaded(hosts *hostlookup.Hosts, problems []hostlookup.Problem, err error) {
	for _, p := range problems {
		s.log.Warn("left out", "err", p)
	}
	count := len(problems)
	if err != nil {
		s.log.Error("the hosts stay as they are", "err", err)
		count++
	}
	s.metrics.problems.WithLabelValues("hosts").Set(float64(count))
	if err == nil {
		s.update(func() { s.fromFile = hosts })
	}
}

// update calls the function "change", which must store the new content of one source of hosts.
// After that, update publishes the hosts of all sources together. It publishes nothing until each
// source has been read once.
func (s *sources) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	if s.hostsFile != nil && s.fromFile == nil || len(s.chooser.Services) < len(s.clusterDirs) {
		return
	}
	first := s.api.Hosts() == nil
	update, err := s.api.Publish(hostlookup.MergeHosts(s.fromFile, s.declaredHosts()))
	count := s.api.Hosts().Len()
	s.metrics.refused.Set(0)
	switch {
	case err != nil:
		s.metrics.refused.Set(1)
		s.log.Error("the hosts stay as they are; -max-removed allows more, and a restart accepts the change", "err", err)
	case first:
		s.log.Info("hosts", "count", count, "version", update.Version)
		close(s.ready)
	case update.Set+update.Removed > 0:
		s.metrics.changes.Add(float64(update.Set + update.Removed))
		s.log.Info("hosts changed", "set", update.Set, "removed", update.Removed, "count", count, "version", update.Version)
	}
	s.metrics.hosts.Set(float64(count))
}

// declaredHosts returns the hosts of the declarations, each with the endpoint of its chosen
// cluster.
func (s *sources) declaredHosts() *hostlookup.Hosts {
	if s.routeFiles == nil {
		return nil
	}
	choices, unplaced := s.chooser.Choose(s.declared.Table)
	endpoints := map[string]hostlookup.Endpoint{}
	for _, c := range choices {
		endpoints[c.Host] = hostlookup.Endpoint{App: c.App, Addr: s.endpoints[c.Cluster]}
	}
	problems := slices.Concat(s.declared.Problems, unplaced)
	for _, p := range problems {
		s.log.Warn("declaration", "err", p)
	}
	s.metrics.problems.WithLabelValues("routes").Set(float64(len(problems)))
	hosts, err := hostlookup.NewHosts(endpoints)
	if err != nil {
		panic(err) // the hosts and the endpoints were checked when they were read
	}
	return hosts
}
