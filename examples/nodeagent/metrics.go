package main

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

// metrics are the metrics of an agent. The label "service" is "" for the node itself, and otherwise
// the name of a Service. If the present state of the agent does not contain the Service any more,
// metrics deletes the series of this Service.
type metrics struct {
	*cli.Metrics
	checks   *prometheus.CounterVec
	duration prometheus.Observer
	limited  *prometheus.CounterVec
	weight   *prometheus.GaugeVec
	drain    *prometheus.GaugeVec
	problems prometheus.Gauge
	ports    prometheus.Gauge
	reason   *prometheus.GaugeVec
	cluster  []clusterGauge

	mu         sync.RWMutex
	services   map[string]bool // the services in the present state
	lastReason string          // the value of the label reason
}

// clusterGauge is a gauge about the node or its cluster. The function in the field "value" computes
// the value of the gauge from a State.
type clusterGauge struct {
	prometheus.Gauge
	value func(nodeagent.State) float64
}

func newMetrics(lastContact func() time.Time) *metrics {
	c := cli.NewMetrics("agent", nil)
	m := &metrics{
		Metrics:  c,
		checks:   c.CounterVec("checks_total", "Agent checks by service and outcome (answered, failed).", "service", "outcome"),
		duration: c.HistogramVec("check_duration_seconds", "Time from accepting an agent check to its answer.", prometheus.ExponentialBuckets(20e-6, 4, 8)).WithLabelValues(),
		limited:  c.CounterVec("limited_total", "Connections to agent ports that were closed because there were too many, by reason (evicted, full).", "reason"),
		weight:   c.GaugeVec("weight_percent", "Weight that the agent answers for a service.", "service"),
		drain:    c.GaugeVec("draining", "1 if the answer for the service is drain, or a stronger state.", "service"),
		problems: c.Gauge("problems", "Manifests and annotations that the agent cannot use, and ports that it cannot open."),
		ports:    c.Gauge("ports", "Ports that are open for agent checks."),
		reason:   c.GaugeVec("drain_reason", "1 for the reason of the node's drain. During the hold-down, this is the last reason.", "reason"),
	}
	m.limited.WithLabelValues(limitEvicted)
	m.limited.WithLabelValues(limitFull)
	add := func(name, help string, value func(nodeagent.State) float64) {
		m.cluster = append(m.cluster, clusterGauge{c.Gauge(name, help), value})
	}
	type state = nodeagent.State
	add("drain_wanted", "1 while the node has a reason to drain.",
		func(s state) float64 { return cli.OneIf(s.Drain.Requested) })
	add("drain_effective", "1 while the node drains.",
		func(s state) float64 { return cli.OneIf(s.Drain.Effective) })
	add("drain_waiting", "1 while the node has a reason to drain, and must wait because the limit of draining nodes is reached.",
		func(s state) float64 { return cli.OneIf(s.Drain.Requested && !s.Drain.Effective) })
	add("drain_held_down", "1 while the node drains without a reason, until the hold-down ends.",
		func(s state) float64 { return cli.OneIf(s.Drain.Effective && !s.Drain.Requested) })
	add("drain_limit", "Nodes that may drain at once.",
		func(s state) float64 { return float64(s.Drain.Limit) })
	add("nodes", "Nodes that share the cluster's load.",
		func(s state) float64 { return float64(s.Drain.Total) })
	add("nodes_draining", "Nodes that drain, as this agent sees the cluster.",
		func(s state) float64 { return float64(s.Drain.Draining) })
	add("nodes_waiting", "Nodes that wait to drain, as this agent sees the cluster.",
		func(s state) float64 { return float64(s.Drain.Waiting) })
	add("api_up", "1 while the API server answers.",
		func(s state) float64 { return cli.OneIf(s.Err == nil) })
	m.GaugeFunc("api_last_contact_timestamp_seconds", "Time of the last answer of the API server, or of the last reading of the directory; 0 if there was none.", func() float64 {
		if last := lastContact(); !last.IsZero() {
			return float64(last.UnixMilli()) / 1000
		}
		return 0
	})
	return m
}

// Values of the label "reason" of limited_total.
const (
	limitEvicted = "evicted" // the connection made room for a client of another address
	limitFull    = "full"    // the connection was new, and too many connections waited
)

func (m *metrics) finished(service string, x agentcheck.Exchange) {
	switch {
	case x.Evicted:
		m.limited.WithLabelValues(limitEvicted).Inc()
	case errors.Is(x.Err, agentcheck.ErrTooManyConns):
		m.limited.WithLabelValues(limitFull).Inc()
	}
	outcome := "answered"
	if x.Err != nil {
		outcome = "failed"
	}
	m.duration.Observe(x.Duration.Seconds())
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.services[service] { // otherwise the Service was removed during the check
		m.checks.WithLabelValues(service, outcome).Inc()
	}
}

// The method "state" updates the metrics to a new state. It changes each value without deleting the
// series first, so a scrape at the same moment misses no series.
func (m *metrics) state(s nodeagent.State, ports int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.cluster {
		g.Set(g.value(s))
	}
	if reason := s.Drain.Reason; reason != m.lastReason {
		m.lastReason = reason
		m.reason.Reset()
		if reason != "" {
			m.reason.WithLabelValues(reason).Set(1)
		}
	}
	m.ports.Set(float64(ports))
	m.problems.Set(float64(len(s.Problems) + len(s.Answers) - ports))
	before := m.services
	m.services = make(map[string]bool, len(s.Answers))
	for _, a := range s.Answers {
		m.services[a.Service] = true
		if percent, ok := a.Reply.Weight.Percent(); ok {
			m.weight.WithLabelValues(a.Service).Set(float64(percent))
		}
		m.drain.WithLabelValues(a.Service).Set(cli.OneIf(a.Reply.Admin >= agentcheck.Drain))
	}
	for service := range before {
		if !m.services[service] {
			removed := prometheus.Labels{"service": service}
			m.checks.DeletePartialMatch(removed)
			m.weight.Delete(removed)
			m.drain.Delete(removed)
		}
	}
}
