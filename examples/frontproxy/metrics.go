package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/supervisor"
)

// metrics are the metrics of a front proxy. All of them have the labels service and proxy_zone.
type metrics struct {
	registry *prometheus.Registry
	proxy    *proxy
	commands prometheus.Counter
	reloads  prometheus.Counter
}

// The series that collect reads from the parts of the proxy at each scrape.
var (
	podRequests = desc("pod_requests_total", "Requests that HAProxy has sent to a pod.", "zone", "pod")
	podErrors   = desc("pod_errors_total", "Answers of a pod with the status 500 to 599.", "zone", "pod")
	podFailures = desc("pod_failures_total", "Connections to a pod that failed, and answers that were cut off.", "zone", "pod")
	podInFlight = desc("pod_requests_in_flight", "Requests without a complete answer.", "zone", "pod")
	podUp       = desc("pod_up", "1 if HAProxy sends requests to the pod, 0 while it is ejected or gone.", "zone", "pod")
	serverInfo  = desc("server_info", "1 for each server of HAProxy that has a pod.", "backend", "server", "zone", "pod", "node")
	podCount    = desc("pods", "Pods by zone and state (in_service, not_ready, expected).", "zone", "state")
	sourceUp    = desc("source_up", "1 while the source of the pods answers and its answer is not doubtful.")
	sourceAge   = desc("source_age_seconds", "How old the pods are: 0 while they are up to date.")
	policyGood  = desc("policy_good", "1 if the policy file is in force, 0 while an older policy is.")
	applyGood   = desc("change_good", "1 if the last change is in force.")
	changes     = desc("changes_total", "Changes of the configuration that are in force.")
	haproxyUp   = desc("haproxy_up", "1 while HAProxy runs and answers.")
	starts      = desc("haproxy_starts_total", "Starts of HAProxy by this program.")
	draining    = desc("draining", "1 while a drain is in force.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("headgate_frontproxy_"+name, help, labels, nil)
}

func newMetrics(p *proxy) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "headgate_frontproxy_" + name, Help: help})
	}
	m := &metrics{
		registry: cli.NewRegistry(), proxy: p,
		commands: counter("runtime_commands_total", "Changes of servers and variables without a reload."),
		reloads:  counter("reloads_total", "Reloads of HAProxy."),
	}
	labels := prometheus.Labels{"service": p.controller.Proxy.Service, "proxy_zone": p.controller.Proxy.Zone}
	prometheus.WrapRegistererWith(labels, m.registry).MustRegister(m.commands, m.reloads, m)
	return m
}

func (m *metrics) runtimeChanged(c deploy.RuntimeChange) {
	m.commands.Add(float64(c.Commands))
	if c.Reload != "" {
		m.reloads.Inc()
	}
}

// Describe implements prometheus.Collector. The series depend on the pods, so it sends none.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		send(d, prometheus.GaugeValue, value, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	traffic, err := m.proxy.controller.Traffic(ctx)
	for _, t := range traffic {
		send(podRequests, prometheus.CounterValue, float64(t.Requests), t.Zone, t.Pod)
		send(podErrors, prometheus.CounterValue, float64(t.Errors), t.Zone, t.Pod)
		send(podFailures, prometheus.CounterValue, float64(t.Failures), t.Zone, t.Pod)
		gauge(podInFlight, float64(t.InFlight), t.Zone, t.Pod)
		gauge(podUp, oneIf(t.Up), t.Zone, t.Pod)
	}
	s := m.proxy.controller.Status()
	for _, server := range s.Servers {
		gauge(serverInfo, 1, server.Backend, server.Server, server.Zone, server.Pod, server.Node)
	}
	for zone, z := range s.Zones {
		gauge(podCount, float64(z.InService), zone, "in_service")
		gauge(podCount, float64(z.Other), zone, "not_ready")
		gauge(podCount, float64(z.Expected), zone, "expected")
	}
	gauge(sourceUp, oneIf(s.Known && s.SourceErr == nil))
	age := 0.0
	if !s.Since.IsZero() {
		age = max(time.Since(s.Since).Seconds(), 0)
	}
	gauge(sourceAge, age)
	gauge(policyGood, oneIf(s.PolicyErr == nil))
	gauge(applyGood, oneIf(s.ApplyErr == nil))
	send(changes, prometheus.CounterValue, float64(s.Applied))
	gauge(draining, oneIf(m.proxy.drainer.Progress().State != drain.Serving))
	up := err == nil
	if own := m.proxy.supervisor; own != nil {
		state := own.State()
		up = up && (state.Phase == supervisor.Running || state.Phase == supervisor.Draining)
		send(starts, prometheus.CounterValue, float64(state.Starts))
	}
	gauge(haproxyUp, oneIf(up))
}

func oneIf(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
