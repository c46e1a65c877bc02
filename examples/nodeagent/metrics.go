package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/kube"
	"github.com/headgate/headgate/examples/internal/cli"
)

// metrics of an agent. The label service is empty for the node itself.
type metrics struct {
	registry *prometheus.Registry
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
	m.checks.WithLabelValues(service, outcome).Inc()
	m.duration.Observe(x.Duration.Seconds())
}

func (m *metrics) state(s kube.State, problems int) {
	m.weight.Reset()
	m.drain.Reset()
	for _, a := range s.Answers {
		if percent, ok := a.Reply.Weight.Percent(); ok {
			m.weight.WithLabelValues(a.Service).Set(float64(percent))
		}
		drain := 0.0
		if a.Reply.Admin >= agentcheck.Drain {
			drain = 1
		}
		m.drain.WithLabelValues(a.Service).Set(drain)
	}
	m.problems.Set(float64(problems))
}
