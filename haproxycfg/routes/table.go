package routes

import (
	"fmt"
	"slices"
	"strconv"
)

const (
	MaxRoutes   = 100_000 // routes of one file, and of one call of New
	MaxBackends = 64      // backends of one Route

	MaxPreferences = 32 // preferences of one Route
	MaxPreferred   = 4  // clusters of one Preference
)

// Table is a set of valid routes in normal form; only Parse, New and Merge make one. The zero Table
// is empty. Several goroutines may use a Table at the same time.
type Table struct {
	routes []Route
}

// New makes a table from Go values, which need not be in normal form. It leaves out each route that
// has a problem, and returns the same problems as Parse, with the Position of the route and a Field
// that begins with its index, such as "routes[0]". The table shares no memory with the arguments.
func New(routes ...Route) (Table, []Problem) {
	var (
		valid    []declaration
		problems []Problem
	)
	for i, r := range routes {
		field := "routes[" + strconv.Itoa(i) + "]"
		n := len(problems)
		normal := normalRoute(r, func(sub, message string) {
			problems = append(problems, r.Position.problem(join(field, sub), message))
		})
		if len(problems) == n {
			valid = append(valid, declaration{normal, field})
		}
	}
	t, conflicts := build(valid, MaxRoutes)
	return t, append(problems, conflicts...)
}

// Merge joins tables, without a limit. If two routes have the same host, path and exactness, it
// keeps the route of the earlier argument. For the other route, it returns a problem with both
// positions.
func Merge(tables ...Table) (Table, []Problem) {
	if len(tables) == 1 {
		return tables[0], nil
	}
	var all []declaration
	for _, t := range tables {
		for _, r := range t.routes {
			all = append(all, declaration{r, "routes"})
		}
	}
	return build(all, len(all))
}

// Routes returns the routes, sorted by Route.Compare. No two routes have the same host, path and
// exactness. The caller must not change the slice or the values in it.
func (t Table) Routes() []Route { return t.routes }

// Refs returns every service port that the table names, sorted and without duplicates.
func (t Table) Refs() []Ref {
	var refs []Ref
	seen := map[Ref]bool{} // usually many routes name one port, so sort only after removing duplicates
	for i := range t.routes {
		for _, b := range t.routes[i].Backends {
			if !seen[b.Ref] {
				seen[b.Ref] = true
				refs = append(refs, b.Ref)
			}
		}
	}
	slices.SortFunc(refs, Ref.Compare)
	return refs
}

// Hosts returns every host of the table, sorted and without duplicates.
func (t Table) Hosts() []string {
	var hosts []string
	for i, r := range t.routes {
		if i == 0 || r.Host != t.routes[i-1].Host {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// Without returns the table without those routes for which the function "drop" returns true. It
// does not change t.
func (t Table) Without(drop func(*Route) bool) Table {
	var kept []Route
	for i := range t.routes {
		if !drop(&t.routes[i]) {
			kept = append(kept, t.routes[i])
		}
	}
	return Table{kept}
}

// withoutHost returns the table without the routes of a host. If the table has such routes,
// withoutHost also returns a problem. The argument "reason" is the message of this problem.
func (t Table) withoutHost(host, reason string) (Table, []Problem) {
	hasHost := func(r Route) bool { return r.Host == host }
	i := slices.IndexFunc(t.routes, hasHost)
	if i < 0 {
		return t, nil
	}
	problem := t.routes[i].Position.problem("host", host+": "+reason)
	return Table{slices.DeleteFunc(slices.Clone(t.routes), hasHost)}, []Problem{problem}
}

// declaration is a valid route in normal form. field is the field that declares the route, such as
// "routes[0]".
type declaration struct {
	Route
	field string
}

// key identifies a route in a table. No two routes of a table have the same key.
type key struct {
	host, path string
	exact      bool
}

func (r *Route) key() key { return key{r.Host, r.Path, r.Exact} }

// build makes a sorted table of the routes. If several routes have the same key, build keeps the
// first of them, and returns a problem for each of the other routes.
func build(declarations []declaration, limit int) (Table, []Problem) {
	var problems []Problem
	first := make(map[key]*declaration, len(declarations))
	t := Table{}
	for i := range declarations {
		d := &declarations[i]
		if f := first[d.key()]; f != nil {
			problems = append(problems, d.Position.problem(d.field, conflict(f, d)))
			continue
		}
		if len(t.routes) == limit {
			problems = append(problems, d.Position.problem(d.field, tooManyRoutes))
			break
		}
		first[d.key()] = d
		t.routes = append(t.routes, d.Route)
	}
	slices.SortFunc(t.routes, Route.Compare)
	return t, problems
}

var tooManyRoutes = fmt.Sprintf("there are more than %d routes; this one and all after it are left out", MaxRoutes)

// conflict returns the message for the later one of two routes with the same host, path and
// exactness.
func conflict(first, later *declaration) string {
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

// equal reports whether two routes are equal in all fields except Position. The method "key"
// returns the host, the path and Exact.
func (r *Route) equal(o Route) bool {
	return r.key() == o.key() && slices.Equal(r.Backends, o.Backends) && r.Timeouts == o.Timeouts && r.Protocol == o.Protocol && r.Limits == o.Limits &&
		r.Shift == o.Shift && SamePreferences(r.Prefer, o.Prefer) && (r.Check == o.Check || r.Check != nil && o.Check != nil && *r.Check == *o.Check)
}
