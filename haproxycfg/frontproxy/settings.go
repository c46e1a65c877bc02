package frontproxy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// Settings are the policy of a front proxy. The zero Settings are valid: each zero field means a
// default. The comment of a field contains Envoy's name of the same setting.
type Settings struct {
	// Protocol is the protocol of the pods (Envoy: http2_protocol_options of the cluster); empty means
	// HTTP/1.1. Clients can use HTTP/1.1 and HTTP/2 in any case.
	Protocol haproxycfg.Protocol
	// Balance (Envoy: lb_policy) chooses a pod for each request: haproxycfg.LeastConn, RoundRobin or
	// Random. Empty means LeastConn, Envoy's LEAST_REQUEST.
	Balance haproxycfg.Balance

	// Connect (Envoy: connect_timeout) is the longest time that HAProxy may need to open a
	// connection to a pod; 0 means 1s.
	Connect time.Duration
	// Server (Envoy: timeout of a route) is the longest time that HAProxy waits for data from a
	// pod; 0 means 15s, and 1h for gRPC. In contrast to Envoy's timeout, Server does not limit the
	// whole answer, but each silence in it. For gRPC, Server also limits each silence of the client
	// in a stream.
	Server time.Duration
	// KeepAlive (Envoy: idle_timeout of the listener) is the longest time that a client's connection
	// waits for the next request; 0 means 60s.
	KeepAlive time.Duration

	// Retries (Envoy: num_retries) is the number of further attempts after a request has failed,
	// each at another pod if there is one. 0 means 2; a negative value means none. After a failed
	// connection, HAProxy repeats any method, and after other failures only GET, HEAD and OPTIONS.
	Retries int
	// RetryOn (Envoy: retry_on) lists the failures after which HAProxy repeats a request. Nil means
	// conn-failure and empty-response.
	RetryOn []haproxycfg.RetryEvent
	// RetryPercent (Envoy: retry_budget, budget_percent) is the number of repetitions that HAProxy
	// allows for each 100 requests within a second. 0 means 20, a negative value means no limit, and
	// the largest value is 100. Repetitions after a failed connection do not count.
	RetryPercent int
	// RetriesPerSecond (Envoy: retry_budget, min_retry_concurrency) is the number of repetitions
	// that HAProxy allows in each second, in addition to RetryPercent. 0 means 3; a negative value
	// means none.
	RetriesPerSecond int

	// EjectErrors (Envoy: consecutive_5xx) is the number of bad answers in a row after which
	// HAProxy sends a pod no requests for EjectTime. 0 means 10; a negative value means that
	// HAProxy ejects no pod.
	EjectErrors int
	// EjectTime (Envoy: base_ejection_time) is how long a pod stays ejected; 0 means 30s. HAProxy
	// checks an ejected pod every EjectTime/3, and uses it again after three good checks. So the
	// real time is between two thirds of EjectTime and EjectTime.
	EjectTime time.Duration
	// HealthPath (Envoy: health_checks, path) is the path of the health check, which HAProxy makes
	// every EjectTime/3. A pod that answers 2xx or 3xx is healthy. If HealthPath is empty, HAProxy
	// only connects, and a pod that accepts the connection is healthy.
	HealthPath string
	// HealthHost (Envoy: health_checks, host) is the Host header of health checks; empty means no
	// Host header. HealthHost needs a HealthPath.
	HealthHost string
	// PanicBelow (Envoy: healthy_panic_threshold) is a percentage of the pods of all zones. If less
	// than this percentage of them is up, HAProxy sends requests to all pods of its own zone, even
	// to ejected ones. 0 means 25; a negative value means never.
	PanicBelow int

	// Overprovision (Envoy: overprovisioning_factor) is the load that a pod can bear, in percent of
	// its load while no pod is missing. It is from 100 to 1,000; 0 means 140.
	Overprovision int
	// NoSpill keeps requests in the zone while they wait for a pod of the zone. If NoSpill is
	// false, HAProxy sends these requests to other zones, unless requests also wait in the other
	// zones. Requests wait only if PerPod is set.
	NoSpill bool

	// PerPod (Envoy: max_requests) is the largest number of requests that HAProxy sends to one pod at
	// the same time; 0 means no limit. Each front proxy counts for itself.
	PerPod int
	// Pending (Envoy: max_pending_requests) is the number of requests that may wait for a pod of a
	// backend; HAProxy answers further requests with 503 and "Retry-After: 1". 0 means the number
	// of pods of the backend; a negative value means no limit. Pending needs PerPod.
	Pending int
	// QueueTime is the longest time that a request waits for a pod before HAProxy answers 503; 0
	// means 200ms. QueueTime needs PerPod.
	QueueTime time.Duration

	// Reuse says which idle connections to pods a request may use; empty means haproxycfg.ReuseAlways.
	// Envoy always does what ReuseAlways does.
	Reuse haproxycfg.Reuse
	// PoolPurge (Envoy: idle_timeout of the cluster) is a period. After each period, HAProxy closes
	// half of the surplus connections to pods: the idle connections that it did not need in the
	// period. 0 means 1s. PoolPurge must be shorter than the time after which pods close idle
	// connections.
	PoolPurge time.Duration
	// NoPool (Envoy: max_requests_per_connection of the cluster, 1) makes HAProxy close a
	// connection to a pod when its request has ended and the client has disconnected. Set it if
	// pods close idle connections early: a POST on such a connection fails, and HAProxy does not
	// repeat it.
	NoPool bool
	// SlowStart (Envoy: slow_start_window) is the time in which a new pod gets more and more
	// requests, up to its full share; 0 means that a new pod gets its full share at once.
	SlowStart time.Duration

	// CloseOneIn (Envoy: max_requests_per_connection of the listener) is the average number of
	// requests after which HAProxy closes a client's HTTP/1 connection; 0 means 1,000; a negative
	// value means never. The client then connects again, perhaps to a front proxy that has started
	// later.
	CloseOneIn int
	// HTTP2Requests (Envoy: max_requests_per_connection of the listener) is the number of requests
	// after which HAProxy 3.0 and later end a client's HTTP/2 connection; 0 means never. Set it
	// only if all HTTP/2 clients can repeat requests; see haproxycfg.Global.
	HTTP2Requests int
	// Limits (Envoy: local_ratelimit) bound the requests of each front proxy. A zero limit means no
	// limit.
	Limits haproxycfg.Limits

	// AccessLog (Envoy: access_log) makes HAProxy log each request, with its request ID and the
	// address of the pod. Without Global.Logs, HAProxy writes the log to the standard output.
	AccessLog bool
	// TraceSample (Envoy: random_sampling) makes HAProxy create the header traceparent for requests
	// without a valid traceparent. Of 10,000 new headers, HAProxy marks TraceSample headers as
	// sampled; the largest value is 10,000. With a negative value, HAProxy marks no new header. 0
	// means that HAProxy creates no headers.
	TraceSample int
	// ReplaceForwarded (Envoy: use_remote_address) is for clients that you do not trust: HAProxy
	// replaces their X-Forwarded headers, and removes headers that only a proxy may send. Without
	// it, HAProxy adds the client's address to X-Forwarded-For.
	ReplaceForwarded bool

	// Grace (Envoy: drain_time) is how long a stopping HAProxy still accepts connections, while its
	// monitor answers 503; 0 means 5s; a negative value means no time. It must be longer than the
	// balancer in front needs to notice the 503.
	Grace time.Duration
	// HardStop (Envoy: parent_shutdown_time) is the longest time that a stopping or replaced HAProxy
	// process keeps its connections; 0 means 30s. It must be longer than Grace.
	HardStop time.Duration
}

