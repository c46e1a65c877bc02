// Package controllermetrics exports the metrics of a controller.Controller to Prometheus:
//
//	m := controllermetrics.New("terminator", c.Status)
//	c.Attempted = m.Attempted
//	admin := cli.Admin{Gatherer: m}
//
// All names begin with "headgate_" and the name of the program.
package controllermetrics

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/nodeselect"
)

// Metrics are the metrics of one Controller.
type Metrics struct {
	*cli.Metrics
	applies      *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	changes      *prometheus.CounterVec
	lastSuccess  prometheus.Gauge
	services     prometheus.Gauge
	problemsNow  prometheus.Gauge
	special      prometheus.Gauge
	checks       prometheus.Gauge
	certificates *prometheus.GaugeVec
	faultyFiles  prometheus.Gauge
	records      atomic.Pointer[[]certs.Record] // the records of the certificates in use
}

// New returns Metrics for a program. Each scrape calls the function "status", from any goroutine.
func New(program string, status func() controller.Status) *Metrics {
	c := cli.NewMetrics(program, nil)
	m := &Metrics{
		Metrics:      c,
		applies:      c.CounterVec("applies_total", "Attempts to apply the latest routes and clusters, by outcome (written, unchanged, refused, waiting, failed).", "outcome"),
		duration:     c.HistogramVec("apply_duration_seconds", "Duration of the attempts by outcome, with HAProxy's check and reload.", prometheus.ExponentialBuckets(0.01, 2, 13), "outcome"),
		changes:      c.CounterVec("haproxy_changes_total", "Changes of the running HAProxy, by way (socket, reload) and the reason for the reload.", "way", "reason"),
		lastSuccess:  c.Gauge("last_success_timestamp_seconds", "Time of the last attempt after which HAProxy served the latest routes and clusters."),
		services:     c.Gauge("subsets", "Service ports that had a subset of nodes at the last attempt."),
		problemsNow:  c.Gauge("problems", "Problems of the last attempt, without warnings."),
		special:      c.Gauge("special_nodes", "Nodes with special addresses that the last attempt used with a warning."),
		checks:       c.Gauge("checks_per_second", "Health and agent checks that one HAProxy makes with the configuration of the last attempt."),
		certificates: c.GaugeVec("certificates", "Certificates that HAProxy can use, by source: file, or kept if the file no longer contains the certificate.", "source"),
		faultyFiles:  c.Gauge("certificate_problems", "Certificate files that could not be used at the last attempt."),
	}
	m.MustRegister(cli.CertificateExpiry(program, m.expiry))
	m.Scraped(
		func(send cli.Send) { sendStatus(status(), send) },
		cli.Define("servers", "Servers of the configuration in force."),
		cli.Define("refused", "1 while a change is not in force, because it is larger than -max-change, or HAProxy refuses it."),
		cli.Define("refused_share", "Size of the refused change: the largest of the shares of hosts, paths, backends and servers that it removes or alters."),
		cli.Define("reload_waiting", "1 while a change waits for its reload, because HAProxy has reloaded often, or has -max-old-workers old processes."),
		cli.Define("old_workers", "Replaced HAProxy processes that still have connections, at the last attempt."),
		cli.Define("old_workers_ended_total", "Replaced HAProxy processes that the terminator has ended, because a reload had waited for -max-reload-wait."),
		cli.Define("streams_cut_total", "Requests and tunnels that were cut when the terminator ended a replaced HAProxy process."),
		cli.Define("journal_errors_total", "Attempts after which the terminator could not write to the journal."),
		cli.Define("hold_age_seconds", "Time since earlier routes are held by terminator rollback; 0 if none are held."),
		cli.Define("canary_age_seconds", "Time since new routes are tried, wait for their trial, or are withdrawn; 0 if the declared routes are approved, and without -canary."),
		cli.Define("canary_withdrawn", "1 while declared routes are withdrawn, because they did harm in their trial."),
		cli.Define("fleet_up", "1 while the terminator can read the orders of -fleet. Without -fleet, the metric is missing."),
		cli.Define("leader", "1 while this terminator may write."),
		cli.Define("cluster_up", "1 while the cluster answers.", "cluster"),
		cli.Define("cluster_last_contact_timestamp_seconds", "Time of the last answer of the cluster; 0 if it has never answered.", "cluster"),
		cli.Define("cluster_objects", "Objects of the cluster that the terminator has read, by kind (node, service).", "cluster", "kind"),
	)
	for _, o := range []controller.Outcome{controller.Written, controller.Unchanged, controller.Refused, controller.Waits, controller.Failed} {
		m.applies.WithLabelValues(string(o))
	}
	m.changes.WithLabelValues("socket", "")
	for _, reason := range deploy.ReloadReasons() {
		m.changes.WithLabelValues("reload", string(reason))
	}
	return m
}

