package disruption

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Answer is the result of State.May and State.Take. It says whether somebody may take the named
// nodes (the arguments of the call) away at the same time, and if not, why.
type Answer struct {
	// OK is true if somebody may take all named nodes away at the same time.
	OK bool `json:"ok"`
	// Blocked are the limits that the named nodes would exceed, sorted by service and zone. Blocked
	// is empty if OK is true.
	Blocked []Blocked `json:"blocked,omitempty"`
	// Remarks describe named nodes that count for no limit, and named nodes that counted as away
	// before the call of May. Remarks do not change OK.
	Remarks []Remark `json:"remarks,omitempty"`
}

// Blocked is a limit that the named nodes would exceed. For Budget.OneZone, there is one Blocked
// for each zone with nodes that are away or named.
type Blocked struct {
	Service string `json:"service,omitempty"` // "namespace/name"; empty for Budget.OneZone and Budget.Share
	Zone    string `json:"zone,omitempty"`    // for Budget.Zone and Budget.OneZone
	Rule    Rule   `json:"rule"`
	Away    int    `json:"away"`  // nodes that count for the limit and are away, without the named nodes
	Named   int    `json:"named"` // named nodes that count for the limit and are not away
	Limit   int    `json:"limit"` // largest number of nodes that may be away; always 0 for Budget.OneZone
}

// Rule names the field of Budget that sets a limit.
type Rule string

// Rules.
const (
	RuleService Rule = "service"
	RuleZone    Rule = "zone"
	RuleOneZone Rule = "one-zone"
	RuleShare   Rule = "share"
)

// Remark is a fact about one of the named nodes. It does not change Answer.OK.
type Remark struct {
	Node string `json:"node"`
	Kind Kind   `json:"kind"`
}

// Kind is the kind of a Remark.
type Kind string

// Kinds.
const (
	// Unknown means that the name is neither in the list of nodes nor in a subset.
	Unknown Kind = "unknown"
	// Unused means that the node is in no subset.
	Unused Kind = "unused"
	// AlreadyAway means that the node already counted as away before the call of May.
	AlreadyAway Kind = "already-away"
)

// String returns the answer in one line.
func (a Answer) String() string {
	var parts []string
	for _, b := range a.Blocked {
		parts = append(parts, b.String())
	}
	for _, r := range a.Remarks {
		parts = append(parts, r.String())
	}
	answer := "no"
	if a.OK {
		answer = "yes"
	}
	if len(parts) == 0 {
		return answer
	}
	return answer + ": " + strings.Join(parts, "; ")
}

// String returns the limit and the numbers in words.
func (b Blocked) String() string {
	limit := fmt.Sprintf("%d away and %d named, of at most %d", b.Away, b.Named, b.Limit)
	switch b.Rule {
	case RuleZone:
		return fmt.Sprintf("service %s in zone %q: %s", b.Service, b.Zone, limit)
	case RuleOneZone:
		return fmt.Sprintf("zone %q: %d away and %d named; only one zone at a time", b.Zone, b.Away, b.Named)
	case RuleShare:
		return "all nodes: " + limit
	default:
		return fmt.Sprintf("service %s: %s", b.Service, limit)
	}
}

// String returns the remark in words.
func (r Remark) String() string {
	switch r.Kind {
	case Unknown:
		return "node " + r.Node + " is unknown"
	case Unused:
		return "node " + r.Node + " is in no subset"
	case AlreadyAway:
		return "node " + r.Node + " is away already"
	default:
		return "node " + r.Node + ": " + string(r.Kind)
	}
}

// sortBlocked sorts the list by service, zone and rule. If several entries are equal in all three,
// it keeps only the entry that exceeds its limit by most.
func sortBlocked(list []Blocked) []Blocked {
	slices.SortFunc(list, func(a, b Blocked) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Zone, b.Zone), strings.Compare(string(a.Rule), string(b.Rule)),
			cmp.Compare(b.Away+b.Named-b.Limit, a.Away+a.Named-a.Limit), cmp.Compare(b.Away, a.Away), cmp.Compare(b.Limit, a.Limit))
	})
	return slices.CompactFunc(list, func(a, b Blocked) bool {
		return a.Service == b.Service && a.Zone == b.Zone && a.Rule == b.Rule
	})
}
