package routes

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultWeight is the weight of a backend if a declaration file gives it no weight.
const DefaultWeight = 100

// Ref names one port of one service in one cluster. It is comparable, so it may be the key of a
// map.
type Ref struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// Port is the name of a service port, or its number in decimal digits ("8080"). It is not the
	// service's node port.
	Port string `json:"port"`
}

// String returns the reference as cluster/namespace/service:port, for example
// "eu-1/media/tracks:http".
func (r Ref) String() string {
	return r.Cluster + "/" + r.Namespace + "/" + r.Service + ":" + r.Port
}

// Compare orders references by cluster, namespace, service and port.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(
		cmp.Compare(r.Cluster, o.Cluster),
		cmp.Compare(r.Namespace, o.Namespace),
		cmp.Compare(r.Service, o.Service),
		cmp.Compare(r.Port, o.Port),
	)
}

// Backend is a service that serves a route, and its share of the traffic.
type Backend struct {
	Ref
	// Weight is the service's share of the route's traffic, from 0 to 256, relative to the route's
	// other backends. 0 means no new requests. Parse sets DefaultWeight for a missing weight, but
	// in a Go value 0 means 0.
	Weight int `json:"weight"`
}

// String returns the reference and the weight, for example "eu-1/media/tracks:http weight 50".
func (b Backend) String() string {
	return b.Ref.String() + " weight " + strconv.Itoa(b.Weight)
}

// Route binds a public host name and path to the services that serve it. The comments on the fields
// describe a route in a Table. New also accepts other spellings, and converts them to this form.
type Route struct {
	// Host is a name in lower case, without a port and without a final dot, and with non-ASCII
	// labels in their "xn--" form. A wildcard such as "*.example.com" covers every name that has
	// exactly one label more than example.com.
	Host string
	// Path contains the bytes of the path as a client sends them: "/" or "/a/b". If Exact is false,
	// it covers itself and all paths below it, by whole segments. Only "/" and an exact path can
	// end in a slash.
	Path string
	// Exact means that Path covers only itself.
	Exact bool
	// Backends are the services of the route, at least one, sorted by Ref. Each Ref occurs once.
	Backends []Backend
	// Check is a health check of the service's own port on each server. If Check is nil, HAProxy
	// checks only the node of the server.
	Check *Check
	// Protocol is the protocol between HAProxy and the services of the route.
	Protocol Protocol
	// Limits bound the traffic of the route in each HAProxy. HAProxy counts each route on its own.
	Limits Limits
	// Timeouts replace the defaults of the edge.
	Timeouts Timeouts
	// Shift allows a program to move requests of the route from one cluster to another while
	// HAProxy runs. HAProxy chooses the cluster for each request. The backends of the route must be
	// in at least two clusters.
	Shift bool
	// Prefer says which clusters serve the clients of which region, sorted by Region. Each Region
	// occurs once. A shift of the route has precedence over Prefer. If Prefer is not empty, the
	// backends of the route must be in at least two clusters.
	Prefer []Preference `json:",omitempty"`
	// Position is the place of the declaration.
	Position Position
}

// Compare orders routes by host, then by path, then exact before prefix.
func (r Route) Compare(o Route) int {
	if c := cmp.Or(cmp.Compare(r.Host, o.Host), cmp.Compare(r.Path, o.Path)); c != 0 || r.Exact == o.Exact {
		return c
	}
	if r.Exact {
		return -1
	}
	return 1
}

// Preference says which clusters serve the clients of a region. HAProxy sends a request to the first
// of these clusters that has enough usable servers. If none of them has enough, HAProxy divides the
// requests between all clusters of the route, by the declared weights.
type Preference struct {
	// Region is the name of a region (see Regions). The preference of the empty Region applies to
	// all clients whose region is unknown or has no preference of its own.
	Region string `json:"region,omitempty"`
	// Clusters are the names of clusters of the route, from 1 to MaxPreferred, the best one first.
	// Each name occurs once. HAProxy skips a cluster whose services all have the weight 0.
	Clusters []string `json:"clusters"`
	// Quorum is the share, in percent, of a cluster's servers that HAProxy must be able to use, from
	// 1 to 100. 0 means edge.Quorum, which is 50.
	Quorum int `json:"quorum,omitempty"`
}

func (p Preference) equal(o Preference) bool {
	return p.Region == o.Region && p.Quorum == o.Quorum && slices.Equal(p.Clusters, o.Clusters)
}

// SamePreferences reports whether two lists of preferences are equal.
func SamePreferences(a, b []Preference) bool { return slices.EqualFunc(a, b, Preference.equal) }

