package haproxycfg

import (
	"net/netip"
	"time"
)

// Config is a whole HAProxy configuration. The zero Config renders, but
// HAProxy does not start without a frontend.
//
// A Config holds values only. Rendering reads it and never changes it, so one
// Config may be rendered by several goroutines at once.
type Config struct {
	Global   Global
	Defaults Defaults
	// Frontends and Backends are rendered in this order. Each name is used once
	// among all of them.
	Frontends []Frontend
	Backends  []Backend
	// Maps are the tables that Router values name.
	Maps []Map
}

// Global holds what concerns the whole process.
type Global struct {
	// MaxConn is the number of client connections at once. 0 means: as many as
	// Descriptors allows, and what HAProxy itself finds if that is 0 too.
	MaxConn int
	// Descriptors is the limit of open files that the process will run under
	// (ulimit -n, LimitNOFILE). HAProxy counts two for each connection, one
	// for each check and two for each agent check, and refuses to start when
	// the limit is below the sum. See [Config.MaxConn]. 0 means unknown.
	Descriptors int
	// Threads is the number of threads; 0 leaves it to HAProxy.
	Threads int
	// User and Group, by name, are what the process becomes once its sockets
	// are bound. Empty means that it stays what it is.
	User, Group string
	// StatsSocket is the path of the administration socket, at most 97 bytes.
	// It is created with mode 600 and level admin, and hands the listening
	// sockets to the next process at a reload. Empty means none.
	StatsSocket string
	// StateFile is the file from which servers take their weight and
	// administrative state at the start. Without it a reload sends traffic to
	// drained servers until their agents answer again. Something else writes
	// it: the output of "show servers state" just before the reload. Empty
	// means none.
	StateFile string
	// HardStopAfter bounds how long a process that was replaced or told to
	// stop may wait for its connections. 0 means for ever.
	HardStopAfter time.Duration
	// Grace is how long a process that was told to stop still accepts
	// connections, while its Monitor pages already fail. 0 means not at all.
	// HAProxy 2.5 or later.
	Grace time.Duration
	// CloseSpread spreads the closing of idle connections of a stopping
	// process over this time, so that its clients do not reconnect all at
	// once. 0 means at once. HAProxy 2.6 or later.
	CloseSpread time.Duration
	// Logs are where requests and events are logged; none means no log.
	Logs []Log
}

// Log is one destination of logs.
type Log struct {
	// Address is "stdout", "stderr", an IP address with an optional port, or
	// the path of a syslog socket.
	Address string
	// Format is "rfc3164", "rfc5424", "raw", "short", "timed", "priority" or
	// "local". Empty leaves it to HAProxy, which means "rfc3164".
	Format string
	// Facility is the syslog facility; empty means "local0".
	Facility string
	// Level is the least important level that is sent, such as "notice". Empty
	// means all of them.
	Level string
}

// Defaults holds what holds for every frontend and backend. The zero Defaults
// is a sensible one; each field says what its zero means.
type Defaults struct {
	Timeouts
	// Client is how long a client may stay silent when it is its turn; 0 means
	// 60s.
	Client time.Duration
	// ClientFin is how long a client may stay silent once one direction of its
	// connection is closed; 0 means 30s.
	ClientFin time.Duration
	// HTTPRequest is how long a client may take to send a whole request head;
	// 0 means 10s.
	HTTPRequest time.Duration
	// KeepAlive is how long a client's connection may stay without a request; 0
	// means 60s.
	KeepAlive time.Duration
	// Retries is how often a request is tried again, each time on another
	// server if there is one; 0 means 3, a negative number means never.
	Retries int
	// RetryOn names the failures after which a request is tried again. Nil
	// means [RetryConnFailure] and [RetryEmptyResponse].
	//
	// Whatever is listed here, only GET, HEAD and OPTIONS are ever sent twice.
	// A connection that could not be opened is retried for all methods, since
	// nothing was sent.
	RetryOn []RetryEvent
}

// RetryEvent is a failure after which HAProxy may try a request again.
type RetryEvent string

// The failures of the manual's "retry-on" that a proxy can judge by itself.
const (
	RetryConnFailure     RetryEvent = "conn-failure"     // the connection was not made
	RetryEmptyResponse   RetryEvent = "empty-response"   // it was closed before any answer
	RetryResponseTimeout RetryEvent = "response-timeout" // no answer within Timeouts.Server
	RetryJunkResponse    RetryEvent = "junk-response"    // the answer was not HTTP
	Retry502             RetryEvent = "502"
	Retry503             RetryEvent = "503"
	Retry504             RetryEvent = "504"
)

