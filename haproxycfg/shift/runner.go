package shift

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Control stores the state of all shifts, and makes HAProxy divide the requests by the shares in
// this state.
type Control interface {
	// Shifts returns the current state of all shifts.
	Shifts() (State, error)
	// SetShifts replaces the state of all shifts and changes HAProxy without a reload. The argument
	// "last" is a result of Shifts. If the current state differs from last, SetShifts changes nothing,
	// and the error wraps ErrConflict. After any other error, the old or the new state may be in
	// force.
	SetShifts(ctx context.Context, last, next State) error
	// CheckShift returns an error if HAProxy has no route with this name, or if no shift can move
	// requests of the route to the cluster.
	CheckShift(route, cluster string) error
}

// Runner carries out the steps of all shifts. Set the fields before the first call of a method, and
// do not change them later. Methods are safe for concurrent use.
type Runner struct {
	// Control stores the state of all shifts. Required.
	Control Control
	// Counters returns the counters of the cluster (target), and the sum of the counters of all
	// other clusters of the route (rest). Required.
	Counters func(ctx context.Context, route, cluster string) (target, rest Counters, err error)
	// Routes returns, sorted, the routes that StartCluster can move from the cluster "from" to the
	// cluster "to". If from and to are the same, it returns the routes that StartCluster can move away
	// from this cluster. left are the other routes of from, with the reasons why they cannot move. If
	// Routes is nil, StartCluster refuses each order.
	Routes func(from, to string) (routes []string, left []Left, err error)
	// Changed, if not nil, receives each shift that Tick has changed. If the shift has expired, its
	// Status is Expired.
	Changed func(Shift)
	// Failed, if not nil, receives each error of Run. It may receive the same error again after
	// each Interval.
	Failed func(error)
	// Interval is the time between two reads of the counters; 0 means 1s.
	Interval time.Duration

	mu      sync.Mutex
	windows map[string]*stepWindow // the keys are routes
}

// stepWindow is the Window of a step.
type stepWindow struct {
	Window
	step    int
	since   time.Time
	read    time.Time     // when Tick last read the counters
	counted time.Duration // how long the step has lasted, without the time in which Tick could not read the counters
}

// Run carries out the steps of all shifts until ctx ends.
func (r *Runner) Run(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(r.Interval, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.Tick(ctx, time.Now()); err != nil && ctx.Err() == nil && r.Failed != nil {
				r.Failed(err)
			}
		}
	}
}

// Tick reads the counters once and advances each moving shift to the time now; see [Shift.Advance].
// Run calls Tick; a program with its own loop can call it instead of Run.
func (r *Runner) Tick(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	state, err := r.Control.Shifts()
	if err != nil {
		return err
	}
	var moved []Shift
	var changed []Shift // the shifts in moved that have not expired
	var expired []string
	var errs []error
	moving := map[string]*stepWindow{}
	stopped := map[string]bool{} // the clusters with a paused route: Order.From
	for _, s := range state.Shifts {
		if s.From != "" && s.Status == Paused {
			stopped[s.From] = true
		}
	}
	for _, s := range state.Shifts {
		if !now.Before(s.Expires()) {
			expired = append(expired, s.Route)
			s.Status, s.Step, s.Since, s.Reason = Expired, -1, now, ""
			moved = append(moved, s)
			continue
		}
		if s.Status != Moving {
			continue
		}
		w := r.windows[s.Route]
		if w == nil || w.step != s.Step || !w.since.Equal(s.Since) {
			w = &stepWindow{step: s.Step, since: s.Since, read: now}
		}
		moving[s.Route] = w
		target, rest, err := r.Counters(ctx, s.Route, s.Cluster)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Route, err))
			w.read = now
			continue
		}
		w.Add(target, rest)
		if !stopped[s.From] {
			w.counted += now.Sub(w.read)
		}
		w.read = now
		// The step must last for Hold, but times in which the counters cannot be read do not count.
		// w.counted is the part of the step that counts. So pass to Advance the time that is
		// w.counted after the beginning of the step, and not the present time.
		if x, ok := s.Advance(s.Since.Add(w.counted), w.Window); ok {
			x.Since = now
			changed, moved = append(changed, x), append(moved, x)
			if x.From != "" && x.Status == Paused {
				stopped[x.From] = true
			}
		}
	}
	r.windows = moving
	if len(moved) > 0 {
		err := r.Control.SetShifts(ctx, state, state.With(changed...).Without(expired...))
		if errors.Is(err, ErrConflict) {
			return errors.Join(errs...) // the next Tick decides by the new state
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, x := range moved {
			if r.Changed != nil {
				r.Changed(x)
			}
		}
	}
	return errors.Join(errs...)
}

