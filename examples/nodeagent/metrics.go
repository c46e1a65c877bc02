package main

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/kube"
	"github.com/headgate/headgate/examples/internal/cli"
)

// metrics of an agent. The label service is empty for the node itself. It has the
// values of those services alone that are answered for: services come and go for as
// long as the agent runs.
type metrics struct {
	registry *prometheus.Registry
	mu       sync.RWMutex
	services map[string]bool // that are answered for
	checks   *prometheus.CounterVec
	duration prometheus.Histogram
	weight   *prometheus.GaugeVec
	drain    *prometheus.GaugeVec
	problems prometheus.Gauge
}

func newMetrics() *metrics {
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
			Name: "headgate_agent_problems", Help: "Manifests and annotations that could not be followed.",
		}),
	}
	m.registry.MustRegister(m.checks, m.duration, m.weight, m.drain, m.problems)
	return m
}

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
func (m *metrics) state(s kube.State, problems int) {
	m.mu.Lock()
	defer m.mu.Unlock()
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
	m.problems.Set(float64(problems))
}
