package routes

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// DefaultWeight is the weight of a backend in a file that declares no weight.
const DefaultWeight = 100

// Ref names one port of one service in one cluster. It is comparable, so it may be the key of a
// map.
type Ref struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// Port is the name of a service port, or its number in decimal digits ("8080"). It is not a
	// node port.
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
	// Weight is the service's share of the route's traffic, relative to the weights of the route's
	// other backends: 0 to 256. 0 means no new requests. In a Go value DefaultWeight does not
	// apply: 0 is 0.
	Weight int `json:"weight"`
}

// String returns the reference and the weight, for example "eu-1/media/tracks:http weight 50".
func (b Backend) String() string {
	return b.Ref.String() + " weight " + strconv.Itoa(b.Weight)
}

// Route binds a public host name and path to the services that serve it. The comments describe a
// route of a Table. New accepts other spellings and returns this form.
type Route struct {
	// Host is a name in lower case with A-labels, without a port and without a final dot. A
	// wildcard such as "*.example.com" covers every name that has exactly one label more.
	Host string
	// Path holds the bytes of a request's path as a client sends them, with percent-encoding: "/"
	// or "/a/b". It covers itself and all paths below it by whole segments, unless Exact is set.
	// Only "/" and an exact path end in a slash.
	Path string
	// Exact means that Path covers only itself.
	Exact bool
	// Backends are one or more services, sorted by Ref. Each Ref occurs once.
	Backends []Backend
	// Check is a health check of the port of these services. If Check is nil, HAProxy checks only
	// the node of a server.
	Check *Check
	// Timeouts override the defaults of the edge.
	Timeouts Timeouts
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

// Check is a health check of a service's port. HAProxy makes it on each server of the service.
type Check struct {
	// Path is the path of an HTTP request, which may have a query. An answer of 2xx or 3xx means
	// healthy. If Path is empty, a TCP connection means healthy.
	Path string
	// Host is the Host header of that request. If Host is empty, the request is HTTP/1.0 without
	// a Host header.
	Host string
	// Interval is the time between two checks, in whole milliseconds; 0 means the default of the
	// edge.
	Interval time.Duration
	// Rise and Fall are the counts of equal results in a row that make a server healthy and
	// unhealthy. 0 means the default of the edge.
	Rise, Fall int
}

// Timeouts are limits on the connections of a route, in whole milliseconds. 0 means the default of
// the edge.
type Timeouts struct {
	// Server is the longest silence of the service while it owes an answer.
	Server time.Duration
	// Tunnel is the longest silence of both sides of an upgraded connection, such as a WebSocket.
	Tunnel time.Duration
}

// Position is a place in a declaration file.
type Position struct {
	File string // the name that Parse received
	Line int    // from 1; 0 means unknown
}

// String returns "file:line", or the part that is known.
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

// Problem is one fault of a declaration. It is an error.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0 means unknown
	// Field is the path of the faulty field from the top of its document, with indices from 0, for
	// example "routes[3].backends[0].port".
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error returns "file:line: field: message" without the unknown parts.
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

// join appends a field to the path of the field that contains it.
func join(path, field string) string {
	if path == "" || field == "" || strings.HasPrefix(field, "[") {
		return path + field
	}
	return path + "." + field
}
