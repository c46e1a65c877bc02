package haproxycfg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Refusal is a reason to refuse a request, or to remove a header from it. If Global.Observe is
// true, HAProxy neither refuses requests nor removes headers for a Refusal. It only counts and logs
// the requests.
type Refusal string

// These are the rules by which HAProxy refuses or changes requests. RefusedRequests and
// RefusedConnections apply in frontends and backends with Limits. All other rules apply in
// frontends with a Router.
const (
	RefusedDotSegment   Refusal = "dot-segment"      // the path has a dot segment, or bytes that no path may have: status 400
	RefusedHeaderName   Refusal = "header-name"      // the name of a header has characters other than letters, digits and "-": HAProxy removes the header
	RefusedClientHeader Refusal = "client-header"    // only a proxy may send the header, see ForwardedReplace: HAProxy removes it
	RefusedConnection   Refusal = "connection"       // the header Connection names other headers: HAProxy does not pass it on
	RefusedUpgrade      Refusal = "upgrade"          // an upgrade to a protocol other than WebSocket: HAProxy does not pass it on
	RefusedMisdirected  Refusal = "misdirected"      // the certificate of the connection does not cover the Host: status 421
	RefusedRequests     Refusal = "request-limit"    // above Limit.Requests: status 429
	RefusedConnections  Refusal = "connection-limit" // above Limit.Connections: status 503

	RefusedUndeclaredHost Refusal = "undeclared-host" // Frontend.RedirectHTTPS would redirect, but the host is not declared: status 404
	RefusedUntrustedProxy Refusal = "untrusted-proxy" // X-Forwarded-Proto says https, but the client is not in TrustedProxies: status 421
	RefusedServerName     Refusal = "server-name"     // no certificate covers the server name of the connection, see TLS.StrictSNI: HAProxy closes the connection
	RefusedHost           Refusal = "invalid-host"    // a wildcard covers the host, but the host is no host name, or its port is not from 1 to 65535: status 404
)

// refusals contains all values of Refusal. The index of a value is the number of its counter in
// HAProxy.
var refusals = []Refusal{
	RefusedDotSegment, RefusedHeaderName, RefusedClientHeader, RefusedConnection, RefusedUpgrade, RefusedMisdirected, RefusedRequests, RefusedConnections,
	RefusedUndeclaredHost, RefusedUntrustedProxy, RefusedServerName, RefusedHost,
}

const (
	observedTable = "observed" // the backend that has the table of the counters
	// ObservedCommand is the command of HAProxy's runtime API that shows the counters of a
	// configuration with Global.Observe. ParseObserved reads the answer.
	ObservedCommand = "show table " + observedTable
)

// ParseObserved reads the answer to ObservedCommand. It returns the number of requests for each
// Refusal since the start of the HAProxy process. It returns an error if the answer does not
// contain the table, for example because HAProxy's configuration has no Global.Observe.
func ParseObserved(answer string) (map[Refusal]uint64, error) {
	if !strings.Contains(answer, "# table: "+observedTable+",") {
		line, _, _ := strings.Cut(strings.TrimSpace(answer), "\n")
		return nil, fmt.Errorf("haproxycfg: HAProxy does not show its table %s, but answers %.100q", observedTable, line)
	}
	counts := make(map[Refusal]uint64, len(refusals))
	for _, r := range refusals {
		counts[r] = 0
	}
	for word := range strings.FieldsSeq(answer) {
		name, value, _ := strings.Cut(word, "=")
		index, isCounter := strings.CutPrefix(name, "gpc")
		i, err := strconv.Atoi(index)
		n, valueErr := strconv.ParseUint(value, 10, 64)
		if isCounter && err == nil && valueErr == nil && i >= 0 && i < len(refusals) {
			counts[refusals[i]] = n
		}
	}
	return counts, nil
}

// appendObserved renders the table of the counters.
func appendObserved(t *text) {
	t.section("backend", observedTable)
	t.line("stick-table type integer size 1 store gpc(" + strconv.Itoa(len(refusals)) + ")")
}

// beginObserving renders the table with the counters, and the capture slot with the ID 0, whose
// text HAProxy writes to the log line. The rules of observe and of Limits use the table and the
// slot, so these lines must come before them. Some of these rules are in backends. A backend can
// fill a slot, but cannot declare a slot itself.
func beginObserving(t *text) {
	t.line("declare capture request len 24")
	t.line("http-request track-sc2 int(0) table " + observedTable)
}

// observe renders rules for the requests that meet the condition. Without Global.Observe, HAProxy
// would refuse or change these requests because of the refusal r. With these rules, HAProxy only
// counts such a request, and writes r to the log.
func observe(t *text, r Refusal, condition string) {
	count(t, r, condition)
	t.line("http-request capture str(" + string(r) + ") len 24 if " + condition)
}

func count(t *text, r Refusal, condition string) {
	t.line("http-request sc-inc-gpc(" + strconv.Itoa(slices.Index(refusals, r)) + ",2) if " + condition)
}

// observeHeaders renders the rules for headers if Global.Observe is true. If a [Refusal] would
// remove a header from a request, HAProxy then only counts and logs the request. But HAProxy still
// removes HTTP2-Settings, an Upgrade to HTTP/2, and, with ForwardedReplace, the best-known
// forwarding headers.
func (f *Frontend) observeHeaders(t *text) {
	t.line("http-request del-header HTTP2-Settings")
	t.line("http-request del-header Upgrade if { req.hdr(Upgrade) -i h2c h2 }")
	observe(t, RefusedHeaderName, "{ req.hdr_names -m reg '[^a-z0-9,-]' }")
	observe(t, RefusedConnection, "{ req.fhdr(Connection) -m reg -i '[a-z]' } !{ req.fhdr(Connection) -m reg -i '^(close|keep-alive|upgrade|te|http2-settings|[ ,]){0,64}$' }")
	observe(t, RefusedUpgrade, "{ req.hdr(Upgrade) -m found } !{ req.hdr(Upgrade) -i websocket }")
	if f.Forwarded != ForwardedReplace {
		return
	}
	const remove = "http-request del-header '^(forwarded|x-forwarded-(for|host|proto))$' -m reg"
	headers := clientHeaders
	if len(f.TrustedProxies) == 0 {
		t.line(remove)
	} else {
		t.line(remove + " if !" + trustedProxy)
		t.line("http-request del-header '^(forwarded|x-forwarded-host)$' -m reg if " + trustedProxy)
		headers = proxyHeaders
	}
	observe(t, RefusedClientHeader, "{ req.hdr_names -m reg '(^|,)("+headers+")(,|$)' }")
}
