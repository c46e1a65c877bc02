package drill

import (
	"cmp"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// Result is what happened in a drill. Its JSON is stable: later versions only add members.
type Result struct {
	Drill string   `json:"drill"` // Drill.Name
	Kind  string   `json:"kind"`
	Title string   `json:"title"`
	Steps []Line   `json:"steps"`
	Notes []string `json:"notes,omitempty"`
	// Reloads is the number of reloads of HAProxy. Waits is the number of attempts that did not
	// apply their change, because the reload had to wait.
	Reloads int `json:"reloads"`
	Waits   int `json:"waits"`
	// Changed is the number of servers that the reloads during the whole drill have added, removed
	// or altered. Moved is the number of servers that the reloads after the end of the fault
	// (Step.Recovery) have added, removed or altered. A server that several backends contain counts
	// once for each of them.
	Changed int `json:"changed"`
	Moved   int `json:"moved"`
	// Refusals are the changes that the Controller did not apply, in order.
	Refusals []Refusal `json:"refusals"`
	// Drained is the largest number of servers that drained at the same time. Only the servers of
	// services count, and not the servers that represent nodes.
	Drained int `json:"drained"`
	// Services is the number of services that had serving servers before the first step. Empty is
	// the number of these services that had no serving server at some moment.
	Services int `json:"services"`
	Empty    int `json:"empty"`
	// Worst are the services with the lowest Service.Share, the lowest first, at most MaxWorst.
	Worst []Service `json:"worst"`
	// Log are the first 1,000 lines that the terminator logs at level info or higher. MoreLog is
	// the number of further lines.
	Log     []Line `json:"log"`
	MoreLog int    `json:"moreLog,omitempty"`
	// Status is the text of /readyz just before the recovery, that is, Status.String of the
	// Controller. "" means that the Controller sees no fault.
	Status string `json:"status"`

	history []history
	end     time.Duration
}

// MaxWorst is the largest length of Result.Worst.
const MaxWorst = 10

// Line is a line of text, and the time at which its event happened.
type Line struct {
	At   Offset `json:"at"`
	Text string `json:"text"`
}

// Refusal is a change that the Controller did not apply.
type Refusal struct {
	At Offset `json:"at"`
	// Until is the time from which on the Controller no longer refused this change: the change was
	// gone, or another change had replaced it. nil means that the Controller still refused the
	// change at the end of the drill.
	Until *Offset `json:"until,omitempty"`
	// ID identifies the change, for an operator who forces it; "" means that the attempt failed
	// before there was a change. The same change has another ID in a terminator, because the ID
	// depends on the path of the directory.
	ID string `json:"id,omitempty"`
	// Reason is the error of the attempt to apply the change, with the text of
	// Controller.ForceHint.
	Reason string `json:"reason"`
	// Failed is true if HAProxy rejected the change, or another error prevented it. Failed is false
	// if the limit of the Controller (Limit) prevented the change.
	Failed bool `json:"failed,omitempty"`
}

// The method "same" reports whether r and o describe the same change with the same reason.
func (r Refusal) same(o Refusal) bool {
	return r.ID == o.ID && r.Failed == o.Failed && r.Reason == o.Reason
}

// Service says how many servers of a service were serving in a drill.
type Service struct {
	routes.Ref
	// Before, Lowest and After count the serving servers: before the first step, at the worst
	// moment, and at the end.
	Before int `json:"before"`
	Lowest int `json:"lowest"`
	After  int `json:"after"`
	// LowestAt is the first time at which the number of serving servers was Lowest.
	LowestAt Offset `json:"lowestAt"`
}

// Share returns Lowest divided by Before.
func (s Service) Share() float64 { return float64(s.Lowest) / float64(s.Before) }

// Offset is the time since the first step of a drill. Its text is "+1m30s".
type Offset time.Duration

// String returns the time as text, such as "+1m30s", rounded to 0.1 s.
func (o Offset) String() string {
	return "+" + time.Duration(o).Round(100*time.Millisecond).String()
}

// MarshalText returns the text of String.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

func (x *run) result() Result {
	r := &x.recorder
	result := Result{
		Drill: x.drill.Name, Kind: x.drill.Kind, Title: x.drill.Title, Notes: x.drill.Notes,
		Reloads: r.reloads, Waits: r.waits, Changed: r.changes, Moved: r.moved,
		Refusals: append([]Refusal{}, r.refusals...), Drained: r.drained,
		Log: append([]Line{}, r.lines...), MoreLog: r.more, Status: r.status,
		history: r.services, end: x.drill.End,
	}
	for _, s := range x.drill.Steps {
		result.Steps = append(result.Steps, Line{Offset(s.At), s.What})
	}
	services := []Service{}
	for i := range r.services {
		h := &r.services[i]
		if h.before == 0 {
			continue
		}
		s := h.summary()
		services = append(services, s)
		if s.Lowest == 0 {
			result.Empty++
		}
	}
	result.Services = len(services)
	slices.SortFunc(services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Share(), b.Share()), a.Ref.Compare(b.Ref))
	})
	result.Worst = services[:min(MaxWorst, len(services))]
	return result
}

func (h *history) summary() Service {
	s := Service{Ref: h.ref, Before: h.before, Lowest: h.before}
	for _, p := range h.points {
		if p.serving < s.Lowest {
			s.Lowest, s.LowestAt = p.serving, Offset(p.at)
		}
		s.After = p.serving
	}
	return s
}

// The method "below" finds the longest uninterrupted period in which the number of serving servers
// was lower than the limit (the argument "least"). The first result is the length of this period,
// and the second is its beginning, as the time after the first step of the drill. The argument
// "end" is the end of the drill, also as the time after the first step.
func (h *history) below(least int, end time.Duration) (longest, since time.Duration) {
	began := time.Duration(-1)
	close := func(at time.Duration) {
		if began >= 0 && at-began > longest {
			longest, since = at-began, began
		}
		began = -1
	}
	for _, p := range h.points {
		if p.serving >= least {
			close(p.at)
		} else if began < 0 {
			began = p.at
		}
	}
	close(end)
	return longest, since
}
