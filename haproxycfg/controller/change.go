package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/inputfile"
)

// ReportFile is the name of the report file, which is in the same directory as the configuration.
// It contains a kube.Report as JSON.
const ReportFile = "report.json"

// Change is a new configuration and its difference from the configuration in Controller.Dir.
type Change struct {
	// Config is the new configuration.
	Config *haproxycfg.Config
	// Diff is the difference between the configuration in Controller.Dir and Config. Diff.Text is
	// always empty.
	Diff deploy.Diff
	// Losses counts the hosts, paths, backends and servers that the change takes away. If a node
	// port now belongs to another Service, the servers that the old Service had on this port do not
	// count as lost.
	Losses deploy.Losses
	// Report describes Config. Report.Changes describes this Change. If Config is in force already,
	// Report.Changes describes the last change that was applied.
	//
	// When Run calls Limit, Report.Applied, Report.Changes and Report.Budget are not set yet: Run
	// computes them after the change is in force, so that HAProxy does not wait for them. They are
	// set in Controller.Attempted, and in a Change that Plan returns.
	Report kube.Report

	plan     *deploy.Plan
	describe func() // does the work of completeReport; nil afterwards
	input    kube.Input
	declared routes.Table              // the latest declarations; input.Table has other routes if there is a hold
	held     *fleet.Hold               // nil without a hold
	files    []haproxycfg.RenderedFile // without the report
	// late is true if an earlier attempt to apply this change has written Config to the directory,
	// but failed afterwards: at the reload, or when it wrote the report.
	late bool
	// unread is true if the routes of some declaration file are unknown, because no attempt to read
	// or parse this file has succeeded since the start of the program.
	unread bool
}

// ID identifies Config. Two Changes for one directory have the same ID if and only if the files of
// their configurations are the same.
func (ch *Change) ID() string { return ch.plan.ID() }

// MaxShare returns a function for Controller.Limit. It refuses a change that takes away more than
// "share" (0 to 1) of the hosts, the paths, the backends or the servers in force; see
// Change.Losses. What the change adds does not matter.
func MaxShare(share float64) func(*Change) error {
	return func(ch *Change) error {
		if reason := ch.Losses.Over(share); reason != "" {
			return errors.New(reason)
		}
		return nil
	}
}

// ErrNoServers is the reason why a first configuration is refused: there are routes, but no route
// has a server. Usually the name of a cluster is wrong, or a cluster has not answered yet.
var ErrNoServers = errors.New("the first configuration would have no servers")

// withoutServers returns ErrNoServers if two conditions are true: the directory has no
// configuration yet, and no route of the new configuration has a server. If there are no routes, it
// returns nil, because somebody may want an HAProxy without routes.
func (ch *Change) withoutServers() error {
	if ch.plan.First() && ch.Diff.Servers.After == 0 && (ch.unread || len(ch.input.Table.Routes()) > 0) {
		return ErrNoServers
	}
	return nil
}

// ChangedFiles returns the names of those Controller.Files whose content the change alters.
func (ch *Change) ChangedFiles() ([]string, error) { return ch.plan.ChangedAuxiliary(ch.files...) }

// refusal returns nil if the change may be applied, and otherwise the reason with the ID of the
// change. A change may be applied if it is empty, or if Limit and withoutServers accept it. It may
// also be applied if "allowed" returns true for its ID, because somebody has forced it.
func (c *Controller) refusal(ch *Change, allowed permit) error {
	err := c.limit(ch)
	if err == nil || allowed(ch.ID()) {
		return nil
	}
	hint := ""
	if c.ForceHint != nil {
		hint = "; " + c.ForceHint(ch.ID())
	}
	return fmt.Errorf("%w (change %s)%s", err, ch.ID(), hint)
}

// limit returns the reason why a change may be applied only with the permission of an operator. It
// returns nil if the change needs no permission, for example if it is empty.
func (c *Controller) limit(ch *Change) error {
	if ch.Diff.Empty() {
		return nil
	}
	limit := c.Limit
	if limit == nil {
		limit = MaxShare(0.3)
	}
	return cmp.Or(ch.withoutServers(), limit(ch))
}

// plan does the same as planFirst, and completes the report.
func (c *Controller) plan(ctx context.Context, in inputs, by *orders, last kube.Report, causes func(*Change) []kube.Cause, now time.Time) (*Change, error) {
	ch, err := c.planFirst(ctx, in, by, last, causes, now)
	ch.completeReport()
	return ch, err
}

// completeReport sets Report.Applied, Report.Changes and Report.Budget, unless they are set already.
func (ch *Change) completeReport() {
	if ch.describe != nil {
		ch.describe()
		ch.describe = nil
	}
}

