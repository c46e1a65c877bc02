package fleet

import (
	"fmt"
	"slices"
	"time"
)

// Canary contains the routes that all terminators of a fleet serve (the approved routes), and the
// trial of newer routes on one terminator. Nobody changes a Canary: each method that changes
// something returns a new Canary.
type Canary struct {
	// Declarations is the ID of the approved routes; see journal.RoutesID. Approved is the time at
	// which they were approved. Routes are the routes, in the form that Pack returns.
	Declarations string    `json:"declarations"`
	Approved     time.Time `json:"approved"`
	Routes       []byte    `json:"routes"`
	// Earlier are the IDs of routes that were approved or withdrawn before, the newest last. They
	// are at most 8.
	Earlier []string `json:"earlier,omitempty"`
	// Trial is the trial of newer routes; nil means no trial.
	Trial *Trial `json:"trial,omitempty"`
}

// Trial is a trial of new routes on one terminator.
type Trial struct {
	// Declarations is the ID of the new routes. Terminator is the name of the terminator that serves
	// them, and Since is the time at which it began the trial.
	Declarations string    `json:"declarations"`
	Terminator   string    `json:"terminator"`
	Since        time.Time `json:"since"`
	// Failing are the probes that failed already before the trial.
	Failing []string `json:"failing,omitempty"`
	// Responses counts the responses of the terminator's HAProxy in the minutes before the trial.
	// Errors counts the responses with a status of 5xx, and ConnErrors the failed connections to
	// servers.
	Responses  uint64 `json:"responses,omitempty"`
	Errors     uint64 `json:"errors,omitempty"`
	ConnErrors uint64 `json:"connErrors,omitempty"`
	// Withdrawn is the time at which the new routes were withdrawn, and Cause is the reason. While
	// the trial is running, both are zero.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	Cause     string    `json:"cause,omitempty"`
}

const (
	maxEarlier    = 8
	maxTerminator = 400
	maxCause      = 1000
	maxFailing    = 32
)

// Is reports whether c and other are the same: the same approved routes, and the same trial in the
// same state. Two nil values are the same.
func (c *Canary) Is(other *Canary) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.Declarations == other.Declarations && c.Approved.Equal(other.Approved) && c.Trial.Is(other.Trial)
}

// Is reports whether t and other are the same trial in the same state: both running, or both
// withdrawn. nil is the same as nil.
func (t *Trial) Is(other *Trial) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.Declarations == other.Declarations && t.Terminator == other.Terminator &&
		t.Since.Equal(other.Since) && t.Withdrawn.Equal(other.Withdrawn)
}

// Running returns the trial of c if it is running, and otherwise nil. c may be nil.
func (c *Canary) Running() *Trial {
	if c == nil || c.Trial == nil || !c.Trial.Withdrawn.IsZero() {
		return nil
	}
	return c.Trial
}

