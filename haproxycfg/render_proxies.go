package haproxycfg

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/dotsegment"
)

// append renders the frontend.
func (f *Frontend) append(t *text, paths renderedPaths, g *Global) {
	observing := g.Observe && f.Router != nil
	certificates := f.certificateList()
	// With Observe, HAProxy also accepts the TLS clients that strict-sni would refuse. HAProxy has
	// to send these clients some certificate. So the binds can leave out strict-sni only if the
	// frontend has a certificate.
	admitting := observing && paths.hasCertificate[certificates]
	t.section("frontend", f.Name)
	for i := range f.Binds {
		f.Binds[i].append(t, paths, admitting)
	}
	if f.MaxConn > 0 {
		t.line("maxconn")
		t.int(f.MaxConn)
	}
	if f.Monitor != "" {
		t.line("monitor-uri")
		t.word(f.Monitor)
		t.line("monitor fail if { stopping }")
		if f.DrainSwitch != "" {
			t.line("monitor fail if " + f.draining())
		}
		if len(f.MonitorBackends) > 0 {
			t.line("monitor fail if")
			for _, name := range f.MonitorBackends {
				t.raw(" { nbsrv(" + name + ") eq 0 }")
			}
		}
	}
	if f.NoLog {
		t.line("http-request set-log-level silent")
	}
	if f.Exporter != "" {
		if f.ExporterNoMaint {
			t.line("http-request set-query no-maint if !{ query -m found } { path -m str --")
			t.word(f.Exporter)
			t.raw(" }")
		}
		// The "--" after "-m str" keeps HAProxy from reading a path that begins with "-" as a flag.
		t.line("http-request use-service prometheus-exporter if { path -m str --")
		t.word(f.Exporter)
		t.raw(" }")
	}
	switch {
	case observing:
		beginObserving(t)
		observe(t, RefusedDotSegment, strings.Join(dotSegments, " || "))
	case f.Router != nil:
		denyDotSegments(t)
	}
	f.appendTrustedProxies(t)
	if f.RedirectHTTPS != nil || f.Router != nil || certificates != "" {
		// Use req.fhdr, because req.hdr would split "a, b" into two values. The regular expression
		// removes the port, and one dot at the end of the host. It does not touch the colons of an
		// IPv6 literal, which ends in "]".
		invalid := ""
		if f.Router != nil && !observing {
			invalid = invalidHost + "|.*" + invalidPort + "|"
		}
		t.line(`http-request set-var(txn.host) 'req.fhdr(host),lower,regsub("` + invalid + `[.]?(:[0-9]*)?$","")'`)
	}
	if certificates != "" {
		if admitting && f.strictSNI() {
			observeServerName(t, paths.maps[certificates])
		}
		denyUncovered(t, paths.maps[certificates], observing)
	}
	if f.RedirectHTTPS != nil {
		if f.Router != nil {
			f.Router.appendHost(t, paths.maps, observing)
		}
		f.appendRedirect(t, observing)
	}
	if f.Limits != (Limits{}) {
		f.Limits.append(t, f.Name, "", observing)
	}
	if f.Close != "" {
		t.line(`http-request set-var(txn.close) 'str(all),map_str("` + paths.maps[f.Close] + `")'`)
		t.line(closeClient + chance("txn.close"))
	}
	f.appendRegion(t, paths.maps) // before other rules remove headers that a trusted proxy has sent
	forwards := f.DefaultBackend != "" || f.Router != nil
	switch {
	case observing:
		f.observeHeaders(t)
	case forwards:
		cleanHeaders(t, f.KeepHeaderNames)
	}
	f.appendForwarded(t, observing)
	if f.RequestID {
		appendRequestID(t, len(g.Logs) > 0 && !f.NoLog)
	}
	if f.Trace != nil {
		f.Trace.append(t)
	}
	if f.CloseOneIn > 0 {
		t.line(closeClient + "{ rand(" + strconv.Itoa(f.CloseOneIn) + ") eq 0 }")
	}
	if f.CloseStopping {
		t.line(closeClient + "{ stopping }")
	}
	if f.DrainSwitch != "" {
		t.line(closeClient + f.draining())
	}
	if !forwards {
		return
	}
	// RFC 9110, section 9.2.2, lets a proxy repeat idempotent methods. HAProxy does not repeat PUT
	// and DELETE: a second PUT can undo the write of another client, and a second DELETE has the
	// answer 404 although the first one worked.
	t.line("http-request disable-l7-retry unless { method GET HEAD OPTIONS }")
	if f.RetryBudget != nil {
		f.RetryBudget.append(t, f, g.Version)
	}
	if f.Router != nil {
		f.Router.append(t, paths.maps, f.RedirectHTTPS != nil, observing)
	}
	if f.Zones != nil {
		f.Zones.appendRules(t, f.DefaultBackend)
		f.Zones.appendBackends(t, f.DefaultBackend)
	}
	if f.DefaultBackend != "" {
		t.line("default_backend ")
		t.raw(f.DefaultBackend)
	}
}

