package routes

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// DefaultWeight is the weight of a backend that declares none.
const DefaultWeight = 100

// Ref names one port of one service in one cluster. It is comparable, and so
// may be a map key.
type Ref struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// Port is the name of a service port, or its number in plain decimal
	// digits ("8080"). It is not a node port.
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

// Backend is one service that serves a route, and its share.
type Backend struct {
	Ref
	// Weight is this service's share of the route's traffic relative to the
	// route's other backends, 0 to 256. 0 means no new requests. A declaration
	// without a weight has DefaultWeight; in a Go value 0 is 0.
	Weight int `json:"weight"`
}

// String returns the reference and the weight, for example
// "eu-1/media/tracks:http weight 50".
func (b Backend) String() string {
	return b.Ref.String() + " weight " + strconv.Itoa(b.Weight)
}

// Route binds a public host name and path to the services that serve it.
type Route struct {
	// Host is a name in lower-case A-labels without port and trailing dot, or
	// such a name below "*.", which stands for exactly one label.
	Host string
	// Path is "/" or "/a/b": the raw bytes of a request path, with its percent
	// encoding as it is sent. It covers itself and whatever lies below it by
	// whole segments, unless Exact; it ends in a slash only if it is "/" or
	// Exact.
	Path string
	// Exact says that Path covers itself alone.
	Exact bool
	// Backends are at least one, sorted by Ref, each Ref once.
	Backends []Backend
	// Check, if not nil, is a health check of these services' own ports. Nil
	// means that a server is as healthy as its node.
	Check *Check
	// Timeouts are the route's own; zero fields mean the edge's defaults.
	Timeouts Timeouts
	// Position is where the route was declared.
	Position Position
}

// Check is a health check of a service's port, made on each of its servers.
type Check struct {
	// Path is the path of an HTTP request, with a query if need be, which 2xx
	// and 3xx answer as healthy. Empty: to connect is enough.
	Path string
	// Host is the Host header of that request; empty means none in particular.
	Host string
	// Interval is the time between two checks, in whole milliseconds; 0 means
	// the edge's default.
	Interval time.Duration
	// Rise and Fall are how many answers in a row turn a server healthy and
	// unhealthy; 0 means the edge's default.
	Rise, Fall int
}

// Timeouts are limits on a route's connections, in whole milliseconds; 0
// means the edge's default.
type Timeouts struct {
	// Server is how long the service may stay silent while an answer is due.
	Server time.Duration
	// Tunnel is how long both sides of an upgraded connection, such as a
	// WebSocket, may stay silent.
	Tunnel time.Duration
}

// Position is a place in a declaration file.
type Position struct {
	File string // as it was given to Parse
	Line int    // from 1; 0 is unknown
}

// String returns "file:line", or what of it is known.
func (p Position) String() string {
	switch {
	case p.Line <= 0:
		return p.File
	case p.File == "":
		return "line " + strconv.Itoa(p.Line)
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Problem is one fault of a declaration. It is an error.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0 is unknown
	// Field is the path of the fault from the top of its document, for example
	// "routes[3].backends[0].port", counted from 0.
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error returns "file:line: field: message", without the parts that are
// unknown.
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

// Table is a set of valid routes in normal form. Only Parse, New and Merge make tables, so a
// program that has a Table need not check its routes again. The zero Table is empty. Several
// goroutines may use a Table at the same time.
type Table struct {
	routes []Route
}

// Routes returns the routes, sorted by host, then by path, then exact before prefix. Each such key
// occurs once. The caller must not change the slice or the values that it points to.
func (t Table) Routes() []Route { return t.routes }

// Refs returns every service port that the table names, sorted, each once.
func (t Table) Refs() []Ref {
	var refs []Ref
	for _, r := range t.routes {
		for _, b := range r.Backends {
			refs = append(refs, b.Ref)
		}
	}
	slices.SortFunc(refs, Ref.Compare)
	return slices.Compact(refs)
}

// Hosts returns every host of the table, sorted, each once.
func (t Table) Hosts() []string {
	var hosts []string
	for i, r := range t.routes {
		if i == 0 || r.Host != t.routes[i-1].Host {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}
