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
	Paused Status = "paused" // errors of the target have ended a step
	Done   Status = "done"   // the Runner has held the last step to its end
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
	// Reason says why the shift is paused.
	Reason string `json:"reason,omitempty"`
}

// Points returns the number of requests of 10,000 that go to Order.Cluster. ok is false if the
// route uses its declared weights.
func (s Shift) Points() (points int, ok bool) {
	if s.Step < 0 {
		return 0, false
	}
	return s.Steps[s.Step], true
}

// Target returns how many of 10,000 requests go to Order.Cluster after the last step: 2,500 means
// 25%. It returns 0 if there is no step.
func (s Shift) Target() int {
	if len(s.Steps) == 0 {
		return 0
	}
	return s.Steps[len(s.Steps)-1]
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

func (s State) index(route string) (int, bool) {
	return slices.BinarySearchFunc(s.Shifts, route, func(x Shift, r string) int { return strings.Compare(x.Route, r) })
}

// With returns a copy of the state with the shift x. If the state already has a shift of the same
// route, x replaces this shift in the copy.
func (s State) With(x Shift) State {
	i, ok := s.index(x.Route)
	s.Shifts = slices.Clone(s.Shifts)
	if ok {
		s.Shifts[i] = x
	} else {
		s.Shifts = slices.Insert(s.Shifts, i, x)
	}
	return s
}

// Without returns a copy of the state without the shift of the route.
func (s State) Without(route string) State {
	if i, ok := s.index(route); ok {
		s.Shifts = slices.Delete(slices.Clone(s.Shifts), i, i+1)
	}
	return s
}

// MaxStateBytes is the largest size of a State as JSON.
const MaxStateBytes = 4 << 20

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
