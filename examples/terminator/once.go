package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/nodeselect"
)

const reportFile = "report.json"

// once makes the configuration and, unless it is only to be shown, writes it.
func (s *settings) once(ctx context.Context, now time.Time, inv cli.Invocation) (changed bool, err error) {
	in, err := s.read()
	if err != nil {
		return false, err
	}
	config, report := s.builder.Build(in.table, in.clusters, now)
	report.AddRoutes(in.routeProblems)
	for i, c := range in.clusters {
		report.AddManifests(c.Name, in.manifestProblems[i])
	}
	for _, p := range report.Problems {
		kind := "problem"
		if p.Warning {
			kind = "warning"
		}
		fmt.Fprintf(inv.Stderr, "%s: %s: %v\n", program, kind, p)
	}
	files, err := s.otherFiles(in.table, report)
	if err != nil {
		return false, err
	}

	dir := haproxycfg.Dir{Path: s.out}
	if s.haproxy != "" {
		dir.Check = haproxycfg.Checker{Haproxy: s.haproxy, Warned: func(warnings []haproxycfg.Diagnostic) {
			for _, w := range warnings {
				fmt.Fprintf(inv.Stderr, "%s: haproxy warns: %v\n", program, w)
			}
		}}.Check
	}
	if s.reload != "" {
		dir.Reload = haproxycfg.Reloader{
			Master:    haproxycfg.Socket{Path: s.reload},
			StateFile: s.builder.Edge.Global.StateFile,
		}.Reload
	}
	diff, err := dir.Diff(config)
	if err != nil {
		return false, err
	}
	if s.diff {
		fmt.Fprint(inv.Stdout, diff.String(), diff.Text)
		return false, nil
	}
	if share := diff.ServerShare(); share > s.maxChange && !s.force {
		return false, fmt.Errorf("%.1f%% of the servers would go or change, and -max-change is %.1f%%: see -diff, and -force if it is meant",
			100*share, 100*s.maxChange)
	}
	if changed, err = dir.Apply(ctx, config); err != nil {
		return changed, err
	}
	for name, data := range files {
		wrote, err := atomicfile.Update(filepath.Join(s.out, name), data, 0o644)
		changed = changed || wrote
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// input is all that a configuration is made of.
type input struct {
	table            routes.Table
	routeProblems    []routes.Problem
	clusters         []kube.Cluster
	manifestProblems [][]nodeselect.Problem // of each cluster
}

// read reads declarations and clusters side by side. A file or directory that
// cannot be read at all ends it: to go on would take all that it holds out of
// service.
func (s *settings) read() (input, error) {
	in := input{
		clusters:         make([]kube.Cluster, len(s.clusters)),
		manifestProblems: make([][]nodeselect.Problem, len(s.clusters)),
	}
	current, err := s.currentReport()
	if err != nil {
		return in, err
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		in.table, in.routeProblems, err = readRoutes(s.routes)
		return err
	})
	for i, c := range s.clusters {
		group.Go(func() (err error) {
			in.clusters[i] = kube.Cluster{Name: c.name, Current: current.Subsets(c.name)}
			in.clusters[i].Objects, in.manifestProblems[i], err = nodeselect.ReadDir(c.dir)
			if err != nil {
				return fmt.Errorf("cluster %s: %w", c.name, err)
			}
			return nil
		})
	}
	err = group.Wait()
	return in, err
}

func readRoutes(files []string) (routes.Table, []routes.Problem, error) {
	var tables []routes.Table
	var problems []routes.Problem
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return routes.Table{}, nil, err
		}
		table, found := routes.Parse(file, data)
		if p, lost := wholeFault(table, found); lost {
			return routes.Table{}, nil, p
		}
		tables = append(tables, table)
		problems = append(problems, found...)
	}
	table, found := routes.Merge(tables...)
	return table, append(problems, found...), nil
}

// wholeFault returns the problem for which a file gives no routes at all, if it is
// one of the file and not of its entries. That is a file that cannot be read; one
// whose only entry is bad is not.
func wholeFault(table routes.Table, problems []routes.Problem) (routes.Problem, bool) {
	if len(table.Routes) > 0 {
		return routes.Problem{}, false
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Field, "routes[") {
			return p, true
		}
	}
	return routes.Problem{}, false
}

// currentReport returns the report of the last run, an empty one at the first. It
// holds the subsets in force, which keep their members that are to be avoided but
// still serve.
func (s *settings) currentReport() (kube.Report, error) {
	var report kube.Report
	data, err := os.ReadFile(filepath.Join(s.out, reportFile))
	if errors.Is(err, fs.ErrNotExist) {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return report, fmt.Errorf("%s: %w (it holds the nodes in use; remove it to choose them anew)", filepath.Join(s.out, reportFile), err)
	}
	return report, nil
}

// otherFiles returns what is written beside the configuration, by name.
func (s *settings) otherFiles(table routes.Table, report kube.Report) (map[string][]byte, error) {
	files := map[string][]byte{}
	var err error
	if files[reportFile], err = json.MarshalIndent(report, "", " "); err != nil {
		return nil, err
	}
	files[reportFile] = append(files[reportFile], '\n')
	if s.zone.Origin != "" {
		if files["dns.zone"], err = routes.AppendZone(nil, table, s.zone); err != nil {
			return nil, err
		}
	}
	if s.cdn.Origin != "" {
		if files["cdn.json"], err = routes.AppendCDN(nil, table, s.cdn); err != nil {
			return nil, err
		}
	}
	return files, nil
}
