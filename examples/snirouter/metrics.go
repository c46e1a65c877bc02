package main

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// metrics are the metrics of a router. No label has a value that a client can choose; otherwise
// clients could create any number of series.
type metrics struct {
	*cli.Metrics
	connections *prometheus.CounterVec
	limited     *prometheus.CounterVec
	answers     *prometheus.CounterVec
	lookups     *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	ech         *prometheus.CounterVec // nil without -ech-keys
	phases      *prometheus.HistogramVec
	logDropped  prometheus.Counter
	logOmitted  prometheus.Counter

	// Each connection updates the counters and observers below. They are fields, so that a
	// connection need not look them up by their labels.
	sent, received            prometheus.Counter
	peek, lookup, dial, total prometheus.Observer
}

func newMetrics() *metrics {
	c := cli.NewMetrics("router", nil)
	m := &metrics{
		Metrics:     c,
		connections: c.CounterVec("connections_total", "Connections that have ended, by protocol (tls, http/1, h2c, quic, unknown) and outcome.", "protocol", "outcome"),
		limited:     c.CounterVec("limited_total", "Connections that were refused or closed because of a limit, by reason (full, source, silent, idle, host, host_rate).", "reason"),
		answers:     c.CounterVec("answers_total", "Answers of the router itself, by protocol and code: an HTTP status or a TLS alert.", "protocol", "code"),
		lookups:     c.CounterVec("lookups_total", "Lookups of a host, by the source of the answer (hit, miss, negative, stale, failed).", "level"),
		bytes:       c.CounterVec("bytes_total", "Bytes of connections that have ended, by direction (sent to upstreams, received from upstreams).", "direction"),
		phases:      c.HistogramVec("phase_duration_seconds", "Time that a connection spent in each phase: until it named a host (peek), in the lookup, in the dial, and in total.", prometheus.ExponentialBuckets(50e-6, 4, 14), "phase"),
		logDropped:  c.Counter("log_dropped_total", "Lines of the access log that were dropped, because the router could not write them fast enough."),
		logOmitted:  c.Counter("log_omitted_total", "Connections with a fault that have no line in the access log, because of -log-faults."),
	}
	m.sent, m.received = m.bytes.WithLabelValues("sent"), m.bytes.WithLabelValues("received")
	m.peek, m.lookup = m.phases.WithLabelValues("peek"), m.phases.WithLabelValues("lookup")
	m.dial, m.total = m.phases.WithLabelValues("dial"), m.phases.WithLabelValues("total")
	for _, p := range []peek.Protocol{peek.TLS, peek.HTTP1, peek.HTTP2, peek.QUIC} {
		m.connections.WithLabelValues(p.String(), sniproxy.Relayed.String())
	}
	for level := hostlookup.Miss; level <= hostlookup.Failed; level++ {
		m.lookups.WithLabelValues(level.String())
	}
	for _, l := range limitReasons {
		m.limited.WithLabelValues(l.reason)
	}
	return m
}

// limitReasons lists the values that the label "reason" of the metric limited_total can have.
var limitReasons = []struct {
	err    error
	reason string
}{
	{sniproxy.ErrTooManyConns, "full"},
	{sniproxy.ErrTooManyFromSource, "source"},
	{sniproxy.ErrEvicted, "silent"},
	{sniproxy.ErrEvictedIdle, "idle"},
	{sniproxy.ErrTooManyForHost, "host"},
	{sniproxy.ErrHostRate, "host_rate"},
}

// finished counts a connection that has ended.
func (m *metrics) finished(s sniproxy.Stats) {
	m.connections.WithLabelValues(s.Protocol.String(), s.Outcome.String()).Inc()
	if s.Answer != 0 {
		m.answers.WithLabelValues(s.Protocol.String(), strconv.Itoa(s.Answer)).Inc()
	}
	if s.Err != nil {
		for _, l := range limitReasons {
			if errors.Is(s.Err, l.err) {
				m.limited.WithLabelValues(l.reason).Inc()
			}
		}
	}
	if s.ECHResult != sniproxy.ECHNone {
		m.ech.WithLabelValues(s.ECHResult.String()).Inc()
	}
	if s.LookedUp {
		m.lookups.WithLabelValues(s.Level.String()).Inc()
	}
	m.sent.Add(float64(s.ToUpstream))
	m.received.Add(float64(s.ToClient))
	for _, phase := range []struct {
		took     float64
		observer prometheus.Observer
	}{{s.Peek.Seconds(), m.peek}, {s.Lookup.Seconds(), m.lookup}, {s.Dial.Seconds(), m.dial}, {s.Total.Seconds(), m.total}} {
		if phase.took > 0 { // 0 means that the phase did not end
			phase.observer.Observe(phase.took)
		}
	}
}