// String returns the trial in one line, for people.
func (t *Trial) String() string {
	if t.Withdrawn.IsZero() {
		return fmt.Sprintf("%s tries new routes since %s", t.Terminator, t.Since.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("new routes, which %s tried, are withdrawn since %s: %s", t.Terminator, t.Withdrawn.UTC().Format(time.RFC3339), t.Cause)
}

// Serves reports whether a terminator serves its own declared routes, and not the approved routes.
// The arguments are the name of the terminator and the ID of its declared routes. c may be nil: then
// no routes are approved yet, and each terminator serves its declared routes.
func (c *Canary) Serves(terminator, declarations string) bool {
	t := c.Running()
	return c == nil || c.Declarations == declarations || t != nil && t.Terminator == terminator
}

// Step is what a terminator must do with its declared routes.
type Step string

// These are the steps.
const (
	Follow  Step = "follow"  // serve the declared routes: they are the approved routes
	Wait    Step = "wait"    // serve the approved routes
	Observe Step = "observe" // serve the declared routes, and decide whether to approve them
	Begin   Step = "begin"   // begin a trial of the declared routes
	End     Step = "end"     // end the own trial, because the approved routes are declared again
	Approve Step = "approve" // approve the declared routes without a trial, because no routes are approved yet
)

// Member is what one terminator knows, besides the Canary.
type Member struct {
	// Terminator is the name of the terminator. Declarations is the ID of its declared routes.
	Terminator, Declarations string
	// Fresh is true if the declared routes have changed since the start of the terminator, and no
	// other routes were tried or approved since this change. If Fresh is false, the terminator tries no
	// routes that are in Canary.Earlier, because its files may be older than the files of other
	// terminators.
	Fresh bool
	// Waited is the time for which the terminator has seen the present trial of another terminator.
	Waited time.Duration
}

// Next returns what a terminator must do with its declared routes. If the trial of another
// terminator does not end within the time "patience", Next returns Begin, because the other
// terminator may have died. c may be nil.
func (c *Canary) Next(m Member, patience time.Duration) Step {
	t := c.Running()
	mine := t != nil && t.Terminator == m.Terminator
	switch {
	case c == nil:
		return Approve
	case c.Declarations == m.Declarations && mine:
		return End
	case c.Declarations == m.Declarations:
		return Follow
	case mine && t.Declarations == m.Declarations:
		return Observe
	case mine:
		return Begin
	case t != nil && m.Waited < patience:
		return Wait
	case t == nil && c.Trial != nil && c.Trial.Declarations == m.Declarations:
		return Wait // these routes are withdrawn
	case !m.Fresh && slices.Contains(c.Earlier, m.Declarations):
		return Wait // a change has not reached the files of this terminator yet
	}
	return Begin
}

// Try returns c with this trial in place of the present trial.
func (c *Canary) Try(t Trial) *Canary {
	next := *c
	if c.Trial != nil && !c.Trial.Withdrawn.IsZero() {
		next.Earlier = earlier(c.Earlier, c.Trial.Declarations)
	}
	next.Trial = &t
	return &next
}

// End returns c without the trial.
func (c *Canary) End() *Canary {
	next := *c
	next.Trial = nil
	return &next
}

// Withdraw returns c with the trial withdrawn at the time "now". c must have a trial. Control
// characters in the cause become spaces, and the rest of a long cause is left out.
func (c *Canary) Withdraw(cause string, now time.Time) *Canary {
	next, t := *c, *c.Trial
	t.Withdrawn, t.Cause = now.UTC().Truncate(time.Millisecond), oneLine(cause, maxCause)
	next.Trial = &t
	return &next
}

// Approve returns a Canary whose approved routes are "packed", in the form that Pack returns, and
// which has no trial. The argument "declarations" is the ID of these routes. c may be nil.
func (c *Canary) Approve(declarations string, packed []byte, now time.Time) *Canary {
	next := &Canary{Declarations: declarations, Routes: packed, Approved: now.UTC().Truncate(time.Millisecond)}
	if c == nil {
		return next
	}
	next.Earlier = earlier(c.Earlier, c.Declarations)
	if c.Trial != nil {
		next.Earlier = earlier(next.Earlier, c.Trial.Declarations)
	}
	next.Earlier = slices.DeleteFunc(next.Earlier, func(id string) bool { return id == declarations })
	return next
}

// earlier returns a list with the ID at its end, and without the oldest IDs if there are too many.
func earlier(list []string, id string) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(other string) bool { return other == id })
	list = append(list, id)
	return list[max(0, len(list)-maxEarlier):]
}

// oneLine returns at most limit bytes of a text. Characters that are not printable become spaces.
func oneLine(text string, limit int) string {
	var line []rune
	size := 0
	for _, r := range text {
		if !printable(string(r)) {
			r = ' '
		}
		if size += len(string(r)); size > limit {
			break
		}
		line = append(line, r)
	}
	return string(line)
}

// Check returns an error if a field is not usable. It does not unpack the routes.
func (c *Canary) Check() error {
	for _, id := range append([]string{c.Declarations}, c.Earlier...) {
		if !isID(id) {
			return fmt.Errorf("declarations, earlier: %.100q is no ID", id)
		}
	}
	switch {
	case c.Approved.IsZero():
		return fmt.Errorf("approved: the time is missing")
	case len(c.Routes) == 0:
		return fmt.Errorf("routes: they are missing")
	case len(c.Earlier) > maxEarlier:
		return fmt.Errorf("earlier: there are more than %d", maxEarlier)
	case c.Trial == nil:
		return nil
	}
	if err := c.Trial.check(); err != nil {
		return fmt.Errorf("trial.%w", err)
	}
	return nil
}

func isID(id string) bool { return id != "" && len(id) <= maxID && printable(id) }

func (t *Trial) check() error {
	switch {
	case !isID(t.Declarations):
		return fmt.Errorf("declarations: %.100q is no ID", t.Declarations)
	case t.Terminator == "" || len(t.Terminator) > maxTerminator || !printable(t.Terminator):
		return fmt.Errorf("terminator: %.100q is empty, has more than %d bytes, or control characters", t.Terminator, maxTerminator)
	case t.Since.IsZero():
		return fmt.Errorf("since: the time is missing")
	case len(t.Cause) > maxCause || !printable(t.Cause):
		return fmt.Errorf("cause: %.100q has more than %d bytes, or control characters", t.Cause, maxCause)
	case len(t.Failing) > maxFailing:
		return fmt.Errorf("failing: there are more than %d", maxFailing)
	}
	return nil
}
