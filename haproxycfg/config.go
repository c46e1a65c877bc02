package haproxycfg

import (
	"net/netip"
	"time"
)

// Config is a whole HAProxy configuration. The zero Config renders, but HAProxy does not start
// without a frontend.
//
// A Config holds values only. Render does not change it, so several goroutines may render one
// Config at once.
type Config struct {
	Global   Global
	Defaults Defaults
	// Frontends and Backends are rendered in this order. No two of them have the same name.
	Frontends []Frontend
	Backends  []Backend
	// Maps are the tables that Router values name.
	Maps []Map
}

// Global holds the settings of the process.
type Global struct {
	// MaxConn is the largest number of client connections at once. 0 means the number that
	// Descriptors allows, and if that is 0 too, HAProxy's own choice.
	MaxConn int
	// Descriptors is the limit of open files under which the process will run (ulimit -n,
	// LimitNOFILE). HAProxy counts two for each connection, one for each check and two for each
	// agent check, and refuses to start if the limit is below the sum. See [Config.MaxConn]. 0
	// means unknown.
	Descriptors int
	// Threads is the number of threads; 0 means HAProxy's own choice.
	Threads int
	// User and Group are the names to which the process switches after it has bound its sockets.
	// Empty means no switch.
	User, Group string
	// StatsSocket is the path of the administration socket, at most 97 bytes. HAProxy creates it
	// with mode 600 and level admin. At a reload the next process gets its listening sockets from
	// it. Empty means none.
	StatsSocket string
	// StateFile is the file from which servers get their weight and administrative state when
	// HAProxy starts. Another program writes it: the output of "show servers state" just before a
	// reload. Without it, drained servers get traffic after a reload until their agents answer
	// again. Empty means none.
	StateFile string
	// HardStopAfter bounds the time that a replaced or stopping process waits for its
	// connections; 0 means for ever.
	HardStopAfter time.Duration
	// Grace is the time for which a stopping process still accepts connections while its Monitor
	// pages already fail; 0 means none. HAProxy 2.5 or later.
	Grace time.Duration
	// CloseSpread is the time over which a stopping process closes its idle connections, so that
	// clients do not all reconnect at once; 0 means immediately. HAProxy 2.6 or later.
	CloseSpread time.Duration
	// Logs are the destinations of logs of requests and events. None means no log.
	Logs []Log
}

// Log is a destination of logs.
type Log struct {
	// Address is "stdout", "stderr", an IP address with an optional port, or the path of a
	// syslog socket.
	Address string
	// Format is "rfc3164", "rfc5424", "raw", "short", "timed", "priority", "local" or "iso".
	// Empty means HAProxy's default, "rfc3164".
	Format string
	// Facility is the syslog facility; empty means "local0".
	Facility string
	// Level is the least important level that is sent, such as "notice". Empty means all.
	Level string
}

// Defaults holds the settings that apply to each frontend and backend. The zero Defaults is ready
// for use.
type Defaults struct {
	Timeouts
	// Client is the longest time that HAProxy waits for data from a client; 0 means 60s.
	Client time.Duration
	// ClientFin replaces Client after one direction of the connection is closed; 0 means 30s.
	ClientFin time.Duration
	// HTTPRequest is the longest time in which a client sends a whole request head; 0 means 10s.
	HTTPRequest time.Duration
	// KeepAlive is the longest time that a client's connection waits for the next request; 0
	// means 60s.
	KeepAlive time.Duration
	// Retries is the number of further attempts of a request, each on another server if there
	// is one; 0 means 3, a negative number means none.
	Retries int
	// RetryOn are the failures after which HAProxy tries a request again. Nil means
	// [RetryConnFailure] and [RetryEmptyResponse].
	//
	// HAProxy sends only GET, HEAD and OPTIONS twice, with any RetryOn. If it could not connect,
	// it tries again for all methods, because it has sent nothing.
	RetryOn []RetryEvent
}

// RetryEvent is a failure after which HAProxy can try a request again.
type RetryEvent string

// These are failures of the server (manual, "retry-on"). HAProxy has further values, for responses
// that a service may intend, such as 404. They are left out.
const (
	RetryConnFailure     RetryEvent = "conn-failure"     // HAProxy could not connect
	RetryEmptyResponse   RetryEvent = "empty-response"   // the server closed before any response
	RetryResponseTimeout RetryEvent = "response-timeout" // no response within Timeouts.Server
	RetryJunkResponse    RetryEvent = "junk-response"    // the response was not HTTP
	Retry502             RetryEvent = "502"
	Retry503             RetryEvent = "503"
	Retry504             RetryEvent = "504"
)

