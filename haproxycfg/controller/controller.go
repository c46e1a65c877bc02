package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

const (
	recheckInterval = 30 * time.Second // between attempts without a change of input
	firstBackoff    = time.Second      // after the first failed attempt
	sourceRetry     = time.Second      // until Follow of a source that returned an error is called again
)

// Controller keeps the configuration of one HAProxy at what routes and clusters say.
//
// Set the fields before the first call of a method and do not change them later. All methods may
// be called from any goroutine, but only one of Run, Plan and Apply may run at a time, and the
// sources, Dir and Elector must not be shared with another Controller.
type Controller struct {
	// Routes are the declarations. Required.
	Routes RouteSource
	// Clusters are the clusters that routes refer to, each with another name.
	Clusters []Cluster
	// Builder makes the configuration of routes and clusters.
	Builder kube.Builder
	// Dir is the directory that holds the configuration and the report, with the functions that
	// check and load a configuration. Required. If there is an Elector, Run sets Dir.Guard.
	Dir *deploy.Dir
	// Files are made of the routes and written to Dir, after the configuration is in force.
	Files []File

	// Limit returns an error if a change is too large. The change is refused then, unless it is
	// forced. Limit is not called if there is nothing to change. nil means MaxShare(0.3).
	Limit func(*Change) error
	// ForceFirst makes Run ignore Limit for the first change, until an attempt does not fail.
	// Later changes are limited.
	ForceFirst bool

	// Elector decides whether this process may write. nil means always.
	Elector Elector
	// MinInterval is the time from the end of an attempt to the next one. 0 means 1 s.
	MinInterval time.Duration
	// StartTimeout is how long Run waits at the start for the first answer of every cluster, and
	// how long Plan waits for each of them. 0 means 10 s.
	StartTimeout time.Duration

	// Logger receives what Run does: changes with their causes, problems, clusters that do not
	// answer. nil means no log.
	Logger *slog.Logger
	// Attempted, if not nil, is called after each attempt of Run, from the goroutine that makes
	// attempts.
	Attempted func(Attempt)

	once   sync.Once
	forced chan forceRequest
	status status
}

// Cluster is a cluster that routes refer to.
type Cluster struct {
	Name   string
	Source ClusterSource
}

// File is a file that is written to the directory of the configuration and made of the routes,
// such as a DNS zone.
type File struct {
	// Name is the path of the file relative to the directory.
	Name string
	// Select returns the routes that the file can hold, and a problem for each other route.
	Select func(routes.Table) (routes.Table, []routes.Problem)
	// Append appends the content of the file for the routes that Select returned.
	Append func(dst []byte, table routes.Table) ([]byte, error)
}

// Elector decides which one of several processes writes to a directory that they share. Package
// lease has one that uses a Lease of Kubernetes.
type Elector interface {
	// Run takes part in the election until ctx ends, gives leadership up then, and returns.
	//
	// Run calls begin when this process begins to lead. begin may block until the term is over. Run
	// calls leader when it learns which process leads, or that none is known (name is empty), and
	// whether that is this one. Both may be called from any goroutine.
	Run(ctx context.Context, begin func(Term), leader func(name string, self bool))
}

// Term is a time during which this process leads. It ends when Done is closed or when Guard first
// returns an error, whichever is earlier.
type Term struct {
	// Guard returns nil while this process may write. The Controller calls it before each effect:
	// before it writes a file, and before it reloads HAProxy. So a process that was suspended in
	// the middle of an attempt stops at the next effect, even if no timer has fired yet. Guard must
	// not block.
	Guard func() error
	// Done is closed soon after the end of the term. It cuts a running check or reload off.
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
	c.once.Do(func() { c.forced = make(chan forceRequest) })
}

func (c *Controller) check() error {
	if c.Routes == nil || c.Dir == nil {
		return errors.New("controller: Routes and Dir must be set")
	}
	return nil
}

func (c *Controller) startTimeout() time.Duration { return cmp.Or(c.StartTimeout, 10*time.Second) }

