package haproxycfg

import (
	"net/netip"
	"time"
)

// Config is a whole HAProxy configuration. Without a frontend, HAProxy does not start. Several
// goroutines may render the same Config.
type Config struct {
	Global   Global
	Defaults Defaults
	// Frontends and Backends are in the order in which Render writes them. No two frontends or
	// backends have the same name, and no frontend has the name of a backend.
	Frontends []Frontend
	Backends  []Backend
	// Maps are the tables to which the fields of a Router refer by name.
	Maps []Map
	// CertificateLists are the lists of certificates for the binds. The field List of a bind's TLS
	// contains the name of one of them.
	CertificateLists []CertificateList
	// Fragment, if not empty, makes the Config a fragment: HAProxy loads files of somebody else
	// first, and then the haproxy.cfg of this Config, for example with the options
	// "-f /etc/haproxy/haproxy.cfg -f /var/lib/headgate/haproxy.cfg". The value is a prefix, such as
	// "headgate-", that no name in the other files has. The names of all frontends and backends must
	// begin with it.
	//
	// A fragment has no section "global": [Config.Requirements] returns what the section "global" of
	// the other files must contain. A fragment has a section "defaults" with a name, so its frontends
	// and backends do not depend on the "defaults" of the other files. HAProxy must load the fragment
	// last: otherwise sections in a later file would get the defaults of the fragment.
	Fragment string
}

// Global contains the settings of the process.
type Global struct {
	// Version is the oldest version of HAProxy that must accept the files; zero means 2.6. With 3.2
	// or later, HAProxy removes the trailers of requests to HTTP/1.1 servers: some servers read
	// trailers as headers, and no rule about headers applies to trailers.
	Version Version
	// MaxConn is the largest number of client connections that HAProxy keeps open at the same time.
	// 0 means the number that Descriptors allows. If Descriptors is 0 too, HAProxy chooses the
	// number.
	MaxConn int
	// Descriptors is the limit of open files of the HAProxy process (ulimit -n, LimitNOFILE); 0
	// means unknown. [Config.MaxConn] computes the limit of connections from it. HAProxy refuses to
	// start if the limit is below its need: two for each connection, one for each health check and
	// two for each agent check.
	Descriptors int
	// Threads is the number of threads; 0 means HAProxy's own choice.
	Threads int
	// User and Group are the names to which the process switches after it has bound its sockets. If
	// one is empty, the process keeps its user or group.
	User, Group string
	// StatsSocket is the path of the administration socket, at most 97 bytes; empty means no
	// socket. HAProxy creates it with mode 600 and level admin. In a reload, the new process
	// receives the listening sockets of the old process through this socket.
	StatsSocket string
	// StateFile is the file from which HAProxy restores the weight and administrative state of
	// servers when it starts; empty means no file. Another program must save "show servers state"
	// to it just before a reload. Without StateFile, a drained server receives traffic after a
	// reload until its agent answers again.
	StateFile string
	// HardStopAfter is the longest time that a replaced or stopping process waits for its
	// connections to end; 0 means no limit.
	HardStopAfter time.Duration
	// MaxReloads is the number of reloads after which the master ends an old worker, even with open
	// connections; 0 means no limit. A worker with one long connection reaches any small limit.
	// HAProxy 3.3 and later have a default of 50, so Render writes a very large limit for 0.
	MaxReloads int
	// Grace is the time for which a stopping process still accepts connections. During this time,
	// the Monitor pages already answer 503. 0 means that a stopping process accepts no connections.
	Grace time.Duration
	// CloseSpread is the time over which a stopping process closes its idle connections, so that
	// clients do not all reconnect at the same moment; 0 means that it closes all of them at once.
	CloseSpread time.Duration
	// BufferSize is the size of a buffer in bytes ("tune.bufsize"), 16,384 to 1,048,576; 0 means
	// 16,384. The head of a request must fit into a buffer, with about 1,024 bytes to spare. A
	// connection needs up to two buffers.
	BufferSize int
	// MaxHeaders is the largest number of headers of a request or response ("tune.http.maxhdr"),
	// 1 to 32,767. 0 means HAProxy's default, 101.
	MaxHeaders int
	// HTTP2Requests is the number of requests after which HAProxy ends a client's HTTP/2 connection
	// with GOAWAY ("tune.h2.fe.max-total-streams"); 0 means never. Most clients repeat the requests
	// that they sent at that moment, but a net/http client fails if it cannot send the body a
	// second time (Request.GetBody). Render ignores HTTP2Requests for HAProxy before 3.0, which
	// does not have the setting.
	HTTP2Requests int
	// Observe makes HAProxy only count and log the requests that it would otherwise refuse or
	// change for one of the reasons in [Refusal]; see [ObservedCommand]. Even with Observe, HAProxy
	// removes the headers HTTP2-Settings, and Upgrade with h2c or h2. With [ForwardedReplace], it
	// also removes Forwarded, X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto.
	Observe bool
	// Logs are the destinations to which HAProxy sends logs of requests and events. Nil means no
	// log.
	Logs []Log
	// Variables are numbers that a controller can change at run time. Zones, RetryBudget, Frontend
	// and Backend have fields that contain the name of a Variable.
	Variables []Variable
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
	// Level is the least severe level that HAProxy sends, such as "notice". Empty means all levels.
	Level string
}

