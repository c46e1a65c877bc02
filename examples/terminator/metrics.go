package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/examples/internal/cli"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// metrics of a terminator that follows changes.
type metrics struct {
	registry    *prometheus.Registry
	applies     *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	lastSuccess prometheus.Gauge
	servers     prometheus.Gauge
	services    prometheus.Gauge
	problemsNow prometheus.Gauge
	checks      prometheus.Gauge
	refusedNow  prometheus.Gauge
	refusedSize prometheus.Gauge
	leader      prometheus.Gauge
	clusters    *clusterMetrics
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: cli.NewRegistry(),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_terminator_applies_total", Help: "Attempts to bring a state into force, by outcome (written, unchanged, refused, failed).",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headgate_terminator_apply_duration_seconds", Help: "Time that attempts took by outcome, with HAProxy's check and reload.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}, []string{"outcome"}),
		lastSuccess: gauge("headgate_terminator_last_success_timestamp_seconds", "When the state of routes and clusters was last known to be in force."),
		servers:     gauge("headgate_terminator_servers", "Servers of the configuration in force."),
		services:    gauge("headgate_terminator_subsets", "Service ports that were resolved at the last attempt, each with its subset of nodes."),
		problemsNow: gauge("headgate_terminator_problems", "Problems that were found at the last attempt, without warnings."),
		checks:      gauge("headgate_terminator_checks_per_second", "Health and agent checks that one HAProxy makes with the configuration of the last attempt."),
		refusedNow:  gauge("headgate_terminator_refused", "1 while a change is not in force: it is larger than -max-change, or HAProxy does not take it."),
		refusedSize: gauge("headgate_terminator_refused_share", "Share of the servers in force that the change which is not in force takes away or alters."),
		leader:      gauge("headgate_terminator_leader", "1 while this terminator may write."),
		clusters:    &clusterMetrics{},
	}
	m.registry.MustRegister(m.applies, m.duration, m.lastSuccess, m.servers, m.services, m.problemsNow, m.checks, m.refusedNow, m.refusedSize, m.leader, m.clusters)
	for _, o := range []outcome{written, unchanged, refused, failed} {
		m.applies.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) applied(o outcome, took time.Duration, at time.Time) {
	m.applies.WithLabelValues(string(o)).Inc()
	m.duration.WithLabelValues(string(o)).Observe(took.Seconds())
	if o == written || o == unchanged {
		m.lastSuccess.Set(float64(at.UnixMilli()) / 1000)
	}
}

func (m *metrics) built(b built) {
	problems := 0
	for _, p := range b.report.Problems {
		if !p.Warning {
			problems++
		}
	}
	m.problemsNow.Set(float64(problems))
	m.services.Set(float64(len(b.report.Services)))
	m.checks.Set(b.report.Budget.Now.Total)
}

func (m *metrics) inForce(servers int) { m.servers.Set(float64(servers)) }

// refused shows the change that is not in force, nil for none.
func (m *metrics) refused(c *kube.Changes) {
	now, share := 0.0, 0.0
	if c != nil {
		now, share = 1, deploy.Diff{Servers: c.Servers}.ServerShare()
	}
	m.refusedNow.Set(now)
	m.refusedSize.Set(share)
}

func (m *metrics) leads(yes bool) {
	m.leader.Set(0)
	if yes {
		m.leader.Set(1)
	}
}

// clusterMetrics show the contact with each cluster as of when they are asked.
type clusterMetrics struct {
	mu       sync.Mutex
	clusters []clusterState
}

var (
	clusterUp = prometheus.NewDesc("headgate_terminator_cluster_up",
		"1 while the cluster answers.", []string{"cluster"}, nil)
	clusterContact = prometheus.NewDesc("headgate_terminator_cluster_last_contact_timestamp_seconds",
		"When the cluster last answered; 0 if it never did.", []string{"cluster"}, nil)
	clusterObjects = prometheus.NewDesc("headgate_terminator_cluster_objects",
		"Objects that are known of the cluster, by kind.", []string{"cluster", "kind"}, nil)
)

func (c *clusterMetrics) seen(in state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clusters = in.clusters
}

// Describe implements prometheus.Collector.
func (c *clusterMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- clusterUp
	ch <- clusterContact
	ch <- clusterObjects
}

// Collect implements prometheus.Collector.
func (c *clusterMetrics) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	clusters := c.clusters
	c.mu.Unlock()
	for i := range clusters {
		k := &clusters[i]
		up, contact := 0.0, 0.0
		switch {
		case k.synced && k.err == nil:
			up, contact = 1, float64(time.Now().Unix())
		case k.synced:
			contact = float64(k.since.Unix())
		}
		ch <- prometheus.MustNewConstMetric(clusterUp, prometheus.GaugeValue, up, k.name)
		ch <- prometheus.MustNewConstMetric(clusterContact, prometheus.GaugeValue, contact, k.name)
		ch <- prometheus.MustNewConstMetric(clusterObjects, prometheus.GaugeValue, float64(len(k.objects.Nodes)), k.name, "node")
		ch <- prometheus.MustNewConstMetric(clusterObjects, prometheus.GaugeValue, float64(len(k.objects.Services)), k.name, "service")
	}
}