// closeClient is the beginning of a rule that closes the client's connection after a response. The
// rule does not apply to the status 101, which begins a WebSocket: clients refuse a 101 without
// "Connection: Upgrade".
const closeClient = "http-response set-header Connection close if !{ status 101 } "

// dotSegments are conditions. One of them is true for each path that a server could read as a path
// with dot segments.
//
// The first condition matches the path as it is. The second one matches the path decoded with
// url_dec, which fails if a "%" is not followed by two hexadecimal digits. The third one matches
// the path without its encoded tabs and ends of lines.
//
// The last condition matches bytes that RFC 3986 does not permit in a path. HAProxy refuses them in
// HTTP/1 requests, but sends bytes from 0x80 on in HTTP/2 requests to servers: two such bytes are
// overlong UTF-8 for ".".
var dotSegments = []string{
	"{ path -m reg -i '" + dotsegment.Pattern + "' }",
	"{ path,url_dec -m reg -i '" + dotsegment.Pattern + "' }",
	"{ path -m reg -i '" + dotsegment.Stripped + `' } { 'path,regsub("` + dotsegment.Stripped + `","",gi)' -m reg -i '` + dotsegment.Pattern + "' }",
	"{ path -m reg '[^!-~]' }",
}

// denyDotSegments renders the rules that refuse paths with dot segments. Most servers resolve dot
// segments, so "/public/../admin" would reach the service of "/public" as "/admin".
func denyDotSegments(t *text) {
	for _, condition := range dotSegments {
		t.line("http-request deny deny_status 400 if " + condition)
	}
}

// invalidHost is a regular expression for a Host header with a character that no host name, IP
// address or port has. With a Router, HAProxy replaces such a host by "", so it has no route.
// Otherwise "evil/x.example.com" would match "*.example.com", and HAProxy would redirect the client
// to the host "evil".
const invalidHost = "^[][a-z0-9._:-]*[^][a-z0-9._:-].*"

// invalidPort is a regular expression. It matches a port at the end of a Host header if the port is
// not from 1 to 65535. Declarations and the other binaries refuse the same ports; see package
// hostname. A host may also end in ":" without a port (RFC 3986 section 3.2.3).
const invalidPort = ":(0+|0*([7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9]|[1-9][0-9]{5,}))$"

// wildcardLabel is a regular expression for the first label of a host, with the dot after it. A
// label has 1 to 63 letters, digits, "_" and "-", and neither begins nor ends with "-", as in
// package hostname.
const wildcardLabel = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?[.]"

// draining returns a condition for the rules of the frontend: it is true while the variable
// DrainSwitch is above 0, that is, during a drain.
func (f *Frontend) draining() string { return "{ var(proc." + f.DrainSwitch + ") -m int gt 0 }" }