// Defaults contains the settings for all frontends and backends. Each zero field means a default.
type Defaults struct {
	Timeouts
	// Client is the longest time that HAProxy waits for data from a client; 0 means 60s.
	Client time.Duration
	// ClientFin is the longest time that HAProxy waits for data from a client after one side has
	// closed its direction of the connection; ClientFin then applies instead of Client. 0 means
	// 30s.
	ClientFin time.Duration
	// HTTPRequest is the longest time that a client may need to send the request line and all
	// headers of a request; 0 means 10s.
	HTTPRequest time.Duration
	// KeepAlive is the longest time that a client's connection waits for the next request; 0 means
	// 60s. After a reload, the old process answers one more request on each idle connection, with
	// "Connection: close".
	KeepAlive time.Duration
	// Retries is the number of further attempts after a request has failed. 0 means 3 further
	// attempts, and a negative number means no further attempt. HAProxy makes each further attempt
	// on another server if there is one.
	Retries int
	// RetryOn lists the failures after which HAProxy tries a request again. Nil means
	// [RetryConnFailure] and [RetryEmptyResponse]. After a failed connection, HAProxy retries any
	// method, and after other failures only GET, HEAD and OPTIONS.
	RetryOn []RetryEvent
}

// RetryEvent is a failure after which HAProxy can try a request again.
type RetryEvent string

// The constants are the failures of a server after which HAProxy can try a request again (manual,
// "retry-on"). HAProxy's "retry-on" has other values too, such as the status 404. They have no
// constant, because a service may send such a response on purpose.
const (
	RetryConnFailure     RetryEvent = "conn-failure"     // HAProxy could not connect
	RetryEmptyResponse   RetryEvent = "empty-response"   // the server closed before any response
	RetryResponseTimeout RetryEvent = "response-timeout" // no response within Timeouts.Server
	RetryJunkResponse    RetryEvent = "junk-response"    // the response was not HTTP
	Retry502             RetryEvent = "502"
	Retry503             RetryEvent = "503"
	Retry504             RetryEvent = "504"
)

// Timeouts are time limits for connections to servers, in whole milliseconds. In a [Backend], 0
// means the value of [Defaults].
type Timeouts struct {
	// Connect is the longest time that the opening of a connection may take; 0 means 3s.
	Connect time.Duration
	// Queue is the longest time that a request waits for a server while each server of its backend
	// already has as many requests as its limit allows; 0 means 5s.
	Queue time.Duration
	// Server is the longest time that HAProxy waits for data from a server; 0 means 60s.
	Server time.Duration
	// Tunnel is the longest time for which no data flows in either direction of an upgraded
	// connection, such as a WebSocket; 0 means 1h.
	Tunnel time.Duration
	// Check is the longest time that HAProxy waits for the answer to a health check or agent check
	// after it has connected; 0 means 2s.
	Check time.Duration
}

