package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/certfiles"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

const (
	recheckInterval = 30 * time.Second // between attempts without a change of input
	firstBackoff    = time.Second      // after the first failed attempt
	sourceRetry     = time.Second      // until Follow of a source that returned an error is called again
)

// Controller configures one HAProxy from routes and clusters. Set the fields before the first call
// of a method. Methods are safe for concurrent use, except that at most one call of Run, Plan or
// Apply may run at a time. Two Controllers must not share a source, a Dir or an Elector.
type Controller struct {
	// Routes are the declarations. Required.
	Routes RouteSource
	// Clusters are the clusters to which routes refer. No two clusters may have the same name.
	Clusters []Cluster
	// Certificates, if not nil, reads the certificates of HAProxy from files. The Controller sets
	// Builder.Edge.Certificates to them.
	Certificates *certfiles.Source
	// Builder turns routes and clusters into a configuration.
	Builder kube.Builder
	// Dir is the directory of the configuration and the report. Dir.Check and Dir.Reload check the
	// configuration and reload HAProxy. Required. With an Elector, Run sets Dir.Guard.
	Dir *deploy.Dir
	// Version, if not nil, returns the version of the HAProxy that reads the configuration;
	// [deploy.Checker.Version] is such a function. Each attempt to apply a configuration renders it
	// for this version, so an upgrade of HAProxy can change the configuration. If Version fails,
	// the Controller uses the last version that it has read. If it has read none, it uses
	// Builder.Edge.Global.Version.
	Version func(context.Context) (haproxycfg.Version, error)
	// Files are further files that are made from the routes. With each applied change, the
	// Controller also writes these files to Dir.
	Files []File

	// Limit returns an error if a change is too large; nil means MaxShare(0.3). The Controller
	// refuses such a change until somebody calls Force. It also refuses a first configuration in
	// which no route has a server; see ErrNoServers.
	Limit func(*Change) error
	// ForceHint, if not nil, returns a text that says how to force the change with this ID. The
	// error of a refused change ends with the text.
	ForceHint func(id string) string
	// ForceFirst makes Apply ignore Limit and ErrNoServers. It makes Run ignore them for the first
	// change that they reject, in all attempts that this change needs.
	ForceFirst bool

	// Journal, if not nil, records each change that Run applies, or that Limit or HAProxy rejects.
	// If Run cannot append an entry, it logs the error and counts it in Status.JournalErrors, and
	// the change stays in force. Only one process may append to a journal at a time. Apply appends
	// nothing.
	Journal *journal.Dir

	// Fleet, if not nil, stores the orders of operators (a hold, which keeps earlier routes in
	// force, and shifts of routes) for several Controllers with the same declarations. Rollback,
	// Release and SetShifts write to Fleet, and Run of each Controller follows it. FleetFile is a
	// copy that stays in force while Fleet cannot be read, even after a restart. If Fleet is nil,
	// the orders are only in FleetFile.
	Fleet fleet.Store
	// Canary, if not nil, makes the Controllers with the same Fleet try new routes on one
	// Controller first. Without Fleet, this Controller tries its own new routes, and returns to the
	// approved routes if the new routes do harm. Plan and Apply ignore Canary.
	Canary *Canary

	// Elector decides whether this process may write. nil means that this process may always write.
	Elector Elector
	// MinInterval is the shortest pause between two attempts to apply a change, from the end of one
	// attempt to the start of the next. 0 means 1 s.
	MinInterval time.Duration
	// MaxInterval is the longest pause between two reloads; 0 means 30 s. The first pause is
	// MinInterval, and each further pause is four times as long, up to MaxInterval. If the
	// Controller does not reload HAProxy for the time MaxInterval after the end of a pause, the
	// next pause is MinInterval again.
	MaxInterval time.Duration
	// OldWorkers lists and ends the old workers of HAProxy. nil means that their number has no
	// bound.
	OldWorkers OldWorkers
	// MaxOldWorkers is the number of old workers at which a reload waits until one of them ends. 0
	// means 16. A negative value means that a reload never waits for old workers.
	MaxOldWorkers int
	// MaxReloadWait is the longest time that a reload waits because HAProxy has MaxOldWorkers old
	// workers or more. Then the Controller ends the oldest workers and reloads HAProxy. 0 means 10
	// minutes, and a negative value means no wait.
	MaxReloadWait time.Duration
	// KeepWorkers means that the Controller ends no worker. After MaxReloadWait, it reloads HAProxy
	// although HAProxy has MaxOldWorkers old workers or more. Set KeepWorkers if the workers also
	// have streams of somebody else; see deploy.Foreign.
	KeepWorkers bool
	// StartTimeout limits how long Run, before its first attempt, waits until every cluster has
	// answered and all declarations can be read. It also limits how long Plan waits for each
	// cluster. 0 means 10 s.
	StartTimeout time.Duration

	// Logger receives the log lines of Run: changes with their causes, problems, clusters that do
	// not answer, and old workers that end. Apply logs only reloads that wait and old workers that
	// end. nil means no log.
	Logger *slog.Logger
	// Attempted, if not nil, receives the result of each attempt of Run to apply a configuration.
	// The goroutine that makes the attempts calls Attempted, so the next attempt cannot begin before
	// Attempted returns.
	Attempted func(Attempt)

	once   sync.Once
	forced chan forceRequest
	calls  chan loopCall
	status status

	// following is a lock, made of a channel with the capacity 1: a goroutine sends a value to lock
	// it, and receives the value to unlock it. The loop of Run has the lock from the moment when it
	// replaces the orders in FleetFile until HAProxy follows the new shifts. The method "Shifts"
	// waits for the lock.
	following chan struct{}

	lastOrders atomic.Pointer[orders] // the result of the last call of orders
	refs       refs
	groups     edge.Grouper               // of the declared routes
	onlyHere   atomic.Pointer[withdrawal] // the last one that Fleet may lack

	// Only the goroutine that runs the loop of Run uses these four fields.
	adopted  string // version of the last state of Fleet that was copied to FleetFile
	diverged bool   // FleetFile has a change that Fleet lacks
	tried    tried
	declared struct {
		number int    // inputs.declared
		id     string // the ID of these routes; "" before the first use
	}

	explained atomic.Pointer[explainable] // stored after each attempt of Run; nil before the first attempt ends, and after applier.reset

	version    haproxycfg.Version // the last result of Version without an error; zero before
	versionErr string             // the last error of Version, so that a repeated error is logged once
}

