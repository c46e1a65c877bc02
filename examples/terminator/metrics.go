package main

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/nodeselect"
)

// metrics are the metrics of a terminator that runs without -once and -diff.
type metrics struct {
	registry    *prometheus.Registry
	applies     *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	lastSuccess prometheus.Gauge
	services    prometheus.Gauge
	problemsNow prometheus.Gauge
	special     prometheus.Gauge
	checks      prometheus.Gauge

	certificates *prometheus.GaugeVec
	faultyFiles  prometheus.Gauge
	records      atomic.Pointer[[]certs.Record] // of the certificates in use
}

func newMetrics(status func() controller.Status) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: cli.NewRegistry(),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_terminator_applies_total", Help: "Attempts to bring a state into force, by outcome (written, unchanged, refused, waiting, failed).",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headgate_terminator_apply_duration_seconds", Help: "Time that attempts took by outcome, with HAProxy's check and reload.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}, []string{"outcome"}),
		lastSuccess: gauge("headgate_terminator_last_success_timestamp_seconds", "When the state of routes and clusters was last known to be in force."),
		services:    gauge("headgate_terminator_subsets", "Service ports that were resolved at the last attempt, each with its subset of nodes."),
		problemsNow: gauge("headgate_terminator_problems", "Problems that were found at the last attempt, without warnings."),
		special:     gauge("headgate_terminator_special_nodes", "Nodes with special addresses that are used with a warning, at the last attempt."),
		checks:      gauge("headgate_terminator_checks_per_second", "Health and agent checks that one HAProxy makes with the configuration of the last attempt."),
		certificates: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_terminator_certificates", Help: "Certificates that HAProxy can use, by source: file, or kept if the file no longer contains the certificate.",
		}, []string{"source"}),
		faultyFiles: gauge("headgate_terminator_certificate_problems", "Certificate files that could not be used at the last attempt."),
	}
	m.registry.MustRegister(m.applies, m.duration, m.lastSuccess, m.services, m.problemsNow, m.special, m.checks, statusMetrics{status},
		m.certificates, m.faultyFiles, cli.CertificateExpiry(program, m.expiry))
	for _, o := range []controller.Outcome{controller.Written, controller.Unchanged, controller.Refused, controller.Waits, controller.Failed} {
		m.applies.WithLabelValues(string(o))
	}
	return m
}

// attempted counts an attempt to apply a configuration, and sets the gauges that describe the last
// attempt.
func (m *metrics) attempted(a controller.Attempt) {
	m.applies.WithLabelValues(string(a.Outcome)).Inc()
	m.duration.WithLabelValues(string(a.Outcome)).Observe(a.Duration.Seconds())
	if a.Outcome == controller.Written || a.Outcome == controller.Unchanged {
		m.lastSuccess.Set(float64(a.Begin.Add(a.Duration).UnixMilli()) / 1000)
	}
	if a.Change == nil {
		return
	}
	problems, certificates, special := 0, 0, 0
	for _, p := range a.Change.Report.Problems {
		if !p.Warning {
			problems++
			if p.Object == kube.CertificateObject {
				certificates++
			}
		} else if p.Field == nodeselect.AddressField {
			special++
		}
	}
	m.problemsNow.Set(float64(problems))
	m.special.Set(float64(special))
	m.faultyFiles.Set(float64(certificates))
	m.setCertificates(a.Change.Report.Certificates)
	m.services.Set(float64(len(a.Change.Report.Services)))
	m.checks.Set(a.Change.Report.Budget.Now.Total)
}

// setCertificates sets the metrics of the certificates that HAProxy can use.
func (m *metrics) setCertificates(all []certs.Record) {
	m.records.Store(&all)
	kept := 0
	for _, r := range all {
		if r.Kept {
			kept++
		}
	}
	m.certificates.WithLabelValues("file").Set(float64(len(all) - kept))
	m.certificates.WithLabelValues("kept").Set(float64(kept))
}

// expiry returns the time at which each certificate in use expires. The keys are the names of the
// certificate files.
func (m *metrics) expiry() map[string]time.Time {
	expiry := map[string]time.Time{}
	if all := m.records.Load(); all != nil {
		for _, r := range slices.Backward(*all) { // HAProxy prefers the first certificate of a file
			expiry[r.File] = r.NotAfter
		}
	}
	return expiry
}

// statusMetrics exports the Controller's status at the time of each scrape.
type statusMetrics struct {
	status func() controller.Status
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("headgate_terminator_"+name, help, labels, nil)
}

var (
	descServers        = desc("servers", "Servers of the configuration in force.")
	descRefused        = desc("refused", "1 while a change is not in force: it is larger than -max-change, or HAProxy does not take it.")
	descRefusedShare   = desc("refused_share", "Largest of the shares of hosts, paths, backends and servers in force that the change which is not in force takes away or alters.")
	descWaiting        = desc("reload_waiting", "1 while a change waits for its reload: HAProxy has reloaded often, or has -max-old-workers old processes.")
	descOldWorkers     = desc("old_workers", "Replaced HAProxy processes that still have connections, at the last attempt.")
	descWorkersEnded   = desc("old_workers_ended_total", "Replaced HAProxy processes that the terminator has ended, because a reload had waited for -max-reload-wait.")
	descStreamsCut     = desc("streams_cut_total", "Requests and tunnels that were cut when the terminator ended a replaced HAProxy process.")
	descLeader         = desc("leader", "1 while this terminator may write.")
	descClusterUp      = desc("cluster_up", "1 while the cluster answers.", "cluster")
	descClusterContact = desc("cluster_last_contact_timestamp_seconds", "When the cluster last answered; 0 if it never did.", "cluster")
	descClusterObjects = desc("cluster_objects", "Objects that are known of the cluster, by kind.", "cluster", "kind")
)

// Describe implements prometheus.Collector.
func (statusMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descServers, descRefused, descRefusedShare, descWaiting, descOldWorkers, descWorkersEnded, descStreamsCut, descLeader, descClusterUp, descClusterContact, descClusterObjects} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m statusMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := m.status()
	refused, share, leader := 0.0, 0.0, 0.0
	if c := s.Refused; c != nil {
		refused = 1
		if c.Losses != nil {
			share = c.Losses.Share()
		}
	}
	if s.Leading {
		leader = 1
	}
	gauge(descServers, float64(s.Servers))
	gauge(descRefused, refused)
	gauge(descRefusedShare, share)
	gauge(descLeader, leader)
	waiting := 0.0
	if s.Waiting != nil {
		waiting = 1
	}
	gauge(descWaiting, waiting)
	gauge(descOldWorkers, float64(s.Reloads.OldWorkers))
	ch <- prometheus.MustNewConstMetric(descWorkersEnded, prometheus.CounterValue, float64(s.Reloads.WorkersEnded))
	ch <- prometheus.MustNewConstMetric(descStreamsCut, prometheus.CounterValue, float64(s.Reloads.StreamsCut))
	for _, c := range s.Clusters {
		up, contact := 0.0, 0.0
		switch c.Connectivity.State {
		case kube.Live:
			up, contact = 1, float64(time.Now().Unix())
		case kube.LastKnown:
			contact = float64(c.Connectivity.Since.Unix())
		}
		gauge(descClusterUp, up, c.Name)
		gauge(descClusterContact, contact, c.Name)
		gauge(descClusterObjects, float64(c.Nodes), c.Name, "node")
		gauge(descClusterObjects, float64(c.Services), c.Name, "service")
	}
}
