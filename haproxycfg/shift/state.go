package shift

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// AllPoints is the number of points that stands for all requests: 10,000 points are 100%, and 100
// points are 1%.
const AllPoints = 10_000

// State contains all shifts of an HAProxy, and the share of responses after which HAProxy closes
// the client's connection. The zero State has no shift.
type State struct {
	// ClosePoints is the share of all responses after which HAProxy closes the client's connection,
	// in points: 10,000 points are all responses.
	ClosePoints int `json:"closePoints"`
	// Shifts are sorted by route. No two shifts have the same route.
	Shifts []Shift `json:"shifts"`
}

// Status says what a shift does.
type Status string

const (
	Moving Status = "moving" // the Runner holds a step, and the next one follows
	Paused Status = "paused" // errors of the target, or too few servers, have ended a step
	Done   Status = "done"   // the Runner has held the last step to its end
	// Expired is the status of a shift whose time has ended (see Shift.Expires). Only
	// Runner.Changed gets a shift with this status. No State contains one.
	Expired Status = "expired"
)

// Shift describes a route whose requests move, or have moved, to one of its clusters.
type Shift struct {
	Order
	Status Status `json:"status"`
	// Step is the index in Order.Steps of the step in force. -1 means that no step is in force: the
	// route then uses its declared weights.
	Step int `json:"step"`
	// Since is the time at which the present step of the shift began.
	Since time.Time `json:"since"`
	// Until is the time at which the shift expires; see Expires.
	Until time.Time `json:"until,omitzero"`
	// Reason says why the shift is paused.
	Reason string `json:"reason,omitempty"`
}

// Expires returns the time at which the route returns to its declared weights, whatever the status
// of the shift is. Older versions of this package have stored no Until. A shift without Until
// expires MaxFor after its present step began.
func (s Shift) Expires() time.Time {
	if s.Until.IsZero() {
		return s.Since.Add(MaxFor)
	}
	return s.Until
}

// Points returns the number of requests of 10,000 that go to Order.Cluster. ok is false if the
// route uses its declared weights.
func (s Shift) Points() (points int, ok bool) {
	if s.Step < 0 {
		return 0, false
	}
	return s.Steps[s.Step], true
}

// String returns the state of the shift in one line, for people.
func (s Shift) String() string {
	line := s.Route + ": declared weights"
	if points, ok := s.Points(); ok {
		line = fmt.Sprintf("%s: %s to %s", s.Route, FormatPercent(points), s.Cluster)
	}
	line += fmt.Sprintf(", %s", s.Status)
	if s.Status == Moving {
		line += fmt.Sprintf(" to %s", FormatPercent(s.Target()))
	}
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	if s.Status != Expired && !s.Until.IsZero() {
		line += " (until " + s.Until.UTC().Format(time.RFC3339) + ")"
	}
	return line
}

// Find returns the shift of a route.
func (s State) Find(route string) (Shift, bool) {
	i, ok := s.index(route)
	if !ok {
		return Shift{}, false
	}
	return s.Shifts[i], true
}

// Concerns reports whether the shift belongs to the route. If route is empty, Concerns reports
// whether an order for the whole cluster has begun the shift. If route and cluster are empty, the
// result is true.
func (s Shift) Concerns(route, cluster string) bool {
	switch {
	case route != "":
		return s.Route == route
	case cluster != "":
		return s.From == cluster
	}
	return true
}

// Of returns the shifts that an order for a whole cluster has begun; see Runner.StartCluster. The
// argument is the cluster that the requests leave.
func (s State) Of(from string) (shifts []Shift) {
	for _, x := range s.Shifts {
		if x.From == from && from != "" {
			shifts = append(shifts, x)
		}
	}
	return shifts
}

func (s State) index(route string) (int, bool) {
	return slices.BinarySearchFunc(s.Shifts, route, func(x Shift, r string) int { return strings.Compare(x.Route, r) })
}