// Clusters returns the names of the clusters of the route, sorted and without duplicates.
func (r Route) Clusters() []string {
	var names []string
	for _, b := range r.Backends { // sorted by cluster
		if n := len(names); n == 0 || names[n-1] != b.Cluster {
			names = append(names, b.Cluster)
		}
	}
	return names
}

// Protocol is the protocol between HAProxy and the services of a route. Clients can use HTTP/1.1
// and HTTP/2, whatever the Protocol is.
type Protocol string

// The protocols.
const (
	// HTTP1 is HTTP/1.1, the default. A file names it "http1".
	HTTP1 Protocol = ""
	// H2C is HTTP/2 without TLS. The service must accept HTTP/2 as the first bytes of a connection
	// ("prior knowledge", RFC 9113 section 3.3).
	H2C Protocol = "h2c"
	// GRPC is H2C with settings for gRPC: a call may be silent for an hour, and HAProxy sends each
	// message without delay.
	GRPC Protocol = "grpc"
)

// Check is a health check of a service's port. HAProxy checks each server of the service.
type Check struct {
	// Path is the path of the HTTP request that HAProxy sends, optionally with a query. A server
	// that answers 2xx or 3xx is healthy. If Path is empty, HAProxy only connects, and a server
	// that accepts is healthy.
	Path string
	// Host is the Host header of the health check's HTTP request. If Host is empty, the request is
	// HTTP/1.0 without a Host header. With H2C and GRPC, the request is HTTP/2, and Host is its
	// :authority.
	Host string
	// GRPC makes HAProxy call the method Check of grpc.health.v1.Health for the whole server. A server
	// that answers SERVING is healthy. GRPC needs the protocol H2C or GRPC, and no Path.
	GRPC bool
	// Interval is the time between two checks, in whole milliseconds; 0 means
	// edge.Edge.CheckInterval.
	Interval time.Duration
	// Rise is the number of good results in a row after which a server is healthy, and Fall the
	// number of bad results after which it is unhealthy. 0 means HAProxy's default: 2 for Rise, 3
	// for Fall.
	Rise, Fall int
}

// Limits bound the traffic of a route. HAProxy refuses the requests above a limit. HAProxy does not
// count the requests that it refuses, so a client above a limit still gets as many answers as the
// limit allows.
type Limits struct {
	Limit        // of all clients together
	Source Limit // of each source: an IPv4 address, or the first 64 bits of an IPv6 address
}

// Limit bounds the rate of requests and the number of simultaneous requests, of one source or of
// all clients together. 0 means no limit.
type Limit struct {
	Requests    int // requests a second
	Connections int // requests whose answers are not complete, and open WebSockets and streams
}

// Timeouts are time limits for connections to the services of a route, in whole milliseconds. 0
// means the default of the edge.
type Timeouts struct {
	// Server is the longest time without data from the service while HAProxy waits for its answer.
	Server time.Duration
	// Tunnel is the longest time without data in either direction of an upgraded connection, such
	// as a WebSocket.
	Tunnel time.Duration
}

// Position is a place in a declaration file.
type Position struct {
	File string // the name that Parse received
	Line int    // from 1; 0 means unknown
}

// String returns "file:line". If the file or the line is unknown, it returns only the known part.
func (p Position) String() string {
	switch {
	case p.Line <= 0:
		return p.File
	case p.File == "":
		return "line " + strconv.Itoa(p.Line)
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

func (p Position) problem(field, message string) Problem {
	return Problem{File: p.File, Line: p.Line, Field: field, Message: message}
}

// Problem is one fault of a declaration. A Problem implements error.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0 means unknown
	// Field is the path of the faulty field from the root of its YAML document, with indices from
	// 0, for example "routes[3].backends[0].port".
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error returns "file:line: field: message". It leaves out unknown parts.
func (p Problem) Error() string {
	s := p.Message
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if at := (Position{p.File, p.Line}).String(); at != "" {
		s = at + ": " + s
	}
	return s
}

// join returns the path of a field. The argument "path" is the path of the value that contains the
// field, and the argument "field" is the name of the field.
func join(path, field string) string {
	if path == "" || field == "" || strings.HasPrefix(field, "[") {
		return path + field
	}
	return path + "." + field
}

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

// equal reports whether two routes are equal in all fields except Position.
func (r *Route) equal(o Route) bool {
	return r.key() == o.key() && slices.Equal(r.Backends, o.Backends) && r.Timeouts == o.Timeouts && r.Protocol == o.Protocol && r.Limits == o.Limits &&
		r.Shift == o.Shift && SamePreferences(r.Prefer, o.Prefer) && (r.Check == o.Check || r.Check != nil && o.Check != nil && *r.Check == *o.Check)
}