// Timeouts are limits on the side of the servers, in whole milliseconds. In a [Backend], 0 means
// the value of [Defaults].
type Timeouts struct {
	// Connect bounds the opening of a connection; 0 means 3s.
	Connect time.Duration
	// Queue bounds the time that a request waits for a free server; 0 means 5s.
	Queue time.Duration
	// Server is the longest time that HAProxy waits for data from a server; 0 means 60s.
	Server time.Duration
	// Tunnel is the longest time without data in both directions of an upgraded connection, such
	// as a WebSocket; 0 means 1h.
	Tunnel time.Duration
	// Check bounds a health check or agent check after it has connected; 0 means 2s.
	Check time.Duration
}

// Frontend accepts connections and chooses a backend for each request.
type Frontend struct {
	// Name consists of letters, digits and "-_.:".
	Name string
	// Binds are the addresses that the frontend listens on.
	Binds []Bind
	// MaxConn is the largest number of connections at once; 0 means the limit of the process.
	MaxConn int
	// RedirectHTTPS, if not nil, answers each request that has a Host with a redirect to the same
	// URL over TLS.
	RedirectHTTPS *HTTPSRedirect
	// Forwarded says which headers tell the servers about the client.
	Forwarded Forwarded
	// Monitor is a path that HAProxy answers itself, on any host: with 200, and with 503 once the
	// process is stopping. It hides the same path of every route. Empty means none.
	Monitor string
	// Exporter is the path of HAProxy's metrics for Prometheus, on any host. HAProxy must be
	// built with its exporter; the packages of distributions are. Empty means none.
	Exporter string
	// Router, if not nil, chooses a backend by host and path.
	Router *Router
	// DefaultBackend is the name of the backend for all other requests. A frontend with a Router
	// needs one.
	DefaultBackend string
}

// Bind is an address to listen on.
type Bind struct {
	// Address is "host:port", with an IP address or nothing as the host, or "unix@/path". ":80"
	// listens on all IPv4 addresses, "[::]:80" on all addresses.
	Address string
	// TLS, if not nil, makes HAProxy end TLS here.
	TLS *TLS
	// AcceptProxy expects a PROXY protocol header on each connection. Use it only where nobody
	// except a trusted balancer can connect.
	AcceptProxy bool
}

// TLS says how HAProxy ends TLS.
type TLS struct {
	// Certificates is a PEM file with a certificate and its key, or a directory of such files.
	// HAProxy chooses by server name.
	Certificates string
	// MinVersion is "TLSv1.2" or "TLSv1.3"; empty means "TLSv1.2".
	MinVersion string
	// ALPN are the protocols to offer; nil means h2 and http/1.1.
	ALPN []string
	// StrictSNI refuses clients that send no server name or one without a certificate. Without
	// it they get the first certificate.
	StrictSNI bool
}

// HTTPSRedirect is the response to a request without TLS.
type HTTPSRedirect struct {
	// Port is the port of the TLS URL; 0 means 443.
	Port uint16
	// Code is 301, 302, 303, 307 or 308; 0 means 308, which keeps the method.
	Code int
}

// Forwarded says which X-Forwarded headers tell the servers about the client.
type Forwarded int

const (
	// ForwardedReplace sets X-Forwarded-For and X-Forwarded-Proto, and removes X-Forwarded-Host
	// and Forwarded. Use it if clients are strangers.
	ForwardedReplace Forwarded = iota
	// ForwardedAppend adds the client's address to the X-Forwarded-For that the client sent, and
	// sets X-Forwarded-Proto only if the client did not. Use it only if clients are trusted
	// proxies.
	ForwardedAppend
	// ForwardedKeep changes none of these headers.
	ForwardedKeep
)

// Router chooses a backend by host and path. Its fields name three maps of the same Config. Package
// edge makes such maps:
//
//   - Hosts: host, or "*." and a host for one label below it, to virtual host;
//   - Exact: virtual host and whole path to backend;
//   - Prefix: virtual host, path and a final slash to backend; the longest prefix wins.
//
// HAProxy compares the host in lower case, without port and without one trailing dot. A request for
// a declared host never uses the backends of a wildcard, even if the host lacks the path. Paths are
// compared byte for byte as the client sent them: "//", "%61" and "/x/../" stay as they are. The
// query is not part of the path.
type Router struct {
	Hosts, Exact, Prefix string
}