// Cluster is a Kubernetes cluster to which routes refer.
type Cluster struct {
	Name   string
	Source ClusterSource
}

// File is a file that is made from the routes, such as a DNS zone.
type File struct {
	// Name is the path of the file relative to Controller.Dir.
	Name string
	// Select returns the routes that the file can contain, and one problem for each route that it
	// leaves out. A nil Select means that the file contains all routes.
	Select func(routes.Table) (routes.Table, []routes.Problem)
	// Append appends the content of the file for the selected routes to dst. Required.
	Append func(dst []byte, table routes.Table) ([]byte, error)
}

// Elector chooses one leader among processes that share a directory. Only the leader writes to the
// directory. Package lease contains an Elector.
type Elector interface {
	// Run takes part in the election until ctx ends. Then it gives up leadership and returns.
	//
	// When this process begins to lead, Run calls "begin", which may block until the end of the
	// term. Run calls "leader" whenever the leader changes: name is "" if no leader is known, and
	// self reports whether this process leads. The calls may come from any goroutine.
	Run(ctx context.Context, begin func(Term), leader func(name string, self bool))
}

// Term is a period in which this process leads. It ends when Done is closed or when Guard first
// returns an error, whichever is earlier.
type Term struct {
	// Guard returns nil while this process may write. The Controller calls Guard before it writes a
	// file and before each reload. So a process that was suspended while it led stops before its
	// next write. Guard must not block.
	Guard func() error
	// Done is closed when this process stops being the leader, or soon after. The Controller then
	// interrupts a running check or reload.
	Done <-chan struct{}
}