// cleanHeaders renders the rules that remove dangerous headers from every request to a server. If
// keepNames is true, the rules keep headers with unusual characters in their names.
func cleanHeaders(t *text, keepNames bool) {
	// This rule deletes each header whose name has another character than a letter, a digit or "-":
	// servers with CGI, WSGI or PHP would read X_Forwarded_For or X.Forwarded.For as
	// X-Forwarded-For. HAProxy matches the pattern against the name in lower case. "option
	// http-restrict-req-hdr-names delete" would delete the same headers.
	if !keepNames {
		t.line("http-request del-header '[^a-z0-9-]' -m reg")
	}
	// Allow only upgrades to WebSocket. After an upgrade to HTTP/2, the client could send the
	// server any request: HAProxy would neither check it against the routes, nor set its headers.
	// RFC 9113, section 3.1, has removed this upgrade.
	t.line("http-request del-header HTTP2-Settings")
	t.line("http-request del-header Upgrade unless { req.hdr(Upgrade) -i websocket } { req.hdr(Connection) -i upgrade }")
	t.line("http-request set-header Upgrade websocket if { req.hdr(Upgrade) -m found }")
	// Do not pass the client's Connection on, except "Upgrade": a server that is itself a proxy
	// removes each header that Connection names (RFC 9110, section 7.6.1), even a header that
	// HAProxy has set.
	t.line("http-request del-header Connection unless { req.hdr(Upgrade) -m found }")
	t.line("http-request set-header Connection Upgrade if { req.hdr(Upgrade) -m found }")
}

// append renders the listener. The argument "admitting" is true if [Global.Observe] is true and the
// frontend has a certificate. Then append leaves out strict-sni even if TLS.StrictSNI is true:
// HAProxy must accept and count the clients that strict-sni would refuse.
func (b *Bind) append(t *text, paths renderedPaths, admitting bool) {
	t.line("bind")
	if strings.HasPrefix(b.Address, ":") {
		t.word("*" + b.Address)
		if b.IPv6 {
			t.raw(",[::]" + b.Address + " v6only")
		}
	} else {
		t.word(b.Address)
	}
	if strings.HasPrefix(b.Address, "[::]:") {
		t.raw(" v4v6") // net.Listen does the same
	}
	if b.AcceptProxy {
		t.raw(" accept-proxy")
	}
	if b.TLS == nil {
		return
	}
	if b.TLS.List != "" {
		t.raw(" ssl crt-list")
		t.word(paths.lists[b.TLS.List])
	} else {
		t.raw(" ssl crt")
		t.word(b.TLS.Certificates)
	}
	t.raw(" ssl-min-ver")
	t.word(cmp.Or(b.TLS.MinVersion, "TLSv1.2"))
	t.raw(" alpn")
	if b.TLS.ALPN == nil {
		t.raw(" h2,http/1.1")
	} else {
		t.word(strings.Join(b.TLS.ALPN, ","))
	}
	if b.TLS.StrictSNI && !admitting {
		t.raw(" strict-sni")
	}
}

// append renders the look-ups in the maps. It uses only the match methods str and beg, for which
// HAProxy indexes the maps as trees, so the time of a look-up does not grow with the number of
// entries.
//
// hostKnown says that a call of appendHost has already rendered the look-ups of the virtual host.
func (r *Router) append(t *text, maps map[string]string, hostKnown, observing bool) {
	t.line("http-request set-var(txn.path) path")
	// A request "GET http://host" has no path, which means "/" (RFC 9110, section 4.2.3). "OPTIONS
	// *" and "CONNECT host:port" have no path either, but do not mean "/".
	t.line("http-request set-var(txn.path) str(/) if !{ var(txn.path) -m found } !{ method OPTIONS CONNECT }")
	if !hostKnown {
		r.appendHost(t, maps, observing)
	}
	// A request without a path would match the entry for the path "/" of its host. The condition
	// "txn.path found" prevents this.
	lookUp(t, "backend", "var(txn.vhost),concat(,txn.path)", "str", maps[r.Exact], " if { var(txn.path) -m found }")
	lookUp(t, "backend", "var(txn.vhost),concat(,txn.path,/)", "beg", maps[r.Prefix], " if { var(txn.path) -m found } !{ var(txn.backend) -m found }")
	r.appendShift(t, maps)
	r.appendPrefer(t, maps)
	if r.ClientTimeouts != "" {
		// Once a response has begun, HAProxy 3.0 ends the request if the client is silent for too
		// long, so HAProxy 3.0 needs this rule. HAProxy 2.6 never ends such a request, and has no
		// rule "set-timeout client".
		t.line(".if version_atleast(3.0)")
		t.line(`http-request set-timeout client 'var(txn.backend),map_str_int("` + maps[r.ClientTimeouts] + `")' if { var(txn.backend) -m found }`)
		t.line(".endif")
	}
	t.line("use_backend %[var(txn.backend)] if { var(txn.backend) -m found }")
}