// Frontend accepts connections and chooses a backend for each request.
//
// HAProxy removes each header whose name contains a character other than letters, digits and "-",
// because CGI programs read X_Forwarded_For as X-Forwarded-For. Clients can upgrade a connection
// only to a WebSocket. HAProxy removes the client's header Connection.
type Frontend struct {
	// Name consists of letters, digits and "-_.:".
	Name string
	// Binds are the addresses that the frontend listens on.
	Binds []Bind
	// MaxConn is the largest number of connections of this frontend at the same time; 0 means the
	// limit of the process.
	MaxConn int
	// RedirectHTTPS, if not nil, redirects each request without TLS to the same URL over TLS, if
	// its host is in the map Hosts of Router.
	//
	// With "X-Forwarded-Proto: https", a proxy in front has ended TLS, and a redirect would loop.
	// HAProxy serves such a request if it is from TrustedProxies, and otherwise answers 421.
	RedirectHTTPS *HTTPSRedirect
	// Forwarded chooses the X-Forwarded headers that tell servers the address and scheme of the
	// client.
	Forwarded Forwarded
	// TrustedProxies are the networks of the proxies in front of HAProxy. HAProxy believes
	// X-Forwarded-For and X-Forwarded-Proto only from these networks; see RedirectHTTPS and
	// [ForwardedReplace]. On a bind with AcceptProxy, the address in the PROXY header counts. A
	// connection over a Unix socket is never trusted, because it has no address.
	TrustedProxies []netip.Prefix
	// Monitor is a path that HAProxy answers itself, for every host: with 200, or with 503 while
	// the process is stopping. Empty means no such path.
	Monitor string
	// MonitorBackends are names of backends. While none of these backends has a server that is up,
	// the page of Monitor answers 503. Empty means that the page does not depend on servers.
	MonitorBackends []string
	// Exporter is the path of the URLs at which HAProxy serves its metrics for Prometheus, whatever
	// the host of the request is. HAProxy must have been built with the Prometheus exporter, as the
	// packages of distributions are. Empty means no such path.
	Exporter string
	// ExporterNoMaint makes the Exporter leave out the servers in maintenance, except in the answer
	// to a request whose URL has a query.
	ExporterNoMaint bool
	// NoLog leaves the requests of this frontend out of the logs. HAProxy still logs requests that it
	// cannot parse.
	NoLog bool
	// RequestID makes HAProxy pass on the header X-Request-ID of a request. If the header is
	// missing, longer than 128 bytes, or contains characters other than letters, digits and
	// "-._:/+=", HAProxy sets it to a UUID. With RequestID, the log line of a request ends with
	// "id=ID server=ADDRESS:PORT".
	RequestID bool
	// Trace, if not nil, makes HAProxy pass on or create the header traceparent.
	Trace *Trace
	// KeepHeaderNames makes HAProxy pass on a header even if its name contains characters other
	// than letters, digits and "-". Without KeepHeaderNames, HAProxy removes such a header, because
	// CGI, WSGI and PHP read X_Forwarded_For as X-Forwarded-For. So set KeepHeaderNames only if you
	// trust all clients, or if no server reads header names in this way.
	KeepHeaderNames bool
	// CloseOneIn makes HAProxy close the client's connection after one of CloseOneIn answers,
	// chosen at random; 0 means never. The client then connects again, perhaps to another HAProxy
	// behind the same balancer. HTTP/2 connections stay: see Global.HTTP2Requests.
	CloseOneIn int
	// CloseStopping makes a stopping HAProxy close each client's connection after the next answer.
	// Without CloseStopping, clients can use their connections until the end of Global.Grace.
	CloseStopping bool
	// DrainSwitch names a variable; empty means none. While its value is not 0, HAProxy drains: the
	// Monitor page answers 503, and HAProxy closes each client's connection after the next answer.
	// It still serves every request. Unlike a stopping HAProxy, it returns to service when the
	// value is 0 again.
	DrainSwitch string
	// Limits bound the requests of the frontend. If they are set, the backends of the frontend must
	// not have Limits.
	Limits Limits
	// RetryBudget limits how often HAProxy repeats failed requests. nil means no limit.
	RetryBudget *RetryBudget
	// Zones, if not nil, sends a share of the requests to servers of other zones. A frontend has at
	// most one of Router and Zones.
	Zones *Zones
	// Close names a map of the same Config; empty means none. HAProxy closes the client's
	// connection after some of the responses, chosen at random. The value of the key "all" is the
	// share of these responses, in points: 10,000 points are all responses. WebSockets stay. HTTP/2
	// connections stay too, because HAProxy 2.6 to 3.4 send no GOAWAY for "Connection: close".
	Close string
	// Router, if not nil, chooses a backend by host and path.
	Router *Router
	// DefaultBackend is the name of a backend. It gets the requests for which Router finds no
	// backend. A frontend with a Router must have a DefaultBackend.
	DefaultBackend string
}