// FieldError is a fault of one field of Settings.
type FieldError struct {
	Field  string // the name of a field of Settings, such as "EjectTime"
	Reason string
}

func (e *FieldError) Error() string { return "frontproxy: " + e.Field + ": " + e.Reason }

// Validate returns nil, or an error that joins a [FieldError] for each field that is out of its
// range or contradicts another field.
func (s *Settings) Validate() error {
	var faults []error
	faulty := map[string]bool{} // report only the first fault of a field
	fault := func(bad bool, field, format string, args ...any) {
		if bad && !faulty[field] {
			faulty[field] = true
			faults = append(faults, &FieldError{field, fmt.Sprintf(format, args...)})
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"Connect", s.Connect},
		{"Server", s.Server},
		{"KeepAlive", s.KeepAlive},
		{"EjectTime", s.EjectTime},
		{"QueueTime", s.QueueTime},
		{"PoolPurge", s.PoolPurge},
		{"SlowStart", s.SlowStart},
		{"Grace", max(s.Grace, 0)},
		{"HardStop", s.HardStop},
	} {
		fault(d.value < 0, d.field, "%v is negative", d.value)
		fault(d.value%time.Millisecond != 0, d.field, "%v is not whole milliseconds", d.value)
		fault(d.value > 24*24*time.Hour, d.field, "%v is longer than 24 days", d.value)
	}
	for _, n := range []struct {
		field     string
		value, to int
	}{
		{"Retries", s.Retries, 100},
		{"RetryPercent", s.RetryPercent, 100},
		{"RetriesPerSecond", s.RetriesPerSecond, 1_000_000},
		{"EjectErrors", s.EjectErrors, math.MaxInt16},
		{"PanicBelow", s.PanicBelow, 100},
		{"Pending", s.Pending, math.MaxInt32},
		{"CloseOneIn", s.CloseOneIn, math.MaxInt32},
		{"HTTP2Requests", s.HTTP2Requests, math.MaxInt32},
		{"TraceSample", s.TraceSample, 10_000},
		{"PerPod", s.PerPod, math.MaxInt32},
		{"Limits.Requests", s.Limits.Requests, math.MaxInt32},
		{"Limits.Connections", s.Limits.Connections, math.MaxInt32},
		{"Limits.Source.Requests", s.Limits.Source.Requests, math.MaxInt32},
		{"Limits.Source.Connections", s.Limits.Source.Connections, math.MaxInt32},
	} {
		fault(n.value > n.to, n.field, "%d is more than %d", n.value, n.to)
	}
	for _, n := range []struct {
		field string
		value int
	}{
		{"HTTP2Requests", s.HTTP2Requests},
		{"PerPod", s.PerPod},
		{"Limits.Requests", s.Limits.Requests},
		{"Limits.Connections", s.Limits.Connections},
		{"Limits.Source.Requests", s.Limits.Source.Requests},
		{"Limits.Source.Connections", s.Limits.Source.Connections},
	} {
		fault(n.value < 0, n.field, "%d is negative", n.value)
	}
	fault(!slices.Contains([]haproxycfg.Balance{"", haproxycfg.LeastConn, haproxycfg.RoundRobin, haproxycfg.Random}, s.Balance),
		"Balance", "%q is not leastconn, roundrobin or random", s.Balance)
	fault(s.Overprovision != 0 && (s.Overprovision < 100 || s.Overprovision > 1000), "Overprovision", "%d is not from 100 to 1000", s.Overprovision)
	fault(s.EjectTime > 0 && s.EjectTime < 30*time.Millisecond, "EjectTime", "%v is shorter than 30ms", s.EjectTime)

	fault(!slices.Contains([]haproxycfg.Protocol{"", haproxycfg.HTTP1, haproxycfg.H2C, haproxycfg.GRPC}, s.Protocol),
		"Protocol", "%q is not http1, h2c or grpc", s.Protocol)
	fault(!slices.Contains([]haproxycfg.Reuse{"", haproxycfg.ReuseNever, haproxycfg.ReuseSafe, haproxycfg.ReuseAggressive, haproxycfg.ReuseAlways}, s.Reuse),
		"Reuse", "%q is not never, safe, aggressive or always", s.Reuse)
	for i, e := range s.RetryOn {
		fault(!slices.Contains(retryEvents, e), "RetryOn", "%q is not one of %v", e, retryEvents)
		fault(slices.Contains(s.RetryOn[:i], e), "RetryOn", "%q occurs twice", e)
	}
	fault(s.HealthPath != "" && !strings.HasPrefix(s.HealthPath, "/"), "HealthPath", "%q does not begin with a slash", s.HealthPath)
	fault(!isWord(s.HealthPath) || strings.Contains(s.HealthPath, "#"), "HealthPath", "%q is not a request path", s.HealthPath)
	fault(!isWord(s.HealthHost), "HealthHost", "%q is not a host", s.HealthHost)

	noRetries := s.Retries < 0
	fault(noRetries && len(s.RetryOn) > 0, "RetryOn", "Retries allows no further attempt")
	fault(noRetries && s.RetryPercent > 0, "RetryPercent", "Retries allows no further attempt")
	fault(noRetries && s.RetriesPerSecond > 0, "RetriesPerSecond", "Retries allows no further attempt")
	fault(s.RetryPercent < 0 && s.RetriesPerSecond > 0, "RetriesPerSecond", "RetryPercent sets no limit")
	fault(!s.checks() && s.EjectTime > 0, "EjectTime", "EjectErrors ejects no pods, and HealthPath is empty")
	fault(!s.checks() && s.PanicBelow > 0, "PanicBelow", "EjectErrors ejects no pods, and HealthPath is empty")
	fault(s.HealthHost != "" && s.HealthPath == "", "HealthHost", "HealthPath is empty")
	fault(s.PerPod == 0 && s.Pending > 0, "Pending", "no request waits, because PerPod is 0")
	fault(s.PerPod == 0 && s.QueueTime > 0, "QueueTime", "no request waits, because PerPod is 0")
	fault(s.NoPool && s.PoolPurge > 0, "PoolPurge", "NoPool keeps no idle connections")
	fault(s.HardStop >= 0 && s.hardStop() <= s.grace(), "HardStop", "%v is not longer than Grace, %v", s.hardStop(), s.grace())
	return errors.Join(faults...)
}