// MaxPoints is the number of points that stands for all requests in Router.Shift, and for all
// responses in Frontend.Close: 5,000 points are half of them.
const MaxPoints = 10_000

// appendShift renders the look-ups in the maps Shift and ShiftParts; see [Router]. HAProxy makes one
// look-up for a request if Shift has no entry for the backend of the request, and two look-ups
// otherwise.
func (r *Router) appendShift(t *text, maps map[string]string) {
	if r.Shift == "" {
		return
	}
	lookUp(t, "shift", "var(txn.backend)", "str", maps[r.Shift], " if { var(txn.backend) -m found }")
	t.line("http-request set-var(txn.points) 'var(txn.shift),field(1,/)' if { var(txn.shift) -m found }")
	t.line("http-request set-var(txn.to) 'var(txn.shift),field(2,/)' if { var(txn.shift) -m found }")
	t.line("http-request set-var(txn.until) 'var(txn.shift),field(3,/)' if { var(txn.shift) -m found }")
	// If txn.until is not set, "date(),sub(txn.until) ge 0" is false, so the look-up always
	// happens: the shift never ends.
	lookUp(t, "parts", "var(txn.backend),concat(/,txn.to)", "str", maps[r.ShiftParts],
		" if { var(txn.shift) -m found } !{ date(),sub(txn.until) ge 0 }")
	for i, name := range [...]string{"first", "second", "min1", "min2"} {
		t.line("http-request set-var(txn." + name + ") 'var(txn.parts),field(" + strconv.Itoa(i+1) + ",/)' if { var(txn.parts) -m found }")
	}
	// Draw one of the two backends FIRST and SECOND of the ShiftParts entry. If too few servers of
	// the drawn backend are up, try the other backend.
	const undecided = " if { var(txn.parts) -m found } !{ var(txn.part) -m found } "
	first, second := enoughServers("txn.first", "txn.min1"), enoughServers("txn.second", "txn.min2")
	t.line("http-request set-var(txn.part) var(txn.first) if { var(txn.parts) -m found } " + chance("txn.points") + " " + first)
	t.line("http-request set-var(txn.part) var(txn.second)" + undecided + second)
	t.line("http-request set-var(txn.part) var(txn.first)" + undecided + first)
	// In a process of HAProxy 2.6 that stops, for example after a reload, nbsrv is 0 for every
	// backend. Without these rules, all requests of its kept connections would leave the shift.
	t.line(".if !version_atleast(3.0)")
	t.line("http-request set-var(txn.part) var(txn.first)" + undecided + "{ stopping } " + chance("txn.points"))
	t.line("http-request set-var(txn.part) var(txn.second)" + undecided + "{ stopping }")
	t.line(".endif")
	t.line("http-request set-var(txn.backend) var(txn.part) if { var(txn.part) -m found }")
}

// enoughServers returns a condition: the backend whose name is in the variable "backend" has at
// least as many usable servers as the number in the variable "least".
func enoughServers(backend, least string) string {
	return "{ var(" + backend + "),nbsrv,sub(" + least + ") ge 0 }"
}

// chance returns a condition that is true for a random share of the requests. The named variable of
// HAProxy contains the share in points, from 0 to MaxPoints; an unset variable means 0.
func chance(variable string) string {
	return "{ rand(" + strconv.Itoa(MaxPoints) + "),sub(" + variable + ") lt 0 }"
}