// Bind is an address on which HAProxy listens. Without TLS, clients can use HTTP/1.1, and also
// HTTP/2 if they begin the connection with HTTP/2 (prior knowledge), as gRPC clients without TLS
// do.
type Bind struct {
	// Address is "host:port" or "unix@/path". The host is an IP address or empty. ":80" listens on
	// all IPv4 addresses, "[::]:80" on all IPv4 and IPv6 addresses.
	Address string
	// IPv6 makes an Address without a host listen on all IPv6 addresses as well. HAProxy then does
	// not start on a machine without support for IPv6. The socket for IPv6 is separate, so that
	// 192.0.2.1 does not become ::ffff:192.0.2.1, as with Address "[::]:80".
	IPv6 bool
	// TLS, if not nil, makes HAProxy accept TLS connections on this Bind, and decrypt them.
	TLS *TLS
	// AcceptProxy makes HAProxy require a PROXY protocol header on each connection. HAProxy
	// believes the client's address in this header. So set AcceptProxy only if nobody except a
	// trusted balancer can connect.
	AcceptProxy bool
}

// TLS says how HAProxy ends TLS.
type TLS struct {
	// Certificates is a PEM file with a certificate and its key, or a directory of such files.
	// HAProxy chooses the certificate by the server name that the client sends. HAProxy rejects the
	// whole configuration if one of the files is faulty.
	Certificates string
	// List is the name of a CertificateList of the same Config. Set either Certificates or List.
	List string
	// MinVersion is "TLSv1.2" or "TLSv1.3"; empty means "TLSv1.2".
	MinVersion string
	// ALPN lists the protocols that HAProxy offers; nil means h2 and http/1.1.
	ALPN []string
	// StrictSNI makes HAProxy refuse a client that sends no server name, or a name that no
	// certificate covers. Without StrictSNI, HAProxy uses the first certificate for such a client.
	// A CertificateList without certificates needs StrictSNI. With Global.Observe and certificates
	// in the list, HAProxy only counts such requests as [RefusedServerName].
	StrictSNI bool
}

// HTTPSRedirect is the response to a request without TLS.
type HTTPSRedirect struct {
	// Port is the port of the TLS URL; 0 means 443.
	Port uint16
	// Code is the status: 301, 302, 303, 307 or 308. 0 means 308. After a 308, clients repeat the
	// request with the same method.
	Code int
}

// Forwarded chooses what HAProxy does with the X-Forwarded headers of a request.
type Forwarded int

const (
	// ForwardedReplace sets X-Forwarded-For and X-Forwarded-Proto, and removes all other headers
	// that describe the client or the original request, such as Forwarded, X-Real-IP and
	// X-Original-URL. Use it if you do not trust the clients.
	//
	// For a request from TrustedProxies, it adds the address of the proxy to X-Forwarded-For, and
	// keeps the proxy's X-Forwarded-Proto.
	ForwardedReplace Forwarded = iota
	// ForwardedAppend adds the client's address to the client's X-Forwarded-For, and keeps the
	// client's X-Forwarded-Proto. It ignores TrustedProxies. Use it only if all clients are trusted
	// proxies.
	ForwardedAppend
	// ForwardedKeep changes none of these headers.
	ForwardedKeep
)