// Timeouts are limits on the side of the servers, in whole milliseconds. In a
// [Backend] a zero field means that of [Defaults].
type Timeouts struct {
	// Connect is how long the opening of a connection may take; 0 means 3s.
	Connect time.Duration
	// Queue is how long a request may wait for a free server; 0 means 5s.
	Queue time.Duration
	// Server is how long a server may stay silent when it is its turn; 0 means
	// 60s.
	Server time.Duration
	// Tunnel is how long both sides of an upgraded connection, such as a
	// WebSocket, may stay silent; 0 means 1h.
	Tunnel time.Duration
	// Check is how long a health check or an agent check may take after it is
	// connected; 0 means 2s.
	Check time.Duration
}

// Frontend accepts connections and says which backend serves a request.
type Frontend struct {
	// Name is made of letters, digits and "-_.:".
	Name string
	// Binds are the addresses that it listens on.
	Binds []Bind
	// MaxConn is the number of connections at once; 0 means that of the
	// process.
	MaxConn int
	// RedirectHTTPS, if not nil, sends every request with a Host to the same
	// URL over TLS instead of serving it.
	RedirectHTTPS *HTTPSRedirect
	// Forwarded says what servers are told of the client.
	Forwarded Forwarded
	// Monitor is a path that HAProxy answers itself on any host, with 200 and
	// from the moment that it is told to stop with 503. It hides the same path
	// of every route. Empty means none.
	Monitor string
	// Exporter is the path at which HAProxy shows its metrics to Prometheus,
	// on any host. Empty means none. HAProxy must be built with its exporter,
	// as the packages of distributions are.
	Exporter string
	// Router, if not nil, chooses a backend by host and path.
	Router *Router
	// DefaultBackend is the backend of a request that nothing else chose one
	// for. It is required unless the frontend has no Router.
	DefaultBackend string
}

// Bind is an address to listen on.
type Bind struct {
	// Address is "host:port" as package net has it, with an IP address or
	// nothing as the host, or "unix@/path". ":80" is every IPv4 address,
	// "[::]:80" every address.
	Address string
	// TLS, if not nil, ends TLS here.
	TLS *TLS
	// AcceptProxy expects a PROXY protocol header on each connection. Use it
	// only where nobody but a trusted balancer can connect.
	AcceptProxy bool
}

// TLS says how TLS is ended.
type TLS struct {
	// Certificates is a PEM file with certificate and key, or a directory of
	// such files; HAProxy chooses by server name.
	Certificates string
	// MinVersion is "TLSv1.2" or "TLSv1.3"; empty means "TLSv1.2".
	MinVersion string
	// ALPN are the protocols offered; nil means h2 and http/1.1.
	ALPN []string
	// StrictSNI refuses clients that name no host or one without certificate,
	// instead of showing them the first certificate.
	StrictSNI bool
}

// HTTPSRedirect is the answer to a request that came without TLS.
type HTTPSRedirect struct {
	// Port is the port of the TLS URL; 0 means 443.
	Port uint16
	// Code is 301, 302, 303, 307 or 308; 0 means 308, which keeps the method.
	Code int
}

// Forwarded says what servers are told of the client in X-Forwarded headers.
type Forwarded int

const (
	// ForwardedReplace sets X-Forwarded-For and X-Forwarded-Proto and removes
	// X-Forwarded-Host and Forwarded, whatever the client sent. It is right
	// where clients are strangers.
	ForwardedReplace Forwarded = iota
	// ForwardedAppend adds the client's address to the X-Forwarded-For that it
	// sent, and sets X-Forwarded-Proto only if it is absent. It is right only
	// where clients are trusted proxies.
	ForwardedAppend
	// ForwardedKeep leaves all of them alone.
	ForwardedKeep
)

// Router chooses a backend by host and path. Its fields name three maps of the
// same Config, which [Edge.Config] fills:
//
//   - Hosts: host, or "*." and a host for one label below it, to virtual host;
//   - Exact: virtual host and whole path to backend;
//   - Prefix: virtual host, path and a final slash to backend; the longest wins.
//
// The host is compared in lower case, without port and one trailing dot. A
// declared host never falls through to a wildcard, not even for a path that it
// does not have. Paths are compared byte for byte as they were sent: "//", "%61" and
// "/x/../" stay what they are. The query is no part of the path.
type Router struct {
	Hosts, Exact, Prefix string
}

