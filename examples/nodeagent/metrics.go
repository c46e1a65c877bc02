package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

// metrics of an agent. The label service is empty for the node itself. It has the
// values of those services alone that are answered for: services come and go for as
// long as the agent runs.
type metrics struct {
	registry *prometheus.Registry
	mu       sync.RWMutex
	services map[string]bool // that are answered for
	said     string          // the reason that is shown
	checks   *prometheus.CounterVec
	duration prometheus.Histogram
	weight   *prometheus.GaugeVec
	drain    *prometheus.GaugeVec
	problems prometheus.Gauge
	ports    prometheus.Gauge
	reason   *prometheus.GaugeVec
	cluster  map[string]prometheus.Gauge // by name
}

func newMetrics(contact func() time.Time) *metrics {
	m := &metrics{
		registry: cli.NewRegistry(),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_agent_checks_total", Help: "Agent checks by service and outcome (answered, failed).",
		}, []string{"service", "outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "headgate_agent_check_duration_seconds", Help: "Time from accepting an agent check to its answer.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 4, 8),
		}),
		weight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_agent_weight_percent", Help: "Weight that is answered for a service.",
		}, []string{"service"}),
		drain: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_agent_draining", Help: "1 where the answer is to drain.",
		}, []string{"service"}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_agent_problems", Help: "Manifests and annotations that could not be followed, ports that could not be opened among them.",
		}),
		ports: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_agent_ports", Help: "Ports that are open for agent checks.",
		}),
		reason: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_agent_drain_reason", Help: "1 for what asks for the node's drain, or did until its hold-down ends.",
		}, []string{"reason"}),
		cluster: map[string]prometheus.Gauge{},
	}
	m.registry.MustRegister(m.checks, m.duration, m.weight, m.drain, m.problems, m.ports, m.reason)
	for name, help := range map[string]string{
		drainWanted:    "1 while something asks for the node's drain.",
		drainEffective: "1 while the node drains.",
		drainWaiting:   "1 while the node's drain is asked for and waits, since as many nodes drain as may.",
		drainLimit:     "Nodes that may drain at once.",
		nodesTotal:     "Nodes that share the cluster's load.",
		nodesDraining:  "Nodes that drain, as far as the agent sees.",
		nodesWaiting:   "Nodes whose drain waits, as far as the agent sees.",
		apiUp:          "1 while the API server answers.",
		drainHeldDown:  "1 while the node drains and nothing asks for it any more.",
	} {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		m.cluster[name] = g
		m.registry.MustRegister(g)
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_agent_api_last_contact_timestamp_seconds", Help: "When the API server, or the directory, was last heard; 0 if never.",
	}, func() float64 {
		if last := contact(); !last.IsZero() {
			return float64(last.UnixMilli()) / 1000
		}
		return 0
	}))
	return m
}

// Names of gauges about the node and its cluster.
const (
	drainWanted    = "headgate_agent_drain_wanted"
	drainEffective = "headgate_agent_drain_effective"
	drainWaiting   = "headgate_agent_drain_waiting"
	drainHeldDown  = "headgate_agent_drain_held_down"
	drainLimit     = "headgate_agent_drain_limit"
	nodesTotal     = "headgate_agent_nodes"
	nodesDraining  = "headgate_agent_nodes_draining"
	nodesWaiting   = "headgate_agent_nodes_waiting"
	apiUp          = "headgate_agent_api_up"
)

func (m *metrics) finished(service string, x agentcheck.Exchange) {
	outcome := "answered"
	if x.Err != nil {
		outcome = "failed"
	}
	m.duration.Observe(x.Duration.Seconds())
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.services[service] { // not gone since it was asked for
		m.checks.WithLabelValues(service, outcome).Inc()
	}
}

// state shows a new state. Values change one by one and are never absent meanwhile,
// since they may be read at any time.
func (m *metrics) state(s nodeagent.State, ports int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := s.Drain
	for name, value := range map[string]int{
		drainWanted: oneIf(d.Requested), drainEffective: oneIf(d.Effective),
		drainWaiting: oneIf(d.Requested && !d.Effective), drainHeldDown: oneIf(d.Effective && !d.Requested),
		drainLimit: d.Limit, nodesTotal: d.Total, nodesDraining: d.Draining, nodesWaiting: d.Waiting,
		apiUp: oneIf(s.Err == nil),
	} {
		m.cluster[name].Set(float64(value))
	}
	if d.Reason != m.said {
		m.reason.Reset()
		if m.said = d.Reason; m.said != "" {
			m.reason.WithLabelValues(m.said).Set(1)
		}
	}
	m.ports.Set(float64(ports))
	before := m.services
	m.services = make(map[string]bool, len(s.Answers))
	for _, a := range s.Answers {
		m.services[a.Service] = true
		if percent, ok := a.Reply.Weight.Percent(); ok {
			m.weight.WithLabelValues(a.Service).Set(float64(percent))
		}
		drain := 0.0
		if a.Reply.Admin >= agentcheck.Drain {
			drain = 1
		}
		m.drain.WithLabelValues(a.Service).Set(drain)
	}
	for service := range before {
		if !m.services[service] {
			gone := prometheus.Labels{"service": service}
			m.checks.DeletePartialMatch(gone)
			m.weight.Delete(gone)
			m.drain.Delete(gone)
		}
	}
	m.problems.Set(float64(len(s.Problems) + len(s.Answers) - ports))
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}