// Router chooses a backend by host and path. Its fields are the names of maps of the same Config,
// which package edge makes. A virtual host is a name for one or more hosts with the same backends.
//
//   - Hosts: from host to virtual host; the key "*.example.com" matches one label below
//     example.com;
//   - Exact: from virtual host and whole path to backend;
//   - Prefix: from virtual host, path and a final slash to backend; the longest prefix wins;
//   - Shift, ShiftParts: see the comment of these fields. Empty means no such map;
//   - Prefer, Regions, RegionValues: see the comment of these fields. Empty means no such map;
//   - ClientTimeouts: from backend to a number of milliseconds that replaces Defaults.Client for
//     the requests of the backend. Empty means no such map. HAProxy 2.6 ignores the map.
//
// HAProxy compares the host in lower case, without port and without one trailing dot. A request for
// a declared host never uses the backends of a wildcard. Paths are compared byte for byte, without
// the query. HAProxy answers 400 to a path with a segment "." or "..", plain or encoded, because a
// server would resolve it to a path that the route does not cover.
type Router struct {
	// Shift and ShiftParts divide the requests for a backend at random between two others. Shift
	// maps BACKEND to "POINTS/NAME". ShiftParts maps "BACKEND/NAME" to "FIRST/SECOND/MIN1/MIN2". Of
	// 10,000 requests for BACKEND, HAProxy sends POINTS to FIRST, and all others to SECOND.
	//
	// Set both maps or neither. If Runtime of the map Shift is true (see [Map]), a program can
	// change the points without a reload.
	//
	// FIRST needs at least MIN1 usable servers (not down, drained or in maintenance), and SECOND
	// needs at least MIN2. While only one of FIRST and SECOND has enough, it receives all requests.
	// While both have too few, BACKEND itself receives all requests. A stopping process of HAProxy
	// 2.6 ignores MIN1 and MIN2.
	//
	// A value of Shift may end with "/UNTIL", a time in seconds since 1970. From this time on,
	// HAProxy ignores the entry.
	Hosts, Exact, Prefix, ClientTimeouts, Shift, ShiftParts string

	// Prefer chooses other backends for the clients of a region. It maps "BACKEND/REGION" to
	// "BACKEND1/MIN1/BACKEND2/MIN2" and so on, with up to [MaxPreferred] backends. The first of
	// these backends with at least MIN usable servers receives the request. If there is none,
	// BACKEND itself receives the request. The entry "BACKEND/" applies to unknown regions, and to
	// regions without an entry.
	//
	// While an entry of ShiftParts is in force for BACKEND, HAProxy ignores Prefer. A stopping
	// process of HAProxy 2.6 always ignores Prefer.
	//
	// Regions maps networks, such as "192.0.2.0/24", to regions. Of the networks that contain the
	// address of the client, the longest prefix decides. Usually the client is the sender of the
	// request. If Frontend.TrustedProxies contains the sender, HAProxy searches the last three
	// addresses in X-Forwarded-For, from the end: the client is the first address that
	// TrustedProxies does not contain. If TrustedProxies contains all of them, HAProxy uses the
	// address of a proxy.
	//
	// RegionHeader names a request header, and RegionValues maps its values, in lower case, to
	// regions. In a request of TrustedProxies, RegionValues has precedence over Regions. With
	// [ForwardedReplace], HAProxy removes the header from all other requests, also if
	// Global.Observe is true. Set both RegionHeader and RegionValues, or neither.
	Prefer, Regions, RegionValues, RegionHeader string
}

// MaxPreferred is the largest number of backends in a value of Router.Prefer.
const MaxPreferred = 4

// Backend is a set of servers, or a fixed response.
type Backend struct {
	// Name consists of letters, digits and "-_.:".
	Name string
	// Balance chooses a server for each request; empty means [RoundRobin].
	Balance Balance
	// Protocol is the protocol of requests and health checks; empty means [HTTP1].
	Protocol Protocol
	// Limits bound the requests of the backend.
	Limits Limits
	// LimitsOf names another backend with the same Limits. HAProxy then counts the requests of both
	// backends together. Empty means that HAProxy counts the requests of this backend alone.
	LimitsOf string
	// Health describes the health check of those servers whose Check is true.
	Health Health
	// AgentInterval is the time between two agent checks of a server; 0 means 2s.
	AgentInterval time.Duration
	// Timeouts are the limits of this backend.
	Timeouts Timeouts
	// Servers are the servers of the backend. If a backend has no servers, HAProxy answers each
	// request with 503.
	Servers []Server
	// Options are settings of all Servers.
	Options ServerOptions
	// Reuse says which idle connections to servers a request may use; empty means [ReuseSafe].
	Reuse Reuse
	// QueueLimit names a variable; empty means no limit. While the number of waiting requests is at
	// least the value of the variable, HAProxy answers further requests with 503 and "Retry-After:
	// 1". With the value 0, it answers all requests with 503.
	QueueLimit string
	// Response, if not nil, is the answer to each request. A backend with a Response has no
	// servers.
	Response *FixedResponse
}

