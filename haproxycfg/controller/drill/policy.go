package drill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits say which results of a drill are acceptable.
type Limits struct {
	// MinServers is the share of its servers that each service must keep, from 0 to 1. The number
	// of servers is rounded up: with 0.5, a service that had 3 servers before the drill must keep
	// 2.
	MinServers float64
	// MaxBelow is the longest period without a break in which a service may have fewer servers than
	// MinServers requires. 0 means that a service must never have fewer servers than that.
	MaxBelow time.Duration
	// MaxRefusals is the largest number of changes that the Controller may refuse. Each refused
	// change waits for an operator. A negative value means no limit.
	MaxRefusals int
	// MaxReloads is the largest number of reloads of HAProxy. A negative value means no limit.
	MaxReloads int
}

// DefaultLimits are the Limits of a Policy without entries: each service must keep half of its
// servers, except for at most 10 s at a stretch, and the Controller must refuse no change.
var DefaultLimits = Limits{MinServers: 0.5, MaxBelow: 10 * time.Second, MaxRefusals: 0, MaxReloads: -1}

// Policy contains the Limits of all drills. Create a Policy with ParsePolicy, or start with a copy
// of DefaultPolicy.
type Policy struct {
	// The field All contains the limits of drills without an entry in Drills.
	All Limits
	// Drills are the limits of drills by Drill.Kind or Drill.Name. An entry for the name takes
	// precedence over an entry for the kind.
	Drills map[string]Limits
}

// DefaultPolicy returns the policy with DefaultLimits for all drills.
func DefaultPolicy() Policy { return Policy{All: DefaultLimits} }

// Of returns the limits of a drill.
func (p Policy) Of(kind, name string) Limits {
	if l, ok := p.Drills[name]; ok {
		return l
	}
	if l, ok := p.Drills[kind]; ok {
		return l
	}
	return p.All
}