// appendHost renders the look-ups that set the variable txn.vhost to the virtual host; see
// [Router]. If the argument "observing" is true, a wildcard covers everything before the first dot,
// and HAProxy counts the hosts that are no host names.
func (r *Router) appendHost(t *text, maps map[string]string, observing bool) {
	lookUp(t, "vhost", "var(txn.host)", "str", maps[r.Hosts], "")
	// wildcardLabel requires a label in the place of the wildcard, so the host ".example.com" does
	// not match "*.example.com".
	label := wildcardLabel
	if observing {
		label = "[^.]+[.]"
	}
	lookUp(t, "vhost", `var(txn.host),regsub("^`+label+`","*.")`, "str", maps[r.Hosts], " if !{ var(txn.vhost) -m found }")
	if observing {
		observe(t, RefusedHost, "{ var(txn.vhost) -m found } { var(txn.host) -m sub . } !{ var(txn.host) -m reg '^"+wildcardLabel+"' }"+
			" || { var(txn.vhost) -m found } { req.fhdr(host) -m reg '"+invalidPort+"' }")
	}
}

// lookUp renders a rule: HAProxy looks up the input in the map, and sets the variable to the value
// that it finds. method is "str" to find the key that equals the input, or "beg" to find the
// longest key with which the input begins.
func lookUp(t *text, variable, input, method, mapPath, condition string) {
	t.line("http-request set-var(txn." + variable + ") '" + input + ",map_" + method + `("` + mapPath + `")'` + condition)
}

func (b *Backend) append(t *text, g *Global) {
	b.appendHead(t, g)
	if b.Response == nil {
		b.appendServers(t)
	}
}

// appendHead renders all lines of the backend except server lines.
func (b *Backend) appendHead(t *text, g *Global) {
	t.section("backend", b.Name)
	b.appendSettings(t, g)
}

// appendSettings renders all lines of the backend below its first line, except server lines.
func (b *Backend) appendSettings(t *text, g *Global) {
	if b.Response != nil {
		b.Response.append(t)
		return
	}
	switch b.Balance {
	case "", RoundRobin:
		t.line("balance roundrobin")
	case Random:
		t.line("balance random(2)")
	case Source, URI:
		t.line("balance ")
		t.raw(string(b.Balance))
		t.line("hash-type consistent")
	default:
		t.line("balance ")
		t.raw(string(b.Balance))
	}
	if b.QueueLimit != "" {
		t.line("http-request deny deny_status 503 content-type text/plain string 'the queue is full' hdr Retry-After 1" +
			" if { queue(" + b.Name + "),sub(proc." + b.QueueLimit + ") ge 0 }")
	}
	if b.Limits != (Limits{}) {
		b.Limits.append(t, b.Name, b.LimitsOf, g.Observe)
	}
	if b.Reuse != "" {
		t.line("http-reuse ")
		t.raw(string(b.Reuse))
	}
	b.Timeouts.append(t)
	if b.Protocol == GRPC {
		t.line("option http-no-delay")
	}
	if b.http2() && g.Version.AtLeast(3, 2) {
		t.line("no option http-drop-request-trailers")
	}
	b.Health.append(t)
	t.line("default-server")
	b.appendSharedWords(t, true)
}

func (b *Backend) appendServers(t *text) {
	var ids []int
	if b.Balance == Source || b.Balance == URI {
		ids = serverIDs(b.Servers)
	}
	for i := range b.Servers {
		b.Servers[i].append(t)
		if b.Servers[i].Disabled {
			t.raw(" disabled")
		}
		if ids != nil {
			t.raw(" id")
			t.int(ids[i])
		}
	}
}

// http2 reports whether the servers of the backend speak HTTP/2.
func (b *Backend) http2() bool { return b.Protocol == H2C || b.Protocol == GRPC }