// Limits bound the requests of a frontend or a backend. HAProxy refuses a request above a limit,
// with "Retry-After: 1", and does not count it. Each process counts for itself, and begins with 0
// after a reload.
//
// Above Limit.Requests, the status is 429: the client should send fewer requests. Above
// Limit.Connections, the status is 503: another proxy may have room.
type Limits struct {
	Limit // of all clients together
	// Source is the limit of each single source. A source is an IPv4 address, or the first 64 bits
	// of an IPv6 address: one host may have all IPv6 addresses that begin with these 64 bits.
	Source Limit
}

// Limit bounds the requests of one source, or of all clients. A field that is 0 sets no limit.
type Limit struct {
	// Requests is the largest number of requests a second.
	Requests int
	// Connections is the largest number of requests at the same time: requests that have begun and
	// not ended. WebSockets and streams count too, and so does each request of an HTTP/2
	// connection.
	Connections int
}

// TableSources is the largest number of sources in the table of a backend that limits sources. If
// more sources send requests within 10 s, the table forgets the sources that have sent no request
// for the longest time. A full table needs about 1 MB.
const TableSources = 4096

// Protocol is a protocol between HAProxy and the servers of a backend. Clients can use HTTP/1.1 and
// HTTP/2, whatever the Protocol is: HAProxy translates.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = "http1" // HTTP/1.1
	H2C   Protocol = "h2c"   // HTTP/2 without TLS; the servers must accept it with prior knowledge
	// GRPC is H2C, and HAProxy forwards each message without delay. With H2C, the kernel may hold
	// back a short message for up to 200 ms, so use GRPC for servers that send single messages.
	GRPC Protocol = "grpc"
)

// Balance is an algorithm that chooses servers. Agents change weights at run time, so this package
// offers only algorithms that obey every weight. "static-rr" is missing for this reason, and
// "source" and "uri" always use consistent hashing.
//
// Use Random, Source and URI only with up to some thousand servers in total, because HAProxy keeps
// 16 tree entries for each unit of weight. With HAProxy 2.6 and weight 100, 1,000 servers needed 75
// MB and more than a second at each start and reload; 4,000 servers in one backend needed 310 MB
// and 9 seconds.
type Balance string

// The algorithms.
const (
	RoundRobin Balance = "roundrobin" // in turn, with exact shares; at most 4,095 servers
	LeastConn  Balance = "leastconn"  // the server with the fewest connections; for long connections
	Random     Balance = "random"     // the less loaded of two random servers; for several HAProxies with the same servers
	Source     Balance = "source"     // by the client's address, with consistent hashing
	URI        Balance = "uri"        // by the path, with consistent hashing
)

// Health describes a health check. With the zero Health, HAProxy connects to each server every two
// seconds, and sends no request.
type Health struct {
	// Path is the target of a GET request, optionally with a query; a server that answers 2xx or
	// 3xx is healthy. Empty means that a server that accepts a connection is healthy.
	Path string
	// Host is the Host header of the health check's GET request. If Host is empty, the request is
	// HTTP/1.0 and has no Host header. In a backend with [H2C] or [GRPC] the request is HTTP/2, and
	// Host is its :authority.
	Host string
	// GRPC makes HAProxy call the method Check of grpc.health.v1.Health for the whole server. A
	// server that answers SERVING is healthy. With any other answer, the check fails when
	// Timeouts.Check has passed. GRPC needs a backend with [H2C] or [GRPC], and an empty Path.
	GRPC bool
	// Interval is the time between two checks; 0 means 2s.
	Interval time.Duration
	// FastInterval is the time between two checks while the last result contradicts the server's
	// state. Interval applies again when enough equal results in a row (Rise or Fall) have settled
	// the state. 0 means Interval.
	FastInterval time.Duration
	// Rise is the number of good results in a row after which a server is healthy; 0 means 2. Fall
	// is the number of bad results in a row after which it is unhealthy; 0 means 3.
	Rise, Fall int
}