// planFirst builds a Change from the inputs (routes and clusters) and from the orders of operators
// (a hold, and shifts). It compares the Change with the configuration in the directory, whose
// report is "last". The function "causes" finds the differences of the input that explain the
// change.
//
// The Report has no Applied, no Budget and no new Changes until completeReport sets them. If
// planFirst returns an error, the Change has a Report, but cannot be applied.
func (c *Controller) planFirst(ctx context.Context, in inputs, by *orders, last kube.Report, causes func(*Change) []kube.Cause, now time.Time) (*Change, error) {
	c.readVersion(ctx)
	ch, err := c.build(in, by, last, now)
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
		ch.Losses = ch.plan.Losses(kube.Misdirected(last, ch.input.Clusters))
	case refused != nil && refused.ID == ch.ID():
		changes := *refused
		changes.ID, changes.Reason, changes.Losses = "", "", nil
		ch.Report.Changes, ch.late = &changes, true
	default:
		ch.Report.Changes = last.Changes
	}
	budget := ch.describe
	ch.describe = func() {
		budget()
		at := now.UTC().Truncate(time.Millisecond)
		ch.Report.Applied = last.Applied
		if a := last.Applied; a == nil || a.ID != ch.ID() {
			ch.Report.Applied = &kube.Applied{ID: ch.ID(), Time: at}
		}
		if ch.Diff.Empty() {
			return
		}
		why := causes(ch)
		for _, file := range certs.Changed(last.Certificates, ch.Report.Certificates) {
			why = append(why, kube.Cause{Object: "Certificate " + file, What: "changed"})
		}
		changes := kube.NewChanges(at, last, ch.Report, ch.Diff.Servers, why)
		ch.Report.Changes = &changes
	}
	return ch, nil
}