var retryEvents = []haproxycfg.RetryEvent{
	haproxycfg.RetryConnFailure, haproxycfg.RetryEmptyResponse, haproxycfg.RetryResponseTimeout, haproxycfg.RetryJunkResponse,
	haproxycfg.Retry502, haproxycfg.Retry503, haproxycfg.Retry504,
}

// isWord reports whether s consists of visible ASCII characters, at most 1,000.
func isWord(s string) bool {
	return len(s) <= 1000 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// checks reports whether HAProxy checks the health of pods.
func (s *Settings) checks() bool { return s.EjectErrors >= 0 || s.HealthPath != "" }

func (s *Settings) grace() time.Duration    { return max(cmp.Or(s.Grace, 5*time.Second), 0) }
func (s *Settings) hardStop() time.Duration { return cmp.Or(s.HardStop, 30*time.Second) }

// orDefault returns n, with two exceptions: def if n is 0, and 0 if n is negative.
func orDefault(n, def int) int { return max(cmp.Or(n, def), 0) }

func (s *Settings) retryBudget() *haproxycfg.RetryBudget {
	if s.Retries < 0 || s.RetryPercent < 0 {
		return nil
	}
	return &haproxycfg.RetryBudget{
		Percent: cmp.Or(s.RetryPercent, 20), PerSecond: orDefault(s.RetriesPerSecond, 3), Switch: MayRetry,
	}
}

// health returns the health check. After an ejection, HAProxy uses the pod again after three good
// checks. The first check comes within one interval, so an ejection lasts two to three intervals.
//
// inter and fastinter are the same. A different fastinter would not apply to the first check, because
// HAProxy has scheduled this check before it ejects the pod.
func (s *Settings) health() haproxycfg.Health {
	every := (cmp.Or(s.EjectTime, 30*time.Second) / 3).Truncate(time.Millisecond)
	return haproxycfg.Health{Path: s.HealthPath, Host: s.HealthHost, Interval: every, FastInterval: every, Rise: 3, Fall: 3}
}

func (s *Settings) options(eject bool) haproxycfg.ServerOptions {
	o := haproxycfg.ServerOptions{MaxConn: s.PerPod, SlowStart: s.SlowStart, NoPool: s.NoPool}
	if eject {
		o.EjectErrors = orDefault(s.EjectErrors, 10)
	}
	if !s.NoPool {
		o.PoolPurge = cmp.Or(s.PoolPurge, time.Second)
	}
	return o
}