// Backend is a set of servers, or a fixed response.
type Backend struct {
	// Name consists of letters, digits and "-_.:".
	Name string
	// Balance chooses a server for each request; empty means [RoundRobin].
	Balance Balance
	// Health says how HAProxy checks the servers with Check.
	Health Health
	// AgentInterval is the time between two agent checks of a server; 0 means 2s.
	AgentInterval time.Duration
	// Timeouts are the limits of this backend.
	Timeouts Timeouts
	// Servers may be empty: then HAProxy answers each request with 503.
	Servers []Server
	// Response, if not nil, answers each request. There are no servers then.
	Response *FixedResponse
}

// Balance is an algorithm that chooses servers.
//
// Agents change weights at run time, so only algorithms that then honour every weight are offered.
// "static-rr" honours only 0% and 100%. So do "source" and "uri" by themselves; they are rendered
// with consistent hashing.
//
// Random, Source and URI suit some thousand servers in total, because HAProxy keeps 16 tree entries
// for each unit of weight. Measured with HAProxy 2.6: 1,000 servers of weight 100 need 75 MB and
// more than a second at each start and reload; 4,000 in one backend need 310 MB and 9 seconds.
// RoundRobin and LeastConn need next to nothing.
type Balance string

// The algorithms.
const (
	RoundRobin Balance = "roundrobin" // in turn, with exact shares; at most 4,095 servers
	LeastConn  Balance = "leastconn"  // the fewest connections, for long-lived ones
	Random     Balance = "random"     // the less loaded of two random servers, for several HAProxies
	Source     Balance = "source"     // by the client's address, with consistent hashing
	URI        Balance = "uri"        // by the path, with consistent hashing
)

// Health says how HAProxy checks servers. With the zero Health, HAProxy connects to each server
// every two seconds.
type Health struct {
	// Path is the target of a GET request, optionally with a query. Responses 2xx and 3xx mean
	// healthy. Empty means that a connection suffices.
	Path string
	// Host is the Host header of that request; empty means none, with HTTP/1.0.
	Host string
	// Interval is the time between two checks; 0 means 2s.
	Interval time.Duration
	// FastInterval replaces Interval while the state is in doubt; 0 means Interval.
	FastInterval time.Duration
	// Rise is the number of good results in a row after which a server is healthy; 0 means 2. Fall
	// is the number of bad results in a row after which it is unhealthy; 0 means 3.
	Rise, Fall int
}

// Server is a server of a backend. [Server.Name] derives its name.
type Server struct {
	// Addr is the destination of requests and health checks.
	Addr netip.AddrPort
	// Weight is the initial weight, 1 to 256. The answer of an agent is a percentage of it. 0
	// means [DefaultWeight]. [NoTraffic] means no requests, and an agent cannot change that.
	Weight int
	// Check makes HAProxy check the server as the backend's Health says.
	Check bool
	// Track, if not empty, is another server, "backend/server" with the name of [Server.Name]. It
	// must be checked. This server then has its health, drain and maintenance state, and must not
	// have Check.
	Track string
	// AgentPort is the port of the server's agent, at the same address, which answers with weight
	// and state; 0 means none.
	AgentPort uint16
	// AgentSend is a line that HAProxy sends to the agent first; empty means nothing.
	AgentSend string
}

const (
	// DefaultWeight is the weight of a server with Weight 0. Agents can answer with 1% to 256%
	// of it.
	DefaultWeight = 100
	// NoTraffic is a Server.Weight that is rendered as HAProxy's weight 0.
	NoTraffic = -1
)

// FixedResponse is a response that HAProxy gives without a server.
type FixedResponse struct {
	Status      int    // 200 to 599
	ContentType string // of Body; empty means "text/plain"
	Body        string // one line, sent without a line end; empty means no body
}

// Map is a table that HAProxy reads from a file of its own.
type Map struct {
	// Name consists of letters, digits and "-_.".
	Name string
	// Entries are in any order, with each Key once.
	Entries []MapEntry
}

// MapEntry is a line of a map. Both strings have 1 to 2,000 bytes, without white space and control
// characters. Key does not begin with "#".
type MapEntry struct {
	Key, Value string
}

// RenderedFile is a file of a rendered configuration.
type RenderedFile struct {
	// Name is a slash-separated path relative to the configuration directory: "haproxy.cfg", or
	// "maps/NAME-HASH.map" with a hash of Data.
	Name string
	Data []byte
}