// append renders the table and the rules for the limits of a proxy. The rules that refuse a request
// come before the rules that count it, so refused requests do not count. If observing is true, no
// rule refuses a request: the rules set the variable txn.over to the Refusal of the first limit
// that the request exceeds.
//
// The argument "of" names the backend whose table counts the requests; "" means the proxy itself.
func (l Limits) append(t *text, proxy, of string, observing bool) {
	// ipmask converts the address of an IPv4 client on an IPv6 listener (::ffff:192.0.2.1) to IPv4
	// before it applies a mask. The key ff00:: counts all clients together; no client has this
	// multicast address.
	const source, all = "src,ipmask(32,64)", "str(ff00::)"
	size := 16
	if l.Source != (Limit{}) {
		size = TableSources
	}
	table := ""
	if of == "" {
		t.line("stick-table type ipv6 size")
		t.int(size)
		t.raw(" expire 10s store http_req_rate(1s),conn_cur")
	} else {
		proxy, table = of, " table "+of
	}
	for _, of := range [...]struct {
		Limit
		key string
	}{{l.Source, source}, {l.Limit, all}} {
		refuse := func(r Refusal, action, count string, limit int) {
			if limit == 0 {
				return
			}
			condition := " if { " + of.key + "," + count + "(" + proxy + ") ge " + strconv.Itoa(limit) + " }"
			if observing {
				t.line("http-request set-var(txn.over) str(" + string(r) + ")" + condition + " !{ var(txn.over) -m found }")
			} else {
				t.line("http-request deny deny_status " + action + " hdr Retry-After 1" + condition)
			}
		}
		refuse(RefusedRequests, "429 content-type text/plain string 'too many requests'", "table_http_req_rate", of.Requests)
		refuse(RefusedConnections, "503 content-type text/plain string 'too many connections'", "table_conn_cur", of.Connections)
	}
	counted := ""
	if observing {
		counted = " if !{ var(txn.over) -m found }"
		for _, r := range [...]Refusal{RefusedRequests, RefusedConnections} {
			count(t, r, "{ var(txn.over) -m str "+string(r)+" }")
		}
		t.line("http-request capture var(txn.over) id 0 if { var(txn.over) -m found }")
	}
	if l.Source != (Limit{}) {
		t.line("http-request track-sc0 " + source + table + counted)
	}
	if l.Limit != (Limit{}) {
		t.line("http-request track-sc1 " + all + table + counted)
	}
}

// maxServerID is the largest server id. With consistent hashing, HAProxy places each server at up
// to 4,096 points of a ring, and computes the points from the lowest 20 bits of the id (it
// multiplies the id by SRV_EWGHT_RANGE in 32 bits, lb_chash.c). If two ids had the same lowest 20
// bits, the two servers would have the same points, and only one of them would get requests.
const maxServerID = 1<<20 - 1

// serverIDs returns an id for each server, computed from its name, because HAProxy hashes servers
// by id. The default ids are positions in the file: a new server in the middle would move the
// clients of all servers after it.
func serverIDs(servers []Server) []int {
	ids := make([]int, len(servers))
	taken := make(map[int]bool, len(servers))
	var name []byte
	for i := range servers {
		name = servers[i].appendName(name[:0])
		h := fnv.New32a()
		_, _ = h.Write(name)
		sum := h.Sum32()
		id := int((sum>>20^sum)%maxServerID) + 1 // ids are positive
		for taken[id] && len(taken) < maxServerID {
			id = id%maxServerID + 1
		}
		taken[id] = true
		ids[i] = id
	}
	return ids
}

func (r *FixedResponse) append(t *text) {
	t.line("http-request return status")
	t.int(r.Status)
	if r.Body == "" { // HAProxy refuses an empty string
		return
	}
	t.raw(" content-type")
	t.word(cmp.Or(r.ContentType, "text/plain"))
	t.raw(" string")
	t.word(r.Body)
}

// defaultInterval is the default time between two health checks of a server, and between two agent
// checks.
const defaultInterval = 2 * time.Second