// build makes a Change with its Config, Report and files. The argument "last" is the report in the
// directory. A cluster that has not answered since the start keeps the servers that this report
// lists.
func (c *Controller) build(in inputs, by *orders, last kube.Report, now time.Time) (*Change, error) {
	table := in.routes.Table
	ch := &Change{declared: table, unread: len(in.routes.Unread) > 0}
	if by.held != nil {
		ch.held, ch.unread = by.held.hold, false
		table = by.held.table
	}
	ch.input.Table, ch.input.Regions = table, in.routes.Regions
	for i := range in.clusters {
		ch.input.Clusters = append(ch.input.Clusters, in.clusters[i].build(last))
	}
	builder := c.Builder
	builder.InForce, builder.Groups = c.Dir.InForce, &c.groups
	builder.Edge.Global.Version = cmp.Or(c.version, builder.Edge.Global.Version)
	chosen := c.chooseCertificates(in, table, last, now)
	builder.Edge.Certificates = chosen.Certificates
	builder.Edge.Regions = in.routes.Regions
	addShifts(&builder.Edge, by.state.Shifts)
	var budget func() kube.Budget
	ch.Config, ch.Report, budget = builder.BuildFirst(table, ch.input.Clusters, now)
	ch.describe = func() { ch.Report.Budget = budget() }
	ch.Report.AddCertificates(chosen)
	ch.Report.AddRoutes(in.routes.Problems)
	if by.held != nil {
		ch.Report.AddRoutes(by.held.problems)
		ch.Report.AddHeld(by.held.describe(), by.held.hold.String())
	}
	for _, f := range c.Files {
		selected := table
		if f.Select != nil {
			var problems []routes.Problem
			selected, problems = f.Select(table)
			ch.Report.AddRoutes(problems)
		}
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

// build returns the cluster as input for kube.Builder. The argument "last" is the report in the
// directory. If the cluster has not answered since the start, the input contains the servers that
// this report lists.
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

// apply writes the configuration and the report of ch to the directory, and makes HAProxy run this
// configuration. changed reports whether apply wrote a file.
func (ch *Change) apply(ctx context.Context) (changed bool, err error) {
	// ApplyWith writes the report last. So a report on disk describes only files that are in force.
	return ch.plan.ApplyWith(ctx, func() ([]haproxycfg.RenderedFile, error) {
		ch.completeReport()
		report, err := ch.Report.AppendJSON(nil)
		return append(ch.files, haproxycfg.RenderedFile{Name: ReportFile, Data: report}), err
	})
}

// maxReport is the largest size, in bytes, of a report.json that the Controller reads.
const maxReport = 256 << 20

// readCertificates reads Certificates at the start. The argument "last" is the report in the
// directory. If the files cannot be read, and the report lists no certificate that could stay in
// use, readCertificates returns an error.
func (c *Controller) readCertificates(ctx context.Context, last kube.Report) (certs.Files, error) {
	files := c.Certificates.Read(ctx)
	if files.Err != nil && len(last.Certificates) == 0 {
		return files, files.Err
	}
	return files, nil
}

// chooseCertificates returns the certificates for the hosts of the table. The argument "last" is
// the report in the directory.
func (c *Controller) chooseCertificates(in inputs, table routes.Table, last kube.Report, now time.Time) certs.Choice {
	if c.Certificates == nil {
		return certs.Choice{}
	}
	var hosts []string
	for _, r := range table.Routes() {
		if n := len(hosts); n == 0 || hosts[n-1] != r.Host { // a table is sorted by host
			hosts = append(hosts, r.Host)
		}
	}
	return certs.Choose(certs.Input{
		Files: in.certificates, Last: last.Certificates, Hosts: hosts, Now: now,
		Load: func(r certs.Record) ([]byte, error) {
			return inputfile.Read(filepath.Join(c.Dir.Path, filepath.FromSlash(r.Copy)), certs.MaxFileBytes)
		},
	})
}

// readReport returns the report in the directory, or the zero Report if the file is missing.
func (c *Controller) readReport() (kube.Report, error) {
	var report kube.Report
	path := filepath.Join(c.Dir.Path, ReportFile)
	data, err := inputfile.Read(path, maxReport)
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

// Plan reads the sources once, and returns the change from the configuration in Dir to these
// sources. It writes nothing. The argument "cause", for example the name of a command, becomes the
// cause in the report of the Change.
//
// A cluster that does not answer keeps the servers that the report lists for it; without such
// servers, Plan returns an error. If a step after the reading fails, Plan returns an error and a
// Change whose Report contains the problems of the routes.
func (c *Controller) Plan(ctx context.Context, cause string) (*Change, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	last, err := c.readReport()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	in, err := c.read(ctx, last)
	if err != nil {
		return nil, err
	}
	by, err := c.readOrders(ctx)
	if err != nil {
		return nil, err
	}
	return c.plan(ctx, in, by, last, func(*Change) []kube.Cause { return []kube.Cause{{What: cause}} }, now)
}

// Apply applies a Change that Plan returned. The error is nil if and only if the outcome is Written
// or Unchanged. Without ForceFirst, Apply refuses a change that Limit rejects. Unlike Run, Apply
// does not write the refused change to the report.
//
// If the change needs a reload and HAProxy has MaxOldWorkers old workers, Apply waits until one of
// them ends. After MaxReloadWait, Apply ends the oldest worker, unless KeepWorkers is true.
func (c *Controller) Apply(ctx context.Context, ch *Change) (Outcome, error) {
	allowed := never
	if c.ForceFirst {
		allowed = always
	}
	if err := c.refusal(ch, allowed); err != nil {
		return Refused, err
	}
	if ch.plan.Reloads() {
		if err := ch.plan.Check(ctx); err != nil { // before the method "admit" ends an old worker
			return Failed, err
		}
		r := c.newReloads(c.logger())
		for waiting := r.admit(ctx, time.Now()); waiting != nil; waiting = r.admit(ctx, time.Now()) {
			sleep(ctx, min(pollInterval(0), time.Until(waiting.Until)))
			if err := ctx.Err(); err != nil {
				return Failed, errors.Join(err, waiting)
			}
		}
	}
	changed, err := ch.apply(ctx)
	switch {
	case err != nil:
		return Failed, err
	case changed:
		return Written, nil
	}
	return Unchanged, nil
}

// read reads first the routes, and afterwards all clusters in parallel. The argument "last" is the
// report in the directory.
func (c *Controller) read(ctx context.Context, last kube.Report) (inputs, error) {
	in := inputs{clusters: make([]cluster, len(c.Clusters))}
	var err error
	if in.routes, err = c.Routes.Read(); err != nil {
		return in, err
	}
	c.setRefs(in.routes)
	if c.Certificates != nil {
		if in.certificates, err = c.readCertificates(ctx, last); err != nil {
			return in, err
		}
	}
	var group errgroup.Group
	for i := range c.Clusters {
		group.Go(func() error {
			name := c.Clusters[i].Name
			state, err := c.readCluster(ctx, i, last)
			if err == nil && !state.Synced {
				if _, known := last.Selection(name); !known || ctx.Err() != nil {
					err = state.Err
				}
			}
			if err != nil {
				return fmt.Errorf("cluster %s: %w", name, err)
			}
			in.clusters[i] = cluster{name: name, ClusterState: state} // a single Read does not tell since when the cluster answers
			return nil
		})
	}
	return in, group.Wait()
}

// readCluster reads c.Clusters[i]. If the cluster does not answer within StartTimeout, readCluster
// returns a state with Err.
func (c *Controller) readCluster(ctx context.Context, i int, last kube.Report) (ClusterState, error) {
	ctx, cancel := context.WithTimeout(ctx, c.startTimeout())
	defer cancel()
	state, err := c.Clusters[i].Source.Read(ctx, c.start(i, last))
	if err != nil || state.Synced {
		return state, err
	}
	if ctx.Err() != nil {
		return ClusterState{Err: fmt.Errorf("no answer within %v: %w", c.startTimeout(), state.Err)}, nil
	}
	return state, nil
}
