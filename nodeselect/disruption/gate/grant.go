package gate

import (
	"fmt"
	"time"
)

// Grant permits its holder to take a node away.
type Grant struct {
	Node   string        `json:"node"`
	Holder string        `json:"holder"`
	Taken  time.Time     `json:"taken"`
	TTL    time.Duration `json:"ttl"` // how long the holder has to take the node away; 0 means no time at all
	// Went is the time at which an observation first showed, after the start of the grant, that the
	// node was away. The zero time means that no observation has shown this.
	Went time.Time `json:"went,omitzero"`
	// Back is the time at which an observation first showed that the node was up again, after the
	// node had gone away (Went). The zero time means that the node is not up again. If the node
	// goes away once more, Back becomes the zero time.
	Back time.Time `json:"back,omitzero"`
	// Pending is true until package leases has stored the decision about the grant. A pending grant
	// counts as a grant, but its holder may not take the node away yet.
	Pending bool `json:"pending,omitempty"`
	// Manual is true if only the holder ends the grant. Observe never ends a grant that is Manual.
	Manual bool `json:"manual,omitempty"`
}

// Expired reports whether the holder may no longer take the node away, because the TTL is over. The
// node still counts as granted until Observe ends the grant.
func (g Grant) Expired(now time.Time) bool { return !now.Before(g.Taken.Add(g.TTL)) }

// String returns the grant in one line.
func (g Grant) String() string {
	text := fmt.Sprintf("%s granted to %s at %s", g.Node, g.Holder, clock(g.Taken))
	switch {
	case !g.Back.IsZero():
		text += ", back since " + clock(g.Back)
	case !g.Went.IsZero():
		text += ", away since " + clock(g.Went)
	}
	return text
}

// Observation is the state of a granted node.
type Observation struct {
	Applied bool // an applied configuration has the node
	Away    bool // the node is cordoned, drained, not Ready or deleted
	// Up is true if the agent of the node answers "up", or if the caller does not read the answers
	// of agents. Up matters only if Away is false.
	Up bool
	// ReadySince is Node.ReadySince. If the node became Ready after the holder got the grant, the
	// node was away in between, even if no observation has shown this.
	ReadySince time.Time
}

// maxSkew is the largest difference between the clocks of a node and of the process that took a
// grant. So if a node became Ready less than maxSkew after the grant, it may in truth have become
// Ready before the grant.
const maxSkew = 2 * time.Second

// DefaultHoldDown is how long a node must be back before its grant ends, if the argument holdDown
// of Observe is 0.
const DefaultHoldDown = time.Minute

// Observe returns the grant after an observation of its node. If the grant has ended, the result
// "ended" is the reason. If the grant continues, it is "".
//
// After the node has been away, the grant ends when the node has been back for the time holdDown
// without interruption. 0 means DefaultHoldDown.
//
// If somebody cordons and uncordons the node between two observations, without a restart, Observe
// does not notice it.
func (g Grant) Observe(o Observation, holdDown time.Duration, now time.Time) (next Grant, ended string) {
	if holdDown == 0 {
		holdDown = DefaultHoldDown
	}
	switch {
	case !o.Applied && !g.Manual:
		return g, "no applied configuration has the node"
	case !o.Away && g.Went.IsZero() && o.ReadySince.After(g.Taken.Add(maxSkew)):
		g.Went = o.ReadySince
		if o.Up {
			g.Back = now
		}
	case o.Away:
		if g.Went.IsZero() {
			g.Went = now
		}
		g.Back = time.Time{}
	case g.Went.IsZero():
		if g.Expired(now) && !g.Manual {
			return g, "its TTL is over, and the node never went away"
		}
	case !o.Up:
		g.Back = time.Time{}
	case g.Back.IsZero():
		g.Back = now
	case now.Sub(g.Back) >= holdDown && !g.Manual:
		return g, "the node is back"
	}
	return g, ""
}

// clock returns a time as text for people.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