// ErrRefused is in the error of a request that the current state of the shifts does not allow, for
// example the request to continue a shift that does not exist.
var ErrRefused = errors.New("shift: refused")

// ErrConflict is wrapped by the errors of Control.SetShifts if somebody else has changed the
// shifts.
var ErrConflict = errors.New("shift: somebody else has changed the shifts")

// change replaces the state by the result of f. If somebody else changes the state at the same time,
// change calls f again with the new state.
func (r *Runner) change(ctx context.Context, f func(State) (State, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for tries := 1; ; tries++ {
		err := r.tryChange(ctx, f)
		if tries == maxTries || !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// maxTries is how often the method "change" tries to replace the state of all shifts.
const maxTries = 5

func (r *Runner) tryChange(ctx context.Context, f func(State) (State, error)) error {
	last, err := r.Control.Shifts()
	if err != nil {
		return err
	}
	next, err := f(last)
	if err == nil {
		_, err = next.AppendJSON(nil) // refuse a state that nobody could read again, before a Control stores it
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return r.Control.SetShifts(ctx, last, next)
}

// Start stores the order as a shift, and begins its first step. It refuses an order if too few
// servers of the cluster are up; see Counters.Need.
//
// If an earlier shift has moved the route to the same cluster, Start leaves out the steps up to the
// share in force. If the earlier shift is Done and has the same target, it stays Done, and only its
// end changes: it expires when the time Order.For has passed since this call.
func (r *Runner) Start(ctx context.Context, o Order) error {
	return r.change(ctx, func(state State) (State, error) {
		if err := o.checkNew(); err != nil {
			return state, err
		}
		if err := r.Control.CheckShift(o.Route, o.Cluster); err != nil {
			return state, err
		}
		s, err := r.start(ctx, state, o, time.Now())
		return state.With(s), err
	})
}

// start returns a new or continued shift of the route. The argument "now" is the time of the order.
func (r *Runner) start(ctx context.Context, state State, o Order, now time.Time) (Shift, error) {
	s := Shift{Order: o, Status: Moving}
	if last, ok := state.Find(o.Route); ok {
		if last.Cluster != o.Cluster {
			return s, fmt.Errorf("%s moves to %s; undo that shift first", o.Route, last.Cluster)
		}
		if points, ok := last.Points(); ok {
			s = o.after(points)
			s.Status = Moving
			if last.Status == Done && points == o.Target() {
				s.Status = Done // only the end changes, so errors must not pause the shift
			}
		}
	}
	// If the counters cannot be read, allow the order: HAProxy itself sends no requests to a
	// cluster with too few servers.
	if target, rest, err := r.Counters(ctx, o.Route, o.Cluster); err == nil {
		short := target.short(o.Cluster)
		if o.Target() == 0 {
			short = rest.short("the other clusters")
		}
		if short != "" {
			return s, fmt.Errorf("%s: %s", o.Route, short)
		}
	}
	s.Since = now
	s.Until = now.Add(time.Duration(o.For) + time.Second - 1).Truncate(time.Second) // HAProxy compares whole seconds
	return s, nil
}

// Left is a route that an order for a whole cluster has not moved.
type Left struct {
	Route  string `json:"route"`
	Reason string `json:"reason"`
}

// StartCluster begins a shift of each route of the cluster Order.From to the cluster Order.Cluster.
// If From and Cluster are the same, and the target is 0, the requests go to the other clusters of
// each route.
//
// StartCluster returns the routes that it does not move: those that Start would refuse, and those
// that Runner.Routes returns as left. If StartCluster moves no route, it returns an error. While
// errors have paused one of the routes, all other routes stay at their steps.
func (r *Runner) StartCluster(ctx context.Context, o Order) (left []Left, err error) {
	err = r.change(ctx, func(state State) (State, error) {
		o.Route = o.From // a valid text for the check
		if err := o.checkNew(); err != nil {
			return state, err
		}
		if r.Routes == nil || o.From == "" {
			return state, errors.New("want the name of a route")
		}
		var routes []string
		var err error
		if routes, left, err = r.Routes(o.From, o.Cluster); err != nil {
			return state, err
		}
		now := time.Now() // the same for all routes, so that a Stored contains the order once
		var moved []Shift
		for _, o.Route = range routes {
			s, err := r.start(ctx, state, o, now)
			if err != nil {
				left = append(left, Left{o.Route, err.Error()})
				continue
			}
			moved = append(moved, s)
		}
		switch {
		case len(moved) > 0:
			return state.With(moved...), nil
		case len(left) > 0:
			return state, fmt.Errorf("no route of %s can move: %s: %s", o.From, left[0].Route, left[0].Reason)
		}
		return state, fmt.Errorf("no route can leave %s: no route with shift: true has a backend there", o.From)
	})
	return left, err
}

// Undo returns the route to its declared weights at once, and deletes its shift.
func (r *Runner) Undo(ctx context.Context, route string) error {
	return r.change(ctx, func(state State) (State, error) {
		if _, ok := state.Find(route); !ok {
			return state, fmt.Errorf("%s has no shift", route)
		}
		return state.Without(route), nil
	})
}

// UndoCluster does the same as Undo for all routes that StartCluster has moved from the cluster.
func (r *Runner) UndoCluster(ctx context.Context, from string) error {
	return r.change(ctx, func(state State) (State, error) {
		var routes []string
		for _, s := range state.Of(from) {
			routes = append(routes, s.Route)
		}
		if routes == nil {
			return state, fmt.Errorf("no route of %s has a shift of the whole cluster", from)
		}
		return state.Without(routes...), nil
	})
}

// ResumeCluster does the same as Resume for all paused routes that StartCluster has moved from the
// cluster.
func (r *Runner) ResumeCluster(ctx context.Context, from string) error {
	return r.change(ctx, func(state State) (State, error) {
		now := time.Now() // the same for all routes, so that a Stored contains the order once
		var resumed []Shift
		for _, s := range state.Of(from) {
			if s, err := s.Resume(now); err == nil {
				resumed = append(resumed, s)
			}
		}
		if resumed == nil {
			return state, fmt.Errorf("no route of %s is paused", from)
		}
		return state.With(resumed...), nil
	})
}

// Resume begins the failed step of a paused shift again.
func (r *Runner) Resume(ctx context.Context, route string) error {
	return r.change(ctx, func(state State) (State, error) {
		s, ok := state.Find(route)
		if !ok {
			return state, fmt.Errorf("%s has no shift", route)
		}
		s, err := s.Resume(time.Now())
		if err != nil {
			return state, err
		}
		return state.With(s), nil
	})
}

// Close makes HAProxy close the client's connection after some responses. The argument "points" is
// how many of 10,000 responses these are, chosen at random.
func (r *Runner) Close(ctx context.Context, points int) error {
	return r.change(ctx, func(state State) (State, error) {
		state.ClosePoints = points
		return state, nil
	})
}