// With returns a copy of the state with further shifts, each of another route. If the state already
// has a shift of the same route, the further shift replaces it in the copy.
func (s State) With(shifts ...Shift) State {
	added := make(map[string]bool, len(shifts))
	for _, x := range shifts {
		added[x.Route] = true
	}
	all := make([]Shift, 0, len(s.Shifts)+len(shifts))
	for _, x := range s.Shifts {
		if !added[x.Route] {
			all = append(all, x)
		}
	}
	s.Shifts = append(all, shifts...)
	slices.SortFunc(s.Shifts, func(a, b Shift) int { return strings.Compare(a.Route, b.Route) })
	return s
}

// Without returns a copy of the state without the shifts of the routes.
func (s State) Without(routes ...string) State {
	gone := make(map[string]bool, len(routes))
	for _, route := range routes {
		gone[route] = true
	}
	s.Shifts = slices.DeleteFunc(slices.Clone(s.Shifts), func(x Shift) bool { return gone[x.Route] })
	return s
}

// Withdraws reports whether the state "next" differs from s only in two ways: shifts of s are
// paused in next, and shifts of s that have expired at the time in the argument "now" are missing
// in next.
func (s State) Withdraws(next State, now time.Time) bool {
	var paused []Shift
	var expired []string
	for _, x := range s.Shifts {
		y, ok := next.Find(x.Route)
		switch {
		case ok && y.Status == Paused:
			paused = append(paused, y)
		case !ok && !now.Before(x.Expires()):
			expired = append(expired, x.Route)
		}
	}
	return s.With(paused...).Without(expired...).Equal(next)
}

// MaxStateBytes is the largest size of a State as JSON. The shifts of 100,000 routes need about 40
// MB.
const MaxStateBytes = 64 << 20

// ParseState parses the text that AppendJSON writes. Empty text is the zero State.
func ParseState(data []byte) (State, error) {
	var s State
	if len(data) == 0 {
		return s, nil
	}
	if len(data) > MaxStateBytes {
		return s, fmt.Errorf("shift: the state is longer than %d bytes", MaxStateBytes)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("shift: state: %w", err)
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("shift: state: %w", err)
	}
	return s, nil
}

// Equal reports whether both states have the same JSON.
func (s State) Equal(other State) bool {
	a, errA := s.AppendJSON(nil)
	b, errB := other.AppendJSON(nil)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func (s State) check() error {
	if s.ClosePoints < 0 || s.ClosePoints > AllPoints {
		return fmt.Errorf("closePoints: %d is not from 0 to %d", s.ClosePoints, AllPoints)
	}
	for i, x := range s.Shifts {
		err := x.Order.check()
		switch {
		case err != nil:
		case x.Status != Moving && x.Status != Paused && x.Status != Done:
			err = fmt.Errorf("status: %q is not moving, paused or done", x.Status)
		case x.Step < -1 || x.Step >= len(x.Steps) || x.Status == Paused && x.Step == len(x.Steps)-1:
			err = fmt.Errorf("step: %d is not an index of steps", x.Step)
		case i > 0 && s.Shifts[i-1].Route >= x.Route:
			err = errors.New("route: the routes are not sorted, or one occurs twice")
		}
		if err != nil {
			return fmt.Errorf("shifts[%d].%w", i, err)
		}
	}
	return nil
}

// AppendJSON appends the state as indented JSON, with a line end. It returns an error if ParseState
// would refuse the text: if a Control stored such a state, nobody could change the state any more.
func (s State) AppendJSON(dst []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return dst, fmt.Errorf("shift: state: %w", err)
	}
	if s.Shifts == nil {
		s.Shifts = []Shift{}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return dst, fmt.Errorf("shift: state: %w", err)
	}
	if len(data) >= MaxStateBytes {
		return dst, fmt.Errorf("shift: the state of %d routes is longer than %d bytes", len(s.Shifts), MaxStateBytes)
	}
	return append(append(dst, data...), '\n'), nil
}