// Check returns an error if the policy has limits for a drill that is not in the list.
func (p Policy) Check(drills []Drill) error {
	var known []string
	for _, d := range drills {
		known = append(known, d.Kind, d.Name)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, name := range slices.Sorted(maps.Keys(p.Drills)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("drills.%s: no such drill; there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// Violation is a limit that a drill has exceeded.
type Violation struct {
	Drill string `json:"drill"`
	// Limit is the name of the limit in a policy file, such as "min-servers".
	Limit string `json:"limit"`
	// Text says in one line what happened.
	Text string `json:"text"`
}

// Judge returns the limits that the drill has exceeded. For the limit min-servers, Violation.Text
// says how many services have exceeded the limit, and names the service that was below MinServers
// for the longest time.
func (p Policy) Judge(r Result) []Violation {
	l := p.Of(r.Kind, r.Drill)
	violations := []Violation{}
	add := func(limit, format string, args ...any) {
		violations = append(violations, Violation{r.Drill, limit, fmt.Sprintf(format, args...)})
	}
	count := 0
	var worst *history
	var longest, since time.Duration
	for i := range r.history {
		h := &r.history[i]
		least := l.least(h.before)
		if time, at := h.below(least, r.end); time > l.MaxBelow || time > 0 && l.MaxBelow == 0 {
			count++
			if time > longest {
				worst, longest, since = h, time, at
			}
		}
	}
	if worst != nil {
		add("min-servers", "%d of %d services had fewer than %s of their servers for more than %v: %v had fewer than %d of %d for %v, from %v on",
			count, r.Services, percent(l.MinServers), l.MaxBelow, worst.ref, l.least(worst.before), worst.before, longest, Offset(since))
	}
	if n := len(r.Refusals); l.MaxRefusals >= 0 && n > l.MaxRefusals {
		add("max-refusals", "%d changes were not applied, and the limit is %d", n, l.MaxRefusals)
	}
	if l.MaxReloads >= 0 && r.Reloads > l.MaxReloads {
		add("max-reloads", "HAProxy was reloaded %d times, and the limit is %d", r.Reloads, l.MaxReloads)
	}
	return violations
}

// The method "least" returns the number of servers that a service must keep. The argument "before"
// is the number of servers that the service had before the drill.
func (l Limits) least(before int) int {
	return int(math.Ceil(l.MinServers*float64(before) - 1e-9))
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', -1, 64) + "%" }

// Error is one fault in a policy file.
type Error struct {
	File    string // name of the file, as given to ParsePolicy
	Line    int    // from 1; 0 means the whole file
	Field   string // such as "drills.zone.min-servers"; "" means no single field
	Message string
}

// Error returns "file:line: field: message".
func (e *Error) Error() string {
	text := e.File
	if e.Line > 0 {
		text += ":" + strconv.Itoa(e.Line)
	}
	if e.Field != "" {
		text += ": " + e.Field
	}
	return text + ": " + e.Message
}

// ParsePolicy reads a policy file:
//
//	all:
//	  min-servers: 50%    # share of its servers that each service keeps
//	  max-below: 10s      # time for which a service may have fewer
//	  max-refusals: 0     # changes that may be refused, or off for no limit
//	  max-reloads: 20     # reloads, or off for no limit
//	drills:
//	  api-away: {max-reloads: 0}
//	  zone eu-1a: {min-servers: 25%, max-refusals: 1}
//
// Each field is optional. A missing field has the value under "all", or else the value in the
// argument "base". If any field is faulty, ParsePolicy rejects the whole file, and its error joins
// an Error for each fault.
//
// policy.schema.json, in the directory of this package, is a JSON Schema of the file for editors.
func ParsePolicy(file string, data []byte, base Limits) (Policy, error) {
	p := Policy{All: base, Drills: map[string]Limits{}}
	f := policyFile{file: file}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return p, nil
	case err != nil:
		return Policy{}, &Error{File: file, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Policy{}, &Error{File: file, Message: "has a second document"}
	}
	var drills *yaml.Node
	f.fields("", doc.Content[0], func(name, path string, n *yaml.Node) bool {
		switch name {
		case "all":
			f.limits(path, n, &p.All)
		case "drills":
			drills = n
		default:
			return false
		}
		return true
	})
	if drills != nil { // after all, so that its values are known
		f.fields("drills", drills, func(name, path string, n *yaml.Node) bool {
			l := p.All
			f.limits(path, n, &l)
			p.Drills[name] = l
			return true
		})
	}
	if len(f.errs) > 0 {
		return Policy{}, errors.Join(f.errs...)
	}
	return p, nil
}

// policyFile collects the faults of a policy file.
type policyFile struct {
	file string
	errs []error
}

func (f *policyFile) fault(n *yaml.Node, path, message string) {
	f.errs = append(f.errs, &Error{File: f.file, Line: n.Line, Field: path, Message: message})
}

// fields calls the function "read" with the name, path and value of each field of the mapping n.
// The function "read" returns false if there is no field with this name. The value of n may also be
// null, which means a mapping without fields.
func (f *policyFile) fields(path string, n *yaml.Node, read func(name, path string, n *yaml.Node) bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		f.fault(n, path, "must be fields with values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		at := strings.TrimPrefix(path+"."+name, ".")
		switch {
		case key.Kind != yaml.ScalarNode:
			f.fault(key, path, "a name must be a plain text")
		case seen[name]:
			f.fault(key, at, "is set twice")
		case !read(name, at, value):
			f.fault(key, at, "no such field")
		}
		seen[name] = true
	}
}

func (f *policyFile) limits(path string, n *yaml.Node, l *Limits) {
	f.fields(path, n, func(name, path string, n *yaml.Node) bool {
		known, err := l.set(name, n)
		if err != nil {
			f.fault(n, path, err.Error())
		}
		return known
	})
}

func (l *Limits) set(name string, n *yaml.Node) (known bool, err error) {
	text := n.Value
	if n.Kind != yaml.ScalarNode {
		text = "" // which no limit accepts
	}
	return l.Set(name, text)
}

// Set sets the limit with this name. The names and the forms of the values are those of a policy
// file, such as "min-servers" and "50%". known is false if there is no such limit.
func (l *Limits) Set(name, value string) (known bool, err error) {
	switch name {
	case "min-servers":
		l.MinServers, err = parseShare(value, l.MinServers)
	case "max-below":
		var d time.Duration
		if d, err = time.ParseDuration(value); err != nil || d < 0 {
			return true, errors.New("must be a time with a unit, such as 10s")
		}
		l.MaxBelow = d
	case "max-refusals":
		l.MaxRefusals, err = parseCount(value, l.MaxRefusals)
	case "max-reloads":
		l.MaxReloads, err = parseCount(value, l.MaxReloads)
	default:
		return false, nil
	}
	return true, err
}

func parseShare(text string, last float64) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || strings.Trim(number, "0123456789.") != "" || share > 100 {
		return last, errors.New("must be a percentage from 0% to 100%")
	}
	return share / 100, nil
}

func parseCount(text string, last int) (int, error) {
	if text == "off" {
		return -1, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return last, errors.New("must be a whole number, or off for no limit")
	}
	return int(n), nil
}