// append renders the request of the health check.
func (h *Health) append(t *text) {
	if h.GRPC {
		h.appendGRPC(t)
	} else if h.Path != "" && h.Host == "" {
		t.line("option httpchk GET")
		t.word(h.Path)
	} else if h.Path != "" {
		t.line("option httpchk")
		t.line("http-check send meth GET uri")
		t.word(h.Path)
		t.raw(" ver HTTP/1.1 hdr Host")
		t.word(logFormat(h.Host))
	}
}

// appendWords renders the times of the checks in the line default-server of every backend. Without
// this line, HAProxy 3.3 and 3.4 have a fault: after an agent's answer "down", and later answers
// without a health state, the server stays down.
func (h *Health) appendWords(t *text, agentInterval time.Duration) {
	t.raw(" inter")
	t.duration(cmp.Or(h.Interval, defaultInterval))
	if h.FastInterval > 0 {
		t.raw(" fastinter")
		t.duration(h.FastInterval)
	}
	t.raw(" rise")
	t.int(cmp.Or(h.Rise, 2))
	t.raw(" fall")
	t.int(cmp.Or(h.Fall, 3))
	t.raw(" agent-inter")
	t.duration(cmp.Or(agentInterval, defaultInterval))
}

// Name returns the name of the server in HAProxy. If Slot is not empty, this is Slot. Otherwise it
// is "ADDRESS:PORT", or "ADDRESS:PORT-AGENTPORT" for a server with an agent. If WeightInName is
// true, "-wWEIGHT" follows. IPv6 addresses have no brackets.
//
// HAProxy restores the address and port of each server by its name from the state file. So a server
// with a new node port needs a new name: with the old name, HAProxy would use the old port after a
// reload.
func (s Server) Name() string {
	var b [64]byte
	return string(s.appendName(b[:0]))
}

func (s *Server) appendName(b []byte) []byte {
	if s.Slot != "" {
		return append(b, s.Slot...)
	}
	b = s.Addr.Addr().AppendTo(b)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(s.Addr.Port()), 10)
	if s.AgentPort != 0 {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(s.AgentPort), 10)
	}
	if s.WeightInName {
		b = strconv.AppendInt(append(b, "-w"...), int64(s.weight()), 10)
	}
	return b
}

// append renders the server line. In a large configuration, Render spends most of its time in
// append. So append works on a local slice, and formats an IPv4 address only once for both name and
// address.
func (s *Server) append(t *text) {
	*t = s.appendWords(append(*t, "\n    server "...))
}

// appendWords appends the name, the address and those settings that differ from server to server.
// All other settings are in the line default-server of the backend.
func (s *Server) appendWords(b []byte) []byte {
	name := len(b)
	b = s.appendName(b)
	b = append(b, ' ')
	if s.Slot == "" && s.Addr.Addr().Is4() {
		end := name + bytes.IndexByte(b[name:], ':') + 1
		for '0' <= b[end] && b[end] <= '9' {
			end++
		}
		b = append(b, b[name:end]...)
	} else {
		b = s.Addr.AppendTo(b) // IPv6 needs brackets: without them, HAProxy reads the part after the last colon as the port
	}
	if s.Check {
		b = append(b, " check"...)
	}
	if s.Track != "" {
		b = append(append(b, " track "...), s.Track...) // a valid name needs no quotes
	}
	b = strconv.AppendInt(append(b, " weight "...), int64(s.weight()), 10)
	if s.AgentPort != 0 {
		b = strconv.AppendUint(append(b, " agent-check agent-port "...), uint64(s.AgentPort), 10)
		if s.AgentSend != "" {
			// HAProxy sends exactly the bytes of this argument to the agent, and the agent needs a
			// line end after them. So add the line end as the escape \n, after the quotes.
			b = appendQuoted(append(b, " agent-send "...), s.AgentSend)
			b = append(b, `\n`...)
		}
	}
	return b
}

// weight returns the weight that HAProxy's configuration contains, 0 to 256.
func (s *Server) weight() int {
	switch s.Weight {
	case 0:
		return DefaultWeight
	case NoTraffic:
		return 0
	}
	return s.Weight
}