// err returns nil while the term lasts.
func (t Term) err() error {
	if t.Guard == nil {
		return ErrNotLeading
	}
	select {
	case <-t.Done:
		return ErrNotLeading
	default:
		return t.Guard()
	}
}

func (c *Controller) init() {
	c.once.Do(func() {
		c.forced, c.calls, c.following = make(chan forceRequest), make(chan loopCall), make(chan struct{}, 1)
	})
}

func (c *Controller) check() error {
	if c.Routes == nil || c.Dir == nil {
		return errors.New("controller: Routes and Dir must be set")
	}
	return nil
}

func (c *Controller) minInterval() time.Duration { return cmp.Or(c.MinInterval, time.Second) }

func (c *Controller) startTimeout() time.Duration { return cmp.Or(c.StartTimeout, 10*time.Second) }

func (c *Controller) logger() *slog.Logger {
	return cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
}

// Run follows the sources and applies every change until ctx ends. Then it returns nil, and the
// configuration stays in force. Run returns an error at the start in three cases:
//
//   - The report cannot be read.
//   - No declaration can be read, see RouteSource.
//   - The file or the directory of Certificates cannot be read, and the report lists no certificate
//     that could stay in use.
//
// If some declarations cannot be read at the start, the first attempt waits for them, at most for
// StartTimeout. After that, the missing routes count as removed, so Limit may refuse the change.
// ForceFirst does not permit such a change.
//
// An attempt that is running when ctx ends has 5 s to finish. All goroutines of Run have ended when
// it returns.
func (c *Controller) Run(ctx context.Context) error {
	c.init()
	if err := c.check(); err != nil {
		return err
	}
	declared, err := c.Routes.Read()
	if err != nil {
		if len(declared.Unread) == 0 {
			return err
		}
		c.logger().Error("routes cannot be read", "err", err)
	}
	last, err := c.readReport()
	if err != nil {
		return err
	}
	in := newInbox(c.Clusters, time.Now())
	publish := func(d Declarations) {
		c.setRefs(d)
		in.setRoutes(d)
	}
	publish(declared)
	if c.Certificates != nil {
		files, err := c.readCertificates(ctx, last)
		if err != nil {
			return err
		}
		in.setCertificates(files)
	}
	if c.Fleet != nil {
		in.inputs.shared = &sharedOrders{since: toSeconds(time.Now())}
	}
	l := c.newLoop(in, time.Now)

	group, ctx := errgroup.WithContext(ctx)
	if c.Elector != nil {
		terms := make(chan Term)
		l.terms = terms
		c.Dir.Guard = l.guard
		c.status.setLeader("", false)
		electing, resign := context.WithCancel(context.WithoutCancel(ctx))
		var elector sync.WaitGroup
		defer func() { resign(); elector.Wait() }() // another process may lead after the last write
		elector.Go(func() {
			c.Elector.Run(electing, func(t Term) {
				select {
				case terms <- t:
				case <-t.Done:
				}
			}, c.status.setLeader)
		})
	} else {
		c.status.setLeader("", true)
	}
	group.Go(func() error { return c.Routes.Follow(ctx, publish) })
	if c.Certificates != nil {
		group.Go(func() error { c.Certificates.Follow(ctx, in.setCertificates); return nil })
	}
	if c.Fleet != nil {
		group.Go(func() error {
			c.Fleet.Follow(ctx, func(s fleet.Snapshot, err error) { in.setShared(time.Now(), s, err) })
			return nil
		})
	}
	for i := range c.Clusters {
		group.Go(func() error {
			c.follow(ctx, i, c.start(i, last), in)
			return nil
		})
	}
	if c.Canary != nil {
		group.Go(func() error { newTrials(c).run(ctx); return nil })
	}
	group.Go(func() error { l.run(ctx); return nil })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (c *Controller) newLoop(in *inbox, clock func() time.Time) *loop {
	log := c.logger()
	a := newApplier(c, log)
	a.clock = clock
	connectivity := connectivityLog{}
	l := &loop{
		inbox: in, apply: a.apply, clock: clock,
		applied: func(t Attempt) { c.status.applied(t); a.record(t) },
		leads: func(now bool) {
			a.reset()
			if !now {
				c.status.forgetAttempt()
			}
		},
		seen: func(in inputs, started bool) {
			connectivity.log(log, in, started)
			c.status.seen(in, started)
		},
		schedule:     schedule{minInterval: c.minInterval(), backoff: firstBackoff, maxBackoff: recheckInterval},
		force:        startForce{active: c.ForceFirst},
		startTimeout: c.startTimeout(), recheck: recheckInterval,
		forced: c.forced, calls: c.calls, adopt: c.adopt,
	}
	a.guard = l.guard
	return l
}

// readVersion sets c.version to the result of c.Version, that is, to the version of the installed
// HAProxy.
func (c *Controller) readVersion(ctx context.Context) {
	if c.Version == nil {
		return
	}
	v, err := c.Version(ctx)
	last := c.versionErr
	if c.versionErr = ""; err != nil {
		if c.versionErr = err.Error(); c.versionErr != last && ctx.Err() == nil {
			c.logger().Warn("the version of HAProxy is unknown", "rendering for", cmp.Or(c.version, c.Builder.Edge.Global.Version), "err", err)
		}
		return
	}
	if v != c.version {
		c.logger().Info("HAProxy", "version", v)
	}
	c.version = v
}

// start returns the Start with which the Controller calls Read and Follow of c.Clusters[i].Source.
// The argument "last" is the report of the configuration in force.
func (c *Controller) start(i int, last kube.Report) Start {
	return Start{Selector: c.Builder.NodeSelector(), Current: last.Subsets(c.Clusters[i].Name)}
}

// follow copies the states of c.Clusters[i] to the inbox until ctx ends.
func (c *Controller) follow(ctx context.Context, i int, start Start, in *inbox) {
	for {
		err := c.Clusters[i].Source.Follow(ctx, start, func(s ClusterState) { in.setCluster(i, time.Now(), s) })
		if ctx.Err() != nil {
			return
		}
		in.setUnreachable(i, time.Now(), cmp.Or(err, errStopped))
		sleep(ctx, sourceRetry)
	}
}

var errStopped = errors.New("its source has stopped")

// Status returns the present state of the Controller. It is useful while Run is running.
func (c *Controller) Status() Status { return c.status.get() }

// connectivityLog contains, for each cluster name, the line that was last logged about the cluster.
type connectivityLog map[string]string

// log logs when a cluster begins to answer or stops answering. The reason why a cluster does not
// answer may change often. So a new reason alone is logged at debug level.
func (last connectivityLog) log(log *slog.Logger, in inputs, started bool) {
	for i := range in.clusters {
		c := &in.clusters[i]
		line := "the cluster answers"
		switch {
		case !c.Synced && !started:
			continue
		case !c.Synced:
			line = "the cluster has not answered yet"
		case c.Err != nil:
			line = "the cluster does not answer"
		}
		if last[c.name] == line {
			if c.Err != nil {
				log.Debug(line, "cluster", c.name, "err", c.Err)
			}
			continue
		}
		last[c.name] = line
		if c.Err != nil || !c.Synced {
			log.Warn(line, "cluster", c.name, "err", c.Err)
		} else {
			log.Info(line, "cluster", c.name, "nodes", len(c.Objects.Nodes), "services", len(c.Objects.Services))
		}
	}
}