// Observe adds the metric "observed_total": how many requests HAProxy would refuse or change
// without the setting haproxycfg.Global.Observe. worker returns the socket of the HAProxy worker
// that serves new connections, such as the method Worker of a deploy.Runtime. The metric is missing
// while HAProxy's counters cannot be read; only the first failure in a row is logged.
func (m *Metrics) Observe(worker func(context.Context) (runtimeapi.Socket, error), log *slog.Logger) {
	o := &observed{worker: worker, log: log}
	m.Scraped(o.send, cli.Define("observed_total", "Requests that HAProxy would refuse or change without -observe, by reason. A reload of HAProxy begins with 0.", "reason"))
}

// Shifts adds metrics about the routes whose requests a shift moves from one cluster to another.
// Each scrape calls the function "state", from any goroutine. If this function returns an error,
// the scrape has no such metrics.
func (m *Metrics) Shifts(state func() (shift.State, error)) {
	m.Scraped(func(send cli.Send) {
		all, _ := state() // each attempt of the Controller returns the same error
		for _, x := range all.Shifts {
			points, _ := x.Points()
			send("shift_share", float64(points)/shift.AllPoints, x.Route, x.Cluster)
			send("shift_paused", cli.OneIf(x.Status == shift.Paused), x.Route, x.Cluster)
			send("shift_step_age_seconds", max(0, time.Since(x.Since).Seconds()), x.Route, x.Cluster)
			send("shift_left_seconds", max(0, time.Until(x.Expires()).Seconds()), x.Route, x.Cluster)
		}
	},
		cli.Define("shift_share", "Share of the requests of a route, from 0 to 1, that a shift sends to the cluster.", "route", "cluster"),
		cli.Define("shift_paused", "1 while errors, or too few servers, have paused the shift of a route.", "route", "cluster"),
		cli.Define("shift_step_age_seconds", "Time since the present step of the shift began.", "route", "cluster"),
		cli.Define("shift_left_seconds", "Time until the shift of a route expires.", "route", "cluster"))
}

// Attempted counts an attempt of the Controller to apply the latest routes and clusters, and sets
// the gauges that describe the last attempt. Assign Attempted to controller.Controller.Attempted.
func (m *Metrics) Attempted(a controller.Attempt) {
	m.applies.WithLabelValues(string(a.Outcome)).Inc()
	m.duration.WithLabelValues(string(a.Outcome)).Observe(a.Duration.Seconds())
	switch {
	case a.Effect.Reload != "":
		m.changes.WithLabelValues("reload", string(a.Effect.Reload)).Inc()
	case a.Effect.OverSocket():
		m.changes.WithLabelValues("socket", "").Inc()
	}
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
func (m *Metrics) setCertificates(all []certs.Record) {
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
func (m *Metrics) expiry() map[string]time.Time {
	expiry := map[string]time.Time{}
	if all := m.records.Load(); all != nil {
		for _, r := range slices.Backward(*all) { // HAProxy prefers the first certificate of a file
			expiry[r.File] = r.NotAfter
		}
	}
	return expiry
}

// sendStatus sends the values of the Controller's status to a scrape.
func sendStatus(s controller.Status, send cli.Send) {
	share := 0.0
	if s.Refused != nil && s.Refused.Losses != nil {
		share = s.Refused.Losses.Share()
	}
	send("servers", float64(s.Servers))
	send("refused", cli.OneIf(s.Refused != nil))
	send("refused_share", share)
	send("journal_errors_total", float64(s.JournalErrors))
	if s.Fleet != nil {
		send("fleet_up", cli.OneIf(s.Fleet.Read && s.Fleet.Err == nil))
	}
	age := 0.0
	if s.Hold != nil {
		age = max(0, time.Since(s.Hold.Since).Seconds())
	}
	send("hold_age_seconds", age)
	age = 0
	if s.Canary != nil {
		age = max(0, time.Since(s.Canary.Since).Seconds())
	}
	send("canary_age_seconds", age)
	send("canary_withdrawn", cli.OneIf(s.Canary != nil && s.Canary.Withdrawn()))
	send("leader", cli.OneIf(s.Leading))
	send("reload_waiting", cli.OneIf(s.Waiting != nil))
	send("old_workers", float64(s.Reloads.OldWorkers))
	send("old_workers_ended_total", float64(s.Reloads.WorkersEnded))
	send("streams_cut_total", float64(s.Reloads.StreamsCut))
	for _, c := range s.Clusters {
		contact := 0.0
		switch c.Connectivity.State {
		case kube.Live:
			contact = float64(time.Now().Unix())
		case kube.LastKnown:
			contact = float64(c.Connectivity.Since.Unix())
		}
		send("cluster_up", cli.OneIf(c.Connectivity.State == kube.Live), c.Name)
		send("cluster_last_contact_timestamp_seconds", contact, c.Name)
		send("cluster_objects", float64(c.Nodes), c.Name, "node")
		send("cluster_objects", float64(c.Services), c.Name, "service")
	}
}
