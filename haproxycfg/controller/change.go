package controller

import (
	"context"
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
)

// ReportFile is the name of the report in the directory of the configuration: a kube.Report as
// JSON.
const ReportFile = "report.json"

// Change is a configuration that was made of routes and clusters, and what it changes.
type Change struct {
	// Diff compares the configuration with the one in the directory. It has no Text.
	Diff deploy.Diff
	// Report is the report to be written with the configuration. Its Changes are this change, or
	// the last one if Diff is empty.
	Report kube.Report
	// Config is the configuration.
	Config *haproxycfg.Config

	plan  *deploy.Plan
	input kube.Input
	files []haproxycfg.RenderedFile // without the report
	// late is true if the directory holds the configuration already, but something that belongs to
	// it failed, such as the reload or the report.
	late bool
}

// ID names the configuration: the same files in the same directory have the same ID, and other
// files another one.
func (ch *Change) ID() string { return ch.plan.ID() }

// MaxShare returns a limit: no change may remove or alter more than this share of the servers in
// force, from 0 to 1. Servers that are added do not count.
func MaxShare(share float64) func(*Change) error {
	return func(ch *Change) error {
		if s := ch.Diff.ServerShare(); s > share {
			return fmt.Errorf("%.1f%% of the servers would go or change, and the limit is %.1f%%", 100*s, 100*share)
		}
		return nil
	}
}

// refusal returns an error if the change is larger than the limit and not allowed.
func (c *Controller) refusal(ch *Change, allowed permit) error {
	if ch.Diff.Empty() {
		return nil
	}
	limit := c.Limit
	if limit == nil {
		limit = MaxShare(0.3)
	}
	err := limit(ch)
	if err == nil || allowed(ch.ID()) {
		return nil
	}
	return fmt.Errorf("%w (change %s)", err, ch.ID())
}

// plan makes a Change of the inputs. last is the report of what is in force, and causes returns why
// the configuration changes. After an error the Change has a Report but cannot be applied.
func (c *Controller) plan(in inputs, last kube.Report, causes func(kube.Input) []kube.Cause, now time.Time) (*Change, error) {
	ch, err := c.build(in, last, now)
	if err != nil {
		return ch, err
	}
	if ch.plan, err = c.Dir.Plan(ch.Config); err != nil {
		return ch, err
	}
	ch.Diff = ch.plan.Diff
	refused := last.Refused
	switch {
	case !ch.Diff.Empty():
		changes := kube.NewChanges(now.UTC().Truncate(time.Millisecond), last, ch.Report, ch.Diff.Servers, causes(ch.input))
		ch.Report.Changes = &changes
	case refused != nil && refused.ID == ch.ID():
		changes := *refused
		changes.ID, changes.Reason = "", ""
		ch.Report.Changes, ch.late = &changes, true
	default:
		ch.Report.Changes = last.Changes
	}
	return ch, nil
}

// build makes the configuration, its report and the files beside it. Clusters that have never
// answered keep the servers that last has of them.
func (c *Controller) build(in inputs, last kube.Report, now time.Time) (*Change, error) {
	table := in.routes.Table
	ch := &Change{input: kube.Input{Table: table}}
	for i := range in.clusters {
		ch.input.Clusters = append(ch.input.Clusters, in.clusters[i].build(last))
	}
	ch.Config, ch.Report = c.Builder.Build(table, ch.input.Clusters, now)
	ch.Report.AddRoutes(in.routes.Problems)
	for _, f := range c.Files {
		selected, problems := f.Select(table)
		ch.Report.AddRoutes(problems)
		data, err := f.Append(nil, selected)
		if err != nil {
			return ch, err
		}
		ch.files = append(ch.files, haproxycfg.RenderedFile{Name: f.Name, Data: data})
	}
	for i := range in.clusters {
		if k := &in.clusters[i]; len(k.Problems) > 0 {
			ch.Report.AddManifests(k.name, k.Problems)
		}
	}
	return ch, nil
}

// build returns the cluster as package kube takes it.
func (c *cluster) build(last kube.Report) kube.Cluster {
	connectivity := c.connectivity()
	if !c.Synced {
		if c.Err == nil {
			connectivity.Reason = "no answer yet"
		}
		return last.LastKnown(c.name, c.since, connectivity.Reason)
	}
	k := kube.Cluster{Name: c.name, Objects: c.Objects, Selection: c.Selection, Connectivity: connectivity}
	if c.Selection == nil {
		k.Current = last.Subsets(c.name)
	}
	return k
}

// apply brings the change into force. It reports whether it has written or reloaded anything.
func (ch *Change) apply(ctx context.Context) (changed bool, err error) {
	report, err := ch.Report.AppendJSON(nil)
	if err != nil {
		return false, err
	}
	// The report comes last: when it is there, so is everything that it describes.
	return ch.plan.Apply(ctx, append(ch.files, haproxycfg.RenderedFile{Name: ReportFile, Data: report})...)
}

// readReport returns the report in the directory, the zero Report if there is none.
func (c *Controller) readReport() (kube.Report, error) {
	var report kube.Report
	path := filepath.Join(c.Dir.Path, ReportFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return report, fmt.Errorf("%s: %w (it names the nodes in use; remove it to choose them afresh)", path, err)
	}
	return report, nil
}
