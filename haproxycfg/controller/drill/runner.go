package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
)

const (
	// quiet is the time from an event of an API server until the Controller handles the event. It
	// is the default of live.Watcher.Quiet.
	quiet = 100 * time.Millisecond
	// settle is the time from the first configuration to the first step of a drill. It is so long
	// that no reload of the drill has to wait because of the reload of the first configuration.
	settle = 10 * time.Minute
)

// Runner runs drills. Set the fields before the first call of a method, and do not change them
// later. Several goroutines may call Run at the same time.
type Runner struct {
	// Controller returns a new Controller with the settings of the terminator. Required. Run
	// replaces its fields Clusters, Dir (except Check), Logger, Attempted, Elector and OldWorkers,
	// and may read the source of the routes several times.
	Controller func() *controller.Controller
	// Clusters are the clusters as they are before each drill.
	Clusters []Cluster
	// Start is the time at which the clock of each drill begins. The zero time means the present
	// time.
	Start time.Time
	// MaxDrain is the largest share of the nodes that agents drain at the same time; see
	// nodeagent.Rules.MaxDrain. 0 means nodeagent.DefaultMaxDrain.
	MaxDrain float64
}

// errAway is the error of each request to an API server that cannot be reached.
var errAway = errors.New("connection refused")

// Standard returns the standard drills for the routes and clusters of the Runner: the result of the
// function [Standard]. It returns an error if the Runner cannot read the routes.
func (r Runner) Standard() ([]Drill, error) {
	c := r.Controller()
	declared, err := c.Routes.Read()
	if err != nil {
		return nil, err
	}
	return Standard(r.Clusters, declared.Table, c.Builder.Edge.NodeHealth), nil
}

