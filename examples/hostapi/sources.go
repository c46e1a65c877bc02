package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// sources reads what the catalog is made of, and makes a new one at each change.
type sources struct {
	file        *hostlookup.File // nil for none
	routeFiles  []string
	clusterDirs map[string]string // by name of the cluster
	poll        time.Duration     // between two looks at the files
	api         *httpapi.Handler
	metrics     *metrics
	log         *slog.Logger

	mu       sync.Mutex
	fromFile *hostlookup.Hosts
	routes   []routeFile
	declared declared
	ready    chan struct{} // closed when the first catalog is there
}

// routeFile is a file of declarations as it was read last.
type routeFile struct {
	data     []byte
	table    routes.Table
	problems []routes.Problem
}

// load reads what must be there before anything else begins.
func (s *sources) load() error {
	s.routes = make([]routeFile, len(s.routeFiles))
	for i := range s.routeFiles {
		if _, err := s.readRoutes(i); err != nil {
			return err
		}
		if p := unusable(s.routes[i]); p != nil {
			return p
		}
	}
	if s.file != nil {
		s.file.Loaded = s.loaded
		if err := s.file.Load(); err != nil {
			return err
		}
	}
	s.update(func() {})
	return nil
}

// watch follows all changes until ctx ends.
func (s *sources) watch(stopped context.Context) error {
	group, ctx := errgroup.WithContext(stopped)
	if s.file != nil {
		group.Go(func() error { return s.file.Watch(ctx) })
	}
	if len(s.routeFiles) > 0 {
		group.Go(func() error { return s.watchRoutes(ctx) })
	}
	for name, dir := range s.clusterDirs {
		group.Go(func() error {
			err := manifest.WatchDir(ctx, dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
				for _, p := range problems {
					s.log.Warn("manifest", "cluster", name, "err", p)
				}
				s.metrics.problems.WithLabelValues("cluster " + name).Set(float64(len(problems)))
				s.update(func() { s.declared.clusters[name] = objects })
			})
			return fmt.Errorf("cluster %s: %w", name, err)
		})
	}
	err := group.Wait()
	if stopped.Err() != nil {
		return nil
	}
	return err
}

// loaded is told of each reading of the hosts file.
func (s *sources) loaded(hosts *hostlookup.Hosts, problems []hostlookup.Problem, err error) {
	for _, p := range problems {
		s.log.Warn("left out", "err", p)
	}
	n := len(problems)
	if err != nil {
		s.log.Error("the hosts stay as they are", "err", err)
		n++
	}
	s.metrics.problems.WithLabelValues("hosts").Set(float64(n))
	if err == nil {
		s.update(func() { s.fromFile = hosts })
	}
}

func (s *sources) watchRoutes(ctx context.Context) error {
	ticker := time.NewTicker(s.poll)
	defer ticker.Stop()
	failing := map[string]string{} // what is wrong with a file and was said already
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		any := false
		for i, name := range s.routeFiles {
			changed, err := s.readRoutes(i)
			any = any || changed
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != "" && text != failing[name] {
				s.log.Error("the declarations stay as they are", "err", err)
			}
			failing[name] = text
		}
		if any {
			s.update(func() {})
		}
	}
}

// readRoutes reads a file, and tells whether it has changed.
func (s *sources) readRoutes(i int) (bool, error) {
	data, err := os.ReadFile(s.routeFiles[i])
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.routes[i]
	if was.data != nil && bytes.Equal(was.data, data) {
		return false, nil
	}
	now := routeFile{data: data}
	now.table, now.problems = routes.Parse(s.routeFiles[i], data)
	if was.data != nil && unusable(now) != nil {
		now.table = was.table
	}
	s.routes[i] = now
	return true, nil
}

// unusable returns the problem of a file of which nothing could be read. An older state
// of it is better than none.
func unusable(f routeFile) error {
	i := slices.IndexFunc(f.problems, func(p routes.Problem) bool { return p.Field == "" })
	if i < 0 || len(f.table.Routes()) > 0 {
		return nil
	}
	return f.problems[i]
}

// update changes a part, and publishes the catalog that follows once all parts are there.
func (s *sources) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	if s.file != nil && s.fromFile == nil || len(s.declared.clusters) < len(s.clusterDirs) {
		return
	}
	first := s.api.Hosts() == nil
	update, err := s.api.Publish(hostlookup.MergeHosts(s.fromFile, s.declare()))
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

// declare joins the declarations and chooses a cluster for each host.
func (s *sources) declare() *hostlookup.Hosts {
	if len(s.routes) == 0 {
		return nil
	}
	var tables []routes.Table
	var problems []string
	for _, f := range s.routes {
		tables = append(tables, f.table)
		for _, p := range f.problems {
			problems = append(problems, p.Error())
		}
	}
	table, found := routes.Merge(tables...)
	for _, p := range found {
		problems = append(problems, p.Error())
	}
	s.declared.table = table
	endpoints, wrong := s.declared.hosts()
	problems = append(problems, wrong...)
	hosts, err := hostlookup.NewHosts(endpoints)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		s.log.Warn("declaration", "err", p)
	}
	s.metrics.problems.WithLabelValues("routes").Set(float64(len(problems)))
	return hosts
}
