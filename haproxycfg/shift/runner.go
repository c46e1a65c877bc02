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
	// SetShifts replaces the state of all shifts, and changes HAProxy without a reload. The
	// argument "last" is the old state, a result of Shifts, and the argument "next" is the new
	// state. If the current state differs from "last", SetShifts changes nothing, and the error
	// wraps ErrConflict. After any other error, the old or the new state may be in force.
	SetShifts(ctx context.Context, last, next State) error
	// CheckShift returns an error if HAProxy has no such route, or if no shift can move requests of
	// the route to the cluster.
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
	// Changed, if not nil, receives each shift that Tick has changed.
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

// Tick reads the counters once. Each moving shift then stays at its step, begins the next step or
// pauses; see [Shift.Advance]. now is the present time. Run calls Tick. A program with its own loop
// can call Tick itself.
func (r *Runner) Tick(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	state, err := r.Control.Shifts()
	if err != nil {
		return err
	}
	next := state
	var moved []Shift
	var errs []error
	moving := map[string]*stepWindow{}
	for _, s := range state.Shifts {
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
		w.counted += now.Sub(w.read)
		w.read = now
		// The step must last for Hold, but times in which the counters cannot be read do not count.
		// w.counted is the part of the step that counts. So pass to Advance the time that is
		// w.counted after the beginning of the step, and not the present time.
		if x, changed := s.Advance(s.Since.Add(w.counted), w.Window); changed {
			x.Since = now
			next, moved = next.With(x), append(moved, x)
		}
	}
	r.windows = moving
	if len(moved) > 0 {
		err := r.Control.SetShifts(ctx, state, next)
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

// Start stores the order as a shift, and begins its first step. If an earlier shift has already
// moved requests of the route to the same cluster, Start leaves out the steps that are not above
// the share in force.
func (r *Runner) Start(ctx context.Context, o Order) error {
	return r.change(ctx, func(state State) (State, error) {
		if err := o.check(); err != nil {
			return state, err
		}
		if err := r.Control.CheckShift(o.Route, o.Cluster); err != nil {
			return state, err
		}
		s := Shift{Order: o}
		if last, ok := state.Find(o.Route); ok {
			if last.Cluster != o.Cluster {
				return state, fmt.Errorf("%s moves to %s; undo that shift first", o.Route, last.Cluster)
			}
			if points, ok := last.Points(); ok {
				s = o.after(points)
			}
		}
		s.Status, s.Since = Moving, time.Now()
		return state.With(s), nil
	})
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
