package fleet

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode"

	"github.com/headgate/headgate/haproxycfg/shift"
)

// MaxBytes is the largest size of a State as JSON.
const MaxBytes = 64 << 20

// State contains the orders of operators. The zero State has no order. Its JSON contains the shifts
// in the form of shift.Stored: an order to move a whole cluster is there only once, and not again
// for each route.
type State struct {
	// Hold, if not nil, keeps the routes of an earlier time in force.
	Hold *Hold
	// Shifts are the routes whose requests move from one cluster to another.
	Shifts shift.State
	// Canary, if not nil, contains the approved routes, and the trial of newer routes.
	Canary *Canary
}

// SameRoutes reports whether s and other have the same hold and the same Canary, so that each
// terminator serves the same routes with both.
func (s State) SameRoutes(other State) bool {
	return s.Hold.Is(other.Hold) && s.Canary.Is(other.Canary)
}

// file is the form of a State as JSON.
type file struct {
	Hold   *Hold        `json:"hold,omitempty"`
	Shifts shift.Stored `json:"shifts"`
	Canary *Canary      `json:"canary,omitempty"`
}

// Hold keeps the routes of an earlier time in force. Nobody changes a Hold: each new order to hold
// routes makes a new Hold.
type Hold struct {
	// ID is the ID of the configuration that a terminator ran with these routes, and Applied is the
	// time at which the terminator applied it; see journal.Entry.
	ID      string    `json:"id"`
	Applied time.Time `json:"applied"`
	// Since is the time at which somebody ordered the hold, By is the name of this person or
	// program, and Reason is the reason for the hold. By and Reason may be empty.
	Since  time.Time `json:"since"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	// Force permits each terminator to apply the change to these routes, however large it is.
	// Later changes, for example of nodes, have their usual limits.
	Force bool `json:"force,omitempty"`
	// Routes are the routes, in the form that Pack returns.
	Routes []byte `json:"routes"`
}

// Is reports whether h and other are the same hold: somebody ordered both at the same time, and for
// the same configuration (ID). nil means that there is no hold, so nil is the same as nil.
func (h *Hold) Is(other *Hold) bool {
	if h == nil || other == nil {
		return h == other
	}
	return h.Since.Equal(other.Since) && h.ID == other.ID
}

// String returns the hold in one line, for people. It returns "" for nil.
func (h *Hold) String() string {
	if h == nil {
		return ""
	}
	text := fmt.Sprintf("held since %s", h.Since.UTC().Format(time.RFC3339))
	if h.By != "" {
		text += " by " + h.By
	}
	if h.Reason != "" {
		text += " (" + h.Reason + ")"
	}
	return text + fmt.Sprintf(": the routes of %s, configuration %s", h.Applied.UTC().Format(time.RFC3339), h.ID)
}

// These are the largest lengths, in bytes, of the texts in a Hold.
const (
	maxID     = 200
	maxBy     = 200
	maxReason = 1000
)

// Check returns an error if a field of the hold is not usable. It does not unpack the routes.
func (h *Hold) Check() error {
	switch {
	case h.ID == "" || len(h.ID) > maxID || !printable(h.ID):
		return fmt.Errorf("id: %.100q is no ID", h.ID)
	case h.Since.IsZero() || h.Applied.IsZero():
		return fmt.Errorf("since, applied: a time is missing")
	case len(h.By) > maxBy || !printable(h.By):
		return fmt.Errorf("by: %.100q has more than %d bytes, or control characters", h.By, maxBy)
	case len(h.Reason) > maxReason || !printable(h.Reason):
		return fmt.Errorf("reason: %.100q has more than %d bytes, or control characters", h.Reason, maxReason)
	case len(h.Routes) == 0:
		return fmt.Errorf("routes: they are missing")
	}
	return nil
}

// printable reports whether people can read a text in a line as it is, without escapes.
func printable(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// Parse parses the text that AppendJSON writes. Empty text is the zero State.
func Parse(data []byte) (State, error) {
	var s State
	if len(data) == 0 {
		return s, nil
	}
	if len(data) > MaxBytes {
		return s, fmt.Errorf("fleet: the state has more than %d bytes", MaxBytes)
	}
	var f file
	err := json.Unmarshal(data, &f)
	if err == nil {
		s.Hold, s.Canary = f.Hold, f.Canary
		s.Shifts, err = f.Shifts.State()
	}
	if err != nil {
		return State{}, fmt.Errorf("fleet: state: %w", err)
	}
	if err := s.check(); err != nil {
		return State{}, err
	}
	return s, nil
}

func (s State) check() error {
	if s.Hold != nil {
		if err := s.Hold.Check(); err != nil {
			return fmt.Errorf("fleet: state: hold.%w", err)
		}
	}
	if s.Canary != nil {
		if err := s.Canary.Check(); err != nil {
			return fmt.Errorf("fleet: state: canary.%w", err)
		}
	}
	if _, err := s.Shifts.AppendJSON(nil); err != nil {
		return fmt.Errorf("fleet: state: %w", err)
	}
	return nil
}

// AppendJSON appends the state as indented JSON with a final line feed. It returns an error if Parse
// would refuse the text.
func (s State) AppendJSON(dst []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return dst, err
	}
	stored, err := s.Shifts.Stored()
	if err != nil {
		return dst, fmt.Errorf("fleet: state: %w", err)
	}
	data, err := json.MarshalIndent(file{s.Hold, stored, s.Canary}, "", "  ")
	if err != nil {
		return dst, fmt.Errorf("fleet: state: %w", err)
	}
	if len(data) >= MaxBytes {
		return dst, fmt.Errorf("fleet: the state has more than %d bytes", MaxBytes)
	}
	return append(append(dst, data...), '\n'), nil
}
