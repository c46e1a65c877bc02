package routes

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxRoutes bounds the routes of one table, and MaxBackends those of one route.
const (
	MaxRoutes   = 100_000
	MaxBackends = 64
)

// New makes a table of routes that were not read from a file. It brings them
// into normal form, reports what is wrong with them in the terms of Parse and
// leaves bad ones out. Problems stand at Route.Position; fields count from the
// first argument, "routes[0]". The arguments are not changed or kept.
func New(routes ...Route) (Table, []Problem) {
	var (
		kept     []entry
		problems []Problem
	)
	for i, r := range routes {
		field := "routes[" + strconv.Itoa(i) + "]"
		n := len(problems)
		normal := normalise(r, func(sub, message string) {
			problems = append(problems, r.Position.problem(join(field, sub), message))
		})
		if len(problems) == n {
			kept = append(kept, entry{normal, field})
		}
	}
	t, more := build(kept)
	return t, append(problems, more...)
}

// Merge joins tables, for example those of several files. Where two declare
// the same host, path and exactness, the earlier argument's route stays and the
// later one is a problem that names both positions.
func Merge(tables ...Table) (Table, []Problem) {
	var entries []entry
	for _, t := range tables {
		for _, r := range t.routes {
			entries = append(entries, entry{r, "routes"})
		}
	}
	return build(entries)
}

// entry is a normal route and the field at which it was declared.
type entry struct {
	Route
	field string
}

// key is what a table holds at most once.
type key struct {
	host, path string
	exact      bool
}

func (r *Route) key() key { return key{r.Host, r.Path, r.Exact} }

// compare puts exact before prefix, which is the order of precedence.
func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.host, o.host), cmp.Compare(k.path, o.path), -compareBool(k.exact, o.exact))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// build sorts normal routes into a table. Of equal keys the first stays.
func build(entries []entry) (Table, []Problem) {
	var problems []Problem
	first := make(map[key]*entry, len(entries))
	t := Table{}
	for i := range entries {
		e := &entries[i]
		if f := first[e.key()]; f != nil {
			problems = append(problems, e.Position.problem(e.field, conflict(f, e)))
			continue
		}
		if len(t.routes) == MaxRoutes {
			problems = append(problems, e.Position.problem(e.field, tooManyRoutes))
			break
		}
		first[e.key()] = e
		t.routes = append(t.routes, e.Route)
	}
	slices.SortFunc(t.routes, func(a, b Route) int { return a.key().compare(b.key()) })
	return t, problems
}

var tooManyRoutes = fmt.Sprintf("there are more than %d routes; this one and all after it are left out", MaxRoutes)

// conflict words the clash of two entries of one key.
func conflict(first, later *entry) string {
	what := "is declared differently"
	if first.equal(later.Route) {
		what = "is declared alike"
	}
	at := first.Position.String()
	if at == "" {
		at = first.field
	}
	exact := ""
	if later.Exact {
		exact = " (exact)"
	}
	return fmt.Sprintf("%s%s%s %s at %s, which stands; this one is left out", later.Host, later.Path, exact, what, at)
}

// equal compares all but positions.
func (r *Route) equal(o Route) bool {
	return r.key() == o.key() && slices.Equal(r.Backends, o.Backends) && r.Timeouts == o.Timeouts &&
		(r.Check == o.Check || r.Check != nil && o.Check != nil && *r.Check == *o.Check)
}

// normalise returns r in normal form, sharing nothing with it, and reports each
// fault with the field, relative to the route, at which it stands.
func normalise(r Route, report func(field, message string)) Route {
	fault := func(field, value string, err error) {
		if err == nil {
			return
		}
		message := err.Error()
		if value != "" {
			message = quote(value) + " " + message
		}
		report(field, message)
	}
	var err error
	if declared := r.Host; declared == "" {
		report("host", "is missing")
	} else {
		r.Host, err = normalPattern(declared)
		fault("host", declared, err)
	}
	declared := r.Path
	r.Path, err = normalPath(declared, r.Exact)
	fault("path", declared, err)
	r.Backends = normalBackends(r.Backends, fault)
	if r.Check != nil {
		c := normalCheck(*r.Check, fault)
		r.Check = &c
	}
	for _, t := range []struct {
		field string
		value time.Duration
	}{{"timeouts.server", r.Timeouts.Server}, {"timeouts.tunnel", r.Timeouts.Tunnel}} {
		if t.value != 0 {
			fault(t.field, t.value.String(), checkDuration(t.value, time.Millisecond))
		}
	}
	return r
}

type faultFunc = func(field, value string, err error)

func normalBackends(declared []Backend, fault faultFunc) []Backend {
	switch n := len(declared); {
	case n == 0:
		fault("backends", "", errors.New("is missing or empty: nothing would serve the route"))
	case n > MaxBackends:
		fault("backends", "", fmt.Errorf("has %d entries; at most %d are allowed", n, MaxBackends))
		return nil
	}
	at := make(map[Ref]int, len(declared))
	for i, b := range declared {
		field := "backends[" + strconv.Itoa(i) + "]"
		fault(field+".cluster", b.Cluster, checkDNSLabel(b.Cluster))
		fault(field+".namespace", b.Namespace, checkDNSLabel(b.Namespace))
		fault(field+".service", b.Service, checkDNSLabel(b.Service))
		fault(field+".port", b.Port, checkPort(b.Port))
		if b.Weight < 0 || b.Weight > 256 {
			fault(field+".weight", "", fmt.Errorf("%d is not from 0 to 256", b.Weight))
		}
		if j, ok := at[b.Ref]; ok {
			fault(field, "", fmt.Errorf("%s is backends[%d] already; give it once, with its whole weight", b.Ref, j))
			continue
		}
		at[b.Ref] = i
	}
	sorted := slices.Clone(declared)
	slices.SortFunc(sorted, func(a, b Backend) int { return a.Compare(b.Ref) })
	return sorted
}

func normalCheck(c Check, fault faultFunc) Check {
	if c.Path != "" {
		fault("check.path", c.Path, checkRequestPath(c.Path))
	}
	if c.Host != "" {
		declared := c.Host
		var err error
		c.Host, err = normalHost(declared)
		fault("check.host", declared, err)
		if c.Path == "" {
			fault("check.host", "", errors.New("goes with check.path: without a path nothing is requested"))
		}
	}
	if c.Interval != 0 {
		fault("check.interval", c.Interval.String(), checkDuration(c.Interval, minInterval))
	}
	for _, n := range []struct {
		field string
		value int
	}{{"check.rise", c.Rise}, {"check.fall", c.Fall}} {
		if n.value < 0 || n.value > maxCount {
			fault(n.field, "", errCount)
		}
	}
	return c
}

// maxCount bounds check.rise and check.fall.
const maxCount = 100

var errCount = fmt.Errorf("must be from 1 to %d, or left out", maxCount)

func (p Position) problem(field, message string) Problem {
	return Problem{File: p.File, Line: p.Line, Field: field, Message: message}
}

// join adds a field to the path of what holds it.
func join(at, field string) string {
	if at == "" || field == "" || strings.HasPrefix(field, "[") {
		return at + field
	}
	return at + "." + field
}
