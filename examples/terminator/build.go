package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

const reportFile = "report.json"

// built is what a state becomes.
type built struct {
	input  kube.Input
	config *haproxycfg.Config
	report kube.Report
}

// build makes the configuration of a state. last is the report of what is in force:
// clusters that were never synced keep the servers that it has of them.
func (s *settings) build(in state, last kube.Report, now time.Time) built {
	b := built{input: kube.Input{Table: in.table}}
	for i := range in.clusters {
		b.input.Clusters = append(b.input.Clusters, in.clusters[i].cluster(last))
	}
	b.config, b.report = s.builder.Build(in.table, b.input.Clusters, now)
	b.report.AddRoutes(in.routeProblems)
	if s.zone.Origin != "" {
		_, problems := s.zone.Publishable(in.table)
		b.report.AddRoutes(problems)
	}
	if s.cdn.Origin != "" {
		_, problems := s.cdn.Publishable(in.table)
		b.report.AddRoutes(problems)
	}
	for i := range in.clusters {
		if c := &in.clusters[i]; len(c.problems) > 0 {
			b.report.AddManifests(c.name, c.problems)
		}
	}
	return b
}

func (c *clusterState) cluster(last kube.Report) kube.Cluster {
	if !c.synced {
		reason := "no answer yet"
		if c.err != nil {
			reason = c.err.Error()
		}
		return last.LastKnown(c.name, c.since, reason)
	}
	k := kube.Cluster{Name: c.name, Objects: c.objects, Selection: c.selection, Connectivity: c.contact()}
	if c.selection == nil {
		k.Current = last.Subsets(c.name)
	}
	return k
}

// readReport returns the report of what is in force, an empty one if there is none.
func (s *settings) readReport() (kube.Report, error) {
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

// beside returns what is written beside the configuration, the report last: when it
// is there, all it tells of is there.
func (s *settings) beside(table routes.Table, report kube.Report) ([]haproxycfg.RenderedFile, error) {
	var files []haproxycfg.RenderedFile
	if s.zone.Origin != "" {
		published, _ := s.zone.Publishable(table)
		data, err := routes.AppendZone(nil, published, s.zone)
		if err != nil {
			return nil, err
		}
		files = append(files, haproxycfg.RenderedFile{Name: "dns.zone", Data: data})
	}
	if s.cdn.Origin != "" {
		published, _ := s.cdn.Publishable(table)
		data, err := routes.AppendCDN(nil, published, s.cdn)
		if err != nil {
			return nil, err
		}
		files = append(files, haproxycfg.RenderedFile{Name: "cdn.json", Data: data})
	}
	data, err := report.AppendJSON(nil)
	if err != nil {
		return nil, err
	}
	return append(files, haproxycfg.RenderedFile{Name: reportFile, Data: data}), nil
}

// dir returns the directory of the configuration. warned is told of HAProxy's
// warnings.
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