// Server is a server of a backend. The method [Server.Name] computes its name from other fields.
type Server struct {
	// Slot is the name of the server, for example "s1"; empty means that [Server.Name] derives it
	// from the address. Set Slot for all servers of a backend or for none. Use slots for HAProxy
	// before 3.0, which can crash when it deletes a server at run time: a controller then changes
	// the addresses of a fixed number of slots.
	Slot string
	// Disabled puts the server into maintenance when HAProxy starts. HAProxy then sends neither
	// requests nor health checks to the server until a command enables it.
	Disabled bool
	// Addr is the address to which HAProxy sends the requests and health checks of the server.
	Addr netip.AddrPort
	// Weight is the initial weight, from 1 to 256; 0 means [DefaultWeight]. An agent answers with a
	// percentage of it. With [NoTraffic] the server receives no requests, and an agent cannot
	// change that.
	Weight int
	// Check makes HAProxy check the server's health as described in Backend.Health.
	Check bool
	// Track, if not empty, names another server, as "backend/server" with the name from
	// [Server.Name]. The other server must have Check or an agent. The server with Track gets the
	// health, the drain and the maintenance state of the other server, and must not have Check
	// itself.
	Track string
	// WeightInName adds Weight to the name of the server. Set it for a server that has an agent, if
	// the Weight of the server may change. No command changes the initial weight, so another Weight
	// needs another server, which HAProxy can add at run time.
	WeightInName bool
	// AgentPort is the port of the server's agent, at the address of the server. The agent answers
	// with the weight and state of the server. 0 means no agent.
	AgentPort uint16
	// AgentSend is a line that HAProxy sends to the agent before it reads the answer. If AgentSend
	// is empty, HAProxy sends nothing.
	AgentSend string
}

const (
	// DefaultWeight is the weight of a server whose Weight is 0. An agent can then set the weight
	// to a percentage of DefaultWeight, from 1% to 256%.
	DefaultWeight = 100
	// NoTraffic is the value of Server.Weight for a server that must get no requests. In HAProxy's
	// configuration it becomes weight 0. A Server.Weight of 0 means DefaultWeight instead.
	NoTraffic = -1
)

// FixedResponse is a response that HAProxy sends itself, without a server.
type FixedResponse struct {
	Status      int    // 200 to 599
	ContentType string // of Body; empty means "text/plain"
	Body        string // one line, sent without a line end; empty means no body
}

// Map is a table of keys and values that HAProxy reads from its own file.
type Map struct {
	// Name consists of letters, digits and "-_.".
	Name string
	// Entries are the lines of the map, in any order. No two entries have the same Key.
	Entries []MapEntry
	// Runtime means that a program changes the values of the map while HAProxy runs. The file name
	// of the map then contains a hash of the keys alone, so a new value does not change
	// haproxy.cfg.
	Runtime bool
	// Stable means that a program can replace the entries of the map while HAProxy runs. New
	// entries alone do not change haproxy.cfg, and need no reload.
	//
	// If another change of the configuration needs a reload, the map gets a new file name. So its
	// new entries come into force together with the new haproxy.cfg. A new backend that HAProxy 3.4
	// can add at run time needs no reload, so the file name stays.
	//
	// A map is not both Stable and Runtime.
	Stable bool
}

// MapEntry is a line of a map. Key and Value have 1 to 2,000 bytes each, without white space and
// control characters. Key does not begin with "#".
type MapEntry struct {
	Key, Value string
}

// RenderedFile is a file of a rendered configuration.
type RenderedFile struct {
	// Name is a slash-separated path relative to the configuration directory. It is "haproxy.cfg",
	// or "maps/NAME-HASH.map" where HASH is a hash of Data. For certificates, see CertificateList.
	Name string
	Data []byte
	// Runtime is true if the file belongs to a Map whose field Runtime is true. In the Name of such
	// a file, "maps/NAME-HASH.map", HASH is a hash of the keys of the Map, without its values.
	Runtime bool
	// Stable is true if the file belongs to a Map whose field Stable is true. In the Name of such a
	// file, "maps/NAME-HASH.map", HASH does not depend on Data.
	Stable bool
	// Private is true if Data contains a private key. Only HAProxy and the program that writes the
	// file may read the file.
	Private bool
}