// Run runs a drill in a temporary directory. It returns an error if it cannot read the routes, if
// the Controller applies no configuration before the first step, or if ctx ends. The Result
// describes changes that fail during the drill.
func (r Runner) Run(ctx context.Context, d Drill) (_ Result, err error) {
	dir, err := os.MkdirTemp("", "headgate-drill-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := r.Start
	if start.IsZero() {
		start = time.Now()
	}
	x := &run{Runner: r, drill: d, dir: dir, world: World{Now: start, Clusters: r.Clusters}, zero: start.Add(settle)}
	if err := x.begin(ctx); err != nil {
		return Result{}, fmt.Errorf("drill %s: before the first step: %w", d.Name, err)
	}
	if err := x.steps(ctx); err != nil {
		return Result{}, fmt.Errorf("drill %s: %w", d.Name, err)
	}
	return x.result(), nil
}

// run is one run of a drill.
type run struct {
	Runner
	drill Drill
	dir   string
	zero  time.Time // the time of the first step

	world     World
	c         *controller.Controller
	rehearsal *controller.Rehearsal
	truth     truth
	recorder  recorder
	failure   error // the error of the last attempt; nil if it did not fail
}

// restart starts a new Controller in the directory of the drill, as a start of the terminator does.
func (x *run) restart(ctx context.Context) error {
	c := x.Controller()
	dir := &deploy.Dir{Path: x.dir, Reload: func(context.Context) error { x.recorder.reload(); return nil }}
	if c.Dir != nil {
		dir.Check = c.Dir.Check
	}
	c.Dir, c.Elector, c.OldWorkers = dir, nil, nil
	c.Logger = x.recorder.logger(x.now)
	c.Attempted = x.attempted
	c.Clusters = nil
	for _, k := range x.world.Clusters {
		c.Clusters = append(c.Clusters, controller.Cluster{Name: k.Name})
	}
	x.c = c
	var err error
	if x.rehearsal, err = c.Rehearse(ctx, x.now()); err != nil {
		return err
	}
	for i := range x.world.Clusters {
		x.answer(i)
	}
	return nil
}

// answer tells the Rehearsal what the API server of cluster i answers to a client that has just
// started.
func (x *run) answer(i int) {
	switch k := x.world.Clusters[i]; k.API {
	case Away:
		x.rehearsal.Fail(i, errAway)
	case Empty:
		k.Objects.Nodes, k.Objects.Services = nil, nil
		x.rehearsal.List(i, k.Objects)
	default:
		x.rehearsal.List(i, k.Objects)
	}
}

// begin lets the Controller apply the configuration that is in force before the first step.
func (x *run) begin(ctx context.Context) error {
	if err := x.restart(ctx); err != nil {
		return err
	}
	if err := x.advance(ctx, x.zero); err != nil {
		return err
	}
	report := x.recorder.report
	if report == nil {
		return fmt.Errorf("no configuration is in force: %w", x.failure)
	}
	declared, err := x.c.Routes.Read()
	if err != nil {
		return err
	}
	x.truth = x.newTruth(declared.Table)
	x.recorder.begin(x.zero)
	x.look()
	return nil
}

func (x *run) newTruth(table routes.Table) truth {
	t := truth{checked: checkedRefs(table), health: x.c.Builder.Edge.NodeHealth, maxDrain: x.MaxDrain, annotations: x.c.Builder.Selector.Annotations}
	t.set(x.world)
	return t
}

// steps runs the steps of the drill, each at its time.
func (x *run) steps(ctx context.Context) error {
	for _, s := range x.drill.Steps {
		if err := x.advance(ctx, x.zero.Add(s.At)); err != nil {
			return err
		}
		if err := x.step(ctx, s); err != nil {
			return err
		}
	}
	return x.advance(ctx, x.zero.Add(x.drill.End))
}

func (x *run) step(ctx context.Context, s Step) error {
	if s.Recovery {
		x.recorder.recover(x.c.Status().String())
	}
	before := x.world.Clusters
	if s.Change != nil {
		x.world.Now = x.now()
		x.world = s.Change(x.world)
		x.truth.set(x.world)
		x.look()
	}
	if err := x.advance(ctx, x.now().Add(quiet)); err != nil {
		return err
	}
	if s.Restart {
		return x.restart(ctx)
	}
	for i := range x.world.Clusters {
		x.change(i, before[i].API)
	}
	return x.advance(ctx, x.now())
}

// change tells the Rehearsal what the Controller notices of a step in cluster i. The argument "was"
// is the state of the API server before the step:
//
//   - The API server answers before and after the step, and has its objects: the Controller notices
//     the changed objects.
//   - The API server does not answer any more: the Controller notices only this.
//   - The API server answers again, has lost its objects, or has its objects again: the Controller
//     receives complete lists.
//   - Otherwise the Controller notices nothing.
func (x *run) change(i int, was API) {
	k := x.world.Clusters[i]
	switch {
	case k.API == Answers && was == Answers:
		x.rehearsal.Watch(i, k.Objects)
	case k.API == was: // nobody sees a change
	case was == Away:
		x.rehearsal.Fail(i, nil)
		x.answer(i)
	default:
		x.answer(i)
	}
}

func (x *run) advance(ctx context.Context, until time.Time) error {
	return x.rehearsal.Advance(ctx, until)
}

// now returns the time of the drill.
func (x *run) now() time.Time {
	if x.rehearsal == nil {
		return x.zero.Add(-settle)
	}
	return x.rehearsal.Now()
}

// attempted receives each attempt of the Controller.
func (x *run) attempted(a controller.Attempt) {
	x.failure = a.Err
	x.recorder.attempted(a)
	if a.Outcome == controller.Written || a.Outcome == controller.Unchanged {
		x.look()
	}
}

// look counts the serving servers of each service now.
func (x *run) look() {
	if x.recorder.report != nil && x.truth.ports != nil {
		x.recorder.look(x.now(), &x.truth)
	}
}

// RunAll runs several drills at the same time, at most GOMAXPROCS. The results have the order of
// the drills. RunAll calls done, if not nil, after each drill; calls never overlap. At the first
// error, RunAll stops all drills and returns the error.
func (r Runner) RunAll(ctx context.Context, drills []Drill, done func(Result)) ([]Result, error) {
	if r.Start.IsZero() {
		r.Start = time.Now() // the same for all drills
	}
	results := make([]Result, len(drills))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	for i, d := range drills {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if results[i], err = r.Run(ctx, d); err == nil && done != nil {
				mu.Lock()
				defer mu.Unlock()
				done(results[i])
			}
			return err
		})
	}
	return results, group.Wait()
}
