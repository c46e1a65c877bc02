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

// Controller configures one HAProxy from routes and clusters.
//
// Set the fields before the first call of a method and do not change them later. Methods are safe
// for concurrent use, except that only one of Run, Plan and Apply may run at a time. Two
// Controllers must not share a source, a Dir or an Elector.
type Controller struct {
	// Routes are the declarations. Required.
	Routes RouteSource
	// Clusters are the clusters that routes refer to. Their names must differ.
	Clusters []Cluster
	// Builder turns routes and clusters into a configuration.
	Builder kube.Builder
	// Dir is the directory of the configuration and the report. Its functions check a configuration
	// and reload HAProxy. Required. Run sets Dir.Guard if there is an Elector.
	Dir *deploy.Dir
	// Files are further files for Dir, written after each change of the configuration.
	Files []File

	// Limit returns an error if a change is too large. The Controller then refuses the change,
	// until somebody forces it. nil means MaxShare(0.3).
	Limit func(*Change) error
	// ForceHint, if not nil, returns how somebody can force the change with this ID. The error of a
	// refused change contains the text.
	ForceHint func(id string) string
	// ForceFirst makes Run apply the first change whatever its size. Limit applies to every later
	// change, but not while attempts to apply the first one fail.
	ForceFirst bool

	// Elector decides whether this process may write. nil means always.
	Elector Elector
	// MinInterval is the time from the end of an attempt to the next one. 0 means 1 s.
	MinInterval time.Duration
	// StartTimeout is how long Run waits at the start for the first answer of every cluster, and
	// how long Plan waits for each of them. 0 means 10 s.
	StartTimeout time.Duration

	// Logger gets the log lines of Run: changes with their causes, problems, clusters that do not
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

// File is a file that is made of the routes, such as a DNS zone.
type File struct {
	// Name is the path of the file relative to Controller.Dir.
	Name string
	// Select returns the routes that the file can contain, and a problem for each other route. nil
	// means all routes.
	Select func(routes.Table) (routes.Table, []routes.Problem)
	// Append appends the content of the file for the selected routes to dst. Required.
	Append func(dst []byte, table routes.Table) ([]byte, error)
}

// Elector decides which of several processes writes to a directory that they share. Package lease
// contains an Elector.
type Elector interface {
	// Run takes part in the election until ctx ends, then gives leadership up and returns.
	//
	// Run calls begin when this process begins to lead. begin may block until the end of the term.
	// Run calls leader with the name of the process that leads, whenever it changes, and with
	// whether that is this process; name is "" if no leader is known. Run may make both calls from
	// any goroutine.
	Run(ctx context.Context, begin func(Term), leader func(name string, self bool))
}

// Term is a period in which this process leads. It ends when Done is closed, or when Guard returns
// an error for the first time if that is earlier.
type Term struct {
	// Guard returns nil while this process may write. The Controller calls Guard before it writes a
	// file and before it reloads HAProxy. So a process that was suspended during an attempt stops
	// before its next effect, even if no timer has fired yet. Guard must not block.
	Guard func() error
	// Done is closed at the end of the term, or soon after. It interrupts a check or a reload.
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

// Run follows the sources and applies every change, until ctx ends. Then it returns nil, and the
// configuration stays in force. Run returns an error at once if it cannot read Routes or the
// report.
//
// An attempt that is under way when ctx ends has 5 s to finish. All goroutines of Run have ended
// when it returns.
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

// start returns the argument of Read and Follow for the i-th cluster. last is the report in the
// directory.
func (c *Controller) start(i int, last kube.Report) Start {
	return Start{Selector: c.Builder.NodeSelector(), Current: last.Subsets(c.Clusters[i].Name)}
}

// setRefs tells the source of each cluster which service ports the routes name there.
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

// Errors of Force when its context ends.
var (
	// ErrBusy means that the forced attempt has not begun, and will not: the Controller does not
	// run, or another attempt takes long.
	ErrBusy = errors.New("controller: busy with another attempt")
	// ErrUnderway means that the forced attempt has begun. It continues, and Status shows its
	// outcome later.
	ErrUnderway = errors.New("controller: the attempt is not over yet")
)

// Force makes an attempt in which Limit is ignored, so that a refused change is applied. If id is
// not empty, Limit is ignored only for the change with this ID, which is Refused.ID in the report.
// Force returns at the end of the attempt, with the error of the attempt. Run must be running.
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

// connectivityLog contains the last line that was logged about each cluster, by name.
type connectivityLog map[string]string

// log logs whether a cluster answers when that changes. The reason why a cluster does not answer
// may change often, so a new reason alone is logged at debug level.
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