// Backend is a set of servers, or one fixed answer.
type Backend struct {
	// Name is made of letters, digits and "-_.:".
	Name string
	// Balance is how a server is chosen; empty means [RoundRobin].
	Balance Balance
	// Health says how the servers with Check are checked.
	Health Health
	// AgentInterval is the time between two agent checks of a server; 0 means
	// 2s.
	AgentInterval time.Duration
	// Timeouts are the backend's own.
	Timeouts Timeouts
	// Servers may be empty: then every request is answered 503.
	Servers []Server
	// Response, if not nil, answers every request. There are no servers then.
	Response *FixedResponse
}

// Balance is an algorithm that chooses servers.
//
// Only algorithms that honour every weight at run time are offered, since
// agents shift weights: "static-rr" knows only 0% and 100%, and so do "source"
// and "uri" by themselves, wherefore they are rendered with consistent hashing.
//
// Random, Source and URI are for some thousand servers in all: HAProxy keeps them
// in trees with 16 entries for each unit of weight. Measured with 2.6, 1,000 servers
// of weight 100 take 75 MB and more than a second at every start and reload, 4,000
// in one backend 310 MB and 9 seconds. RoundRobin and LeastConn take next to nothing.
type Balance string

// The algorithms.
const (
	RoundRobin Balance = "roundrobin" // in turns; exact shares, at most 4,095 servers
	LeastConn  Balance = "leastconn"  // fewest connections, for long-lived ones
	Random     Balance = "random"     // the less loaded of two random ones, for many edges side by side
	Source     Balance = "source"     // by the client's address, by consistent hashing
	URI        Balance = "uri"        // by the path, by consistent hashing
)

// Health says how servers are checked. Its zero value connects every two
// seconds.
type Health struct {
	// Path, which may have a query, is requested with GET, and 2xx and 3xx mean
	// healthy. Empty: to connect is enough.
	Path string
	// Host is the Host header of that request; empty means none, by HTTP/1.0.
	Host string
	// Interval is the time between two checks; 0 means 2s.
	Interval time.Duration
	// FastInterval is the same while the state is in doubt; 0 means Interval.
	FastInterval time.Duration
	// Rise and Fall are how many answers in a row turn a server healthy and
	// unhealthy; 0 means 2 and 3.
	Rise, Fall int
}

// Server is one server of a backend. It has no name of its own: see
// [Server.Name].
type Server struct {
	// Addr is where requests, and health checks, go.
	Addr netip.AddrPort
	// Weight is the server's initial weight, 1 to 256, of which an agent
	// takes percents. 0 means [DefaultWeight]; [NoTraffic] means that it gets
	// no requests whatever its agent says.
	Weight int
	// Check checks the server as the backend's Health says.
	Check bool
	// Track, if not empty, takes health, drain and maintenance over from
	// another server that is checked, named "backend/server" with
	// [Server.Name]. It excludes Check.
	Track string
	// AgentPort is the port at the same address that is asked for weight and
	// state; 0 means none.
	AgentPort uint16
	// AgentSend is sent to the agent first, with a line end; empty means nothing.
	AgentSend string
}

const (
	// DefaultWeight is the weight of a server that is given none. It leaves an
	// agent room for percents from 1 to 256.
	DefaultWeight = 100
	// NoTraffic as a weight is HAProxy's weight 0.
	NoTraffic = -1
)

// FixedResponse is a response that HAProxy gives without a server.
type FixedResponse struct {
	Status      int    // 200 to 599
	ContentType string // of Body; empty means "text/plain"
	Body        string // one line, to which no line end is added; empty means no body
}

// Map is a table that HAProxy reads from a file of its own.
type Map struct {
	// Name is made of letters, digits and "-_.".
	Name string
	// Entries may stand in any order; each Key is used once.
	Entries []MapEntry
}

// MapEntry is a line of a map. Neither string is empty, holds white space or
// control characters, or is longer than 2,000 bytes, and Key does not begin
// with "#".
type MapEntry struct {
	Key, Value string
}

// RenderedFile is a file of a rendered configuration.
type RenderedFile struct {
	// Name is a slash-separated path relative to the configuration directory:
	// "haproxy.cfg", or "maps/NAME-HASH.map" with a hash of Data.
	Name string
	Data []byte
}