// watchServer adds the metrics whose values each scrape reads from the server and the drainer.
func (m *metrics) watchServer(srv *sniproxy.Server, d *drain.Drainer) {
	m.GaugeFunc("connections", "Connections that are open.", func() float64 { return float64(srv.Load().Conns) })
	m.GaugeFunc("connections_quic", "Open connections that use QUIC.", func() float64 { return float64(srv.Load().QUIC) })
	m.GaugeFunc("connections_peeking", "Open connections that have not named a host yet.", func() float64 { return float64(srv.Load().Peeking) })
	m.GaugeFunc("pipes", "Pipes that the router holds for bulk transfers.", func() float64 { return float64(srv.Load().Pipes) })
	m.CounterFunc("shed_total", "Connections that were closed right after accept, because no file descriptor was free.", nil, func() float64 { return float64(srv.Load().Shed) })
	m.GaugeFunc("draining", "1 while the router drains, from /drain or SIGTERM on.", func() float64 { return cli.OneIf(d.Ready() != nil) })
}

// watchECH adds the metrics for -ech-keys. Call it before the first connection.
func (m *metrics) watchECH(k *echKeys) {
	m.ech = m.CounterVec("ech_total", "TLS connections with an Encrypted ClientHello that have ended, by result: accepted, grease (no key for it: random bytes, or an old key) or failed (it cannot be decrypted, or breaks RFC 9849).", "result")
	for _, r := range []sniproxy.ECHResult{sniproxy.ECHAccepted, sniproxy.ECHGrease, sniproxy.ECHFailed} {
		m.ech.WithLabelValues(r.String())
	}
	m.GaugeFunc("ech_keys", "ECH keys in force.", func() float64 { return float64(k.count()) })
	m.GaugeFunc("ech_keys_failed", "1 if the router cannot read the directory of -ech-keys, or cannot use a file in it. The last good keys stay in force.", func() float64 { return cli.OneIf(k.failed.Load()) })
}

// watchHosts adds the metrics whose values each scrape reads from the hosts file, the cache and the
// feed, which reads the changes of the API.
func (m *metrics) watchHosts(h *hosts) {
	if h.file != nil {
		m.GaugeFunc("file_hosts", "Hosts in the file of -hosts.", func() float64 { return float64(h.file.Hosts().Len()) })
		m.GaugeFunc("file_problems", "Entries in the file of -hosts that the router cannot use.", func() float64 { return float64(h.fileProblems.Load()) })
	}
	if h.cache == nil {
		return
	}
	if h.apiTLS.GetClientCertificate != nil {
		m.MustRegister(cli.PairExpiry("router", h.tlsFlags.Certificate, h.apiTLS.GetClientCertificate))
	}
	stat := func(f func(hostlookup.Stats) uint64) func() float64 {
		return func() float64 { return float64(f(h.cache.Stats())) }
	}
	m.GaugeFunc("cache_hosts", "Known hosts in the cache.", func() float64 { return float64(h.cache.Stats().Hosts) })
	m.GaugeFunc("cache_aliases", "Hosts in the cache that share the endpoint of another name, such as a wildcard.", func() float64 { return float64(h.cache.Stats().Aliases) })
	m.GaugeFunc("cache_negative", "Hosts in the cache that the API does not have, or whose last call failed.", func() float64 { return float64(h.cache.Stats().Negative) })
	m.GaugeFunc("api_calls_in_flight", "Calls of the API that run, or wait for their turn.", func() float64 { return float64(h.cache.Stats().InFlight) })
	m.CounterFunc("api_calls_total", "Calls of the API.", nil, stat(func(s hostlookup.Stats) uint64 { return s.Calls }))
	m.CounterFunc("api_not_found_total", "Calls of the API whose host was not found.", nil, stat(func(s hostlookup.Stats) uint64 { return s.NotFound }))
	m.CounterFunc("api_errors_total", "Calls of the API that failed.", nil, stat(func(s hostlookup.Stats) uint64 { return s.Errors }))
	m.CounterFunc("cache_evicted_total", "Hosts that left the cache to make room for others, by kind (known, alias, negative).", prometheus.Labels{"kind": "known"}, stat(func(s hostlookup.Stats) uint64 { return s.Evicted }))
	m.CounterFunc("cache_evicted_total", "Hosts that left the cache to make room for others, by kind (known, alias, negative).", prometheus.Labels{"kind": "alias"}, stat(func(s hostlookup.Stats) uint64 { return s.EvictedAliases }))
	m.CounterFunc("cache_evicted_total", "Hosts that left the cache to make room for others, by kind (known, alias, negative).", prometheus.Labels{"kind": "negative"}, stat(func(s hostlookup.Stats) uint64 { return s.EvictedNegative }))
	if h.feed != nil {
		m.CounterFunc("feed_errors_total", "Failures of the feed of -changes.", nil, func() float64 { return float64(h.feedErrors.Load()) })
	}
}