func (c *Controller) logger() *slog.Logger {
	return cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
}

// Run follows the sources and applies what changes, until ctx ends. It returns nil then, and what
// is in force stays. It returns an error at once if Routes or the report cannot be read.
//
// An attempt that is running when ctx ends has 5 s to finish. Everything that Run has started has
// ended when it returns.
func (c *Controller) Run(ctx context.Context) error {
	c.init()
	if err := c.check(); err != nil {
		return err
	}
	declared, err := c.Routes.Read()
	if err != nil {
		return err
	}
	last, err := c.readReport()
	if err != nil {
		return err
	}
	in := newInbox(c.Clusters, time.Now())
	publish := func(d Declarations) {
		c.setRefs(d.Table)
		in.setRoutes(d)
	}
	publish(declared)
	l := c.newLoop(in)

	group, ctx := errgroup.WithContext(ctx)
	if c.Elector != nil {
		terms := make(chan Term)
		l.terms = terms
		c.Dir.Guard = l.guard
		c.status.setLeader("", false)
		electing, resign := context.WithCancel(context.WithoutCancel(ctx))
		var elector sync.WaitGroup
		defer func() { resign(); elector.Wait() }() // after the last write
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
	for i := range c.Clusters {
		group.Go(func() error {
			c.follow(ctx, i, c.start(i, last), in)
			return nil
		})
	}
	group.Go(func() error { l.run(ctx); return nil })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (c *Controller) newLoop(in *inbox) *loop {
	log := c.logger()
	a := newApplier(c, log)
	connectivity := connectivityLog{}
	l := &loop{
		inbox: in, apply: a.apply, applied: c.status.applied,
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
		schedule:     schedule{minInterval: cmp.Or(c.MinInterval, time.Second), backoff: firstBackoff, maxBackoff: recheckInterval},
		force:        startForce{active: c.ForceFirst},
		startTimeout: c.startTimeout(), recheck: recheckInterval,
		forced: c.forced,
	}
	a.guard = l.guard
	return l
}

// start returns what the i-th source needs at the start. last is the report of what is in force.
func (c *Controller) start(i int, last kube.Report) Start {
	return Start{Selector: c.Builder.NodeSelector(), Current: last.Subsets(c.Clusters[i].Name)}
}

// setRefs passes to each source the service ports that routes name in its cluster.
func (c *Controller) setRefs(table routes.Table) {
	refs := kube.Refs(table)
	for _, cluster := range c.Clusters {
		cluster.Source.SetRefs(refs[cluster.Name])
	}
}

// follow follows the i-th cluster until ctx ends.
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

// The errors of Force if its context ends. Status has the outcome later.
var (
	// ErrBusy: the Controller does not run, or was busy with another attempt. Nothing was forced.
	ErrBusy = errors.New("controller: busy with another attempt")
	// ErrUnderway: the forced attempt had begun. It continues.
	ErrUnderway = errors.New("controller: the attempt is not over yet")
)

// Force makes a running Controller apply the change that it refuses now. If id is not empty, only
// the change with this ID is permitted: kube.Changes.ID in the report. It returns when the attempt
// is over. Without a refused change it makes an attempt like any other.
func (c *Controller) Force(ctx context.Context, id string) (Attempt, error) {
	c.init()
	request := forceRequest{id: id, reply: make(chan Attempt, 1)}
	select {
	case c.forced <- request:
	case <-ctx.Done():
		return Attempt{}, ErrBusy
	}
	select {
	case a := <-request.reply:
		return a, a.Err
	case <-ctx.Done():
		return Attempt{}, ErrUnderway
	}
}

// Status returns the state of a Controller that runs.
func (c *Controller) Status() Status { return c.status.get() }

// connectivityLog holds the last line about each cluster, by name.
type connectivityLog map[string]string

// log logs which clusters answer and which do not, when that changes. The reason may change
// often, so a new reason is logged at debug level.
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
