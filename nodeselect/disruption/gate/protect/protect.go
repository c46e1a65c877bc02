package protect

import (
	"cmp"
	"slices"
	"time"

	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

// Subject is an object that a tool can take away: a node, or a Machine with its node.
type Subject struct {
	// Object is the name of the object. Node is the name of its node; "" means no node.
	Object, Node string
	// UID and Version are the UID and the resource version of the object on which the protection is
	// set.
	UID, Version string
	// Protected is true if the object has a protection, so the tool leaves it alone.
	Protected bool
	// Ours is true if nobody else has set the protection, so that this program may remove it.
	Ours bool
	// Since is the time at which the protection was set. The zero time means unknown.
	Since time.Time
	// Wanted is the time since which the tool wants to take the object away. The zero time means
	// that the tool does not want this. It matters only with Settings.OnDemand.
	Wanted time.Time
	// Taken is true if it is too late for a protection: it would no longer stop the tool, for
	// example because the object is being deleted.
	Taken bool
}

// Settings are the rules for a tool.
type Settings struct {
	// OnDemand is true if the tool shows which objects it wants to take before it takes them. The
	// time since which it wants an object is then in Subject.Wanted. If OnDemand is false,
	// Subject.Wanted has no meaning.
	OnDemand bool
	// Free is the longest time for which a node stays free, that is, without a protection. The tool
	// must take the node within this time. 0 means DefaultFree.
	Free time.Duration
	// Settle is how long a node must have its protection before its grant ends. Settle must be
	// longer than the tool needs from its decision until it cordons, taints or deletes the node. 0
	// means DefaultSettle.
	Settle time.Duration
	// HoldDown is how long a node that was away must be back before its grant ends. 0 means
	// gate.DefaultHoldDown.
	HoldDown time.Duration
	// Most is the largest number of granted nodes that the tool has not taken yet; 0 means no
	// limit. Nodes that no applied configuration contains need no grant and do not count. The
	// limits on the nodes of each service always apply.
	Most int
}

// Defaults of Settings.
const (
	DefaultFree   = 2 * time.Hour
	DefaultSettle = 2 * time.Minute
)

// Ask returns the names of the nodes that should become or stay free, that is, without a
// protection, so that the tool can take them. The most urgent node is the first. The caller gets
// grants for as many of these nodes as possible.
func Ask(subjects []Subject, s Settings) []string {
	order := func(x Subject) time.Time {
		if s.OnDemand {
			return x.Wanted
		}
		return x.Since
	}
	var candidates []Subject
	for _, x := range subjects {
		if x.Node != "" && !x.Taken && (!s.OnDemand || !x.Wanted.IsZero()) && (!x.Protected || x.Ours) {
			candidates = append(candidates, x)
		}
	}
	slices.SortFunc(candidates, func(a, b Subject) int {
		return cmp.Or(order(a).Compare(order(b)), cmp.Compare(a.Node, b.Node))
	})
	names := make([]string, len(candidates))
	for i, x := range candidates {
		names[i] = x.Node
	}
	return names
}

// Plan says what the caller has to do next, in this order: set the protection of the objects in
// Protect, end the grants for the nodes in Release, remove the protection of the objects in Free.
type Plan struct {
	Protect []Subject
	// Release contains the names of the nodes whose grants the caller must end.
	Release []string
	Free    []Subject
	// Waiting is the number of objects that the tool wants to take, but must still leave alone.
	Waiting int
}

// Held are the grants of the holder, and what these grants permit.
type Held struct {
	// May are the nodes that the holder may take away now; see [gate.Gate.TakeEach].
	May []string
	// Grants are all grants of the holder. Unused lists those nodes of Grants that no applied
	// configuration contains.
	Grants []gate.Grant
	Unused []string
}

// Next returns what the caller has to do next. The argument "now" is the present time.
func Next(subjects []Subject, h Held, s Settings, now time.Time) Plan {
	free := cmp.Or(s.Free, DefaultFree)
	allowed := set(h.May)
	held := make(map[string]gate.Grant, len(h.Grants))
	for _, g := range h.Grants {
		held[g.Node] = g
	}
	var p Plan
	listed := map[string]bool{}
	for _, x := range subjects {
		listed[x.Node] = true
		grant, granted := held[x.Node]
		granted = granted && x.Node != ""
		wanted := !s.OnDemand || !x.Wanted.IsZero()
		over := grant.Taken.Add(free)
		var let bool
		switch {
		case x.Taken:
			continue
		case x.Node == "":
			let = s.OnDemand && wanted
		case !granted:
			let = wanted && allowed[x.Node]
		case grant.Pending || !grant.Back.IsZero(): // the node is back: the tool must not take it again
		case !grant.Went.IsZero():
			let = true
		default:
			let = wanted && now.Before(over)
		}
		switch {
		case let && x.Protected && x.Ours:
			p.Free = append(p.Free, x)
		case !let && !x.Protected:
			p.Protect = append(p.Protect, x)
		}
		if !let && s.OnDemand && wanted {
			p.Waiting++
		}
		if !let && granted && !grant.Pending && x.Protected && !now.Before(s.end(x, grant, wanted)) {
			p.Release = append(p.Release, x.Node)
		}
	}
	// Some granted nodes have no object in subjects any more. End the grant of such a node only if
	// no applied configuration contains the node, or if the node has been back for HoldDown. Do not
	// end a pending grant.
	unused := set(h.Unused)
	for _, g := range h.Grants {
		back := !g.Back.IsZero() && !now.Before(g.Back.Add(cmp.Or(s.HoldDown, gate.DefaultHoldDown)))
		if !listed[g.Node] && !g.Pending && (unused[g.Node] || back) {
			p.Release = append(p.Release, g.Node)
		}
	}
	return p
}

// end returns the time at which the caller may end the grant g. x is the object of the node, and is
// protected. wanted is true if the tool may want to take the object away.
func (s Settings) end(x Subject, g gate.Grant, wanted bool) time.Time {
	settle := cmp.Or(s.Settle, DefaultSettle)
	settled := x.Since.Add(settle)
	switch {
	case !g.Back.IsZero():
		return later(settled, g.Back.Add(cmp.Or(s.HoldDown, gate.DefaultHoldDown)))
	case wanted: // the node was free until its time was over
		return later(settled, g.Taken.Add(cmp.Or(s.Free, DefaultFree)).Add(settle))
	}
	return settled
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

// All returns a plan that protects all objects. Use it while package gate cannot decide, and when
// the program ends.
func All(subjects []Subject) Plan {
	var p Plan
	for _, x := range subjects {
		if !x.Protected && !x.Taken {
			p.Protect = append(p.Protect, x)
		}
		if !x.Wanted.IsZero() && !x.Taken {
			p.Waiting++
		}
	}
	return p
}
