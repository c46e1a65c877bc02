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

// metrics are the metrics of a front proxy. All of them have the labels "service" and "proxy_zone".
type metrics struct {
	*cli.Metrics
	proxy    *proxy
	commands prometheus.Counter
	reloads  prometheus.Counter
}

func newMetrics(p *proxy) *metrics {
	c := cli.NewMetrics(program, prometheus.Labels{"service": p.controller.Proxy.Service, "proxy_zone": p.controller.Proxy.Zone})
	m := &metrics{
		Metrics:  c,
		proxy:    p,
		commands: c.Counter("runtime_commands_total", "Changes of servers and variables without a reload."),
		reloads:  c.Counter("reloads_total", "Reloads of HAProxy."),
	}
	m.Scraped(
		m.send,
		cli.Define("pod_requests_total", "Requests that HAProxy has sent to a pod.", "zone", "pod"),
		cli.Define("pod_errors_total", "Answers of a pod with the status 500 to 599.", "zone", "pod"),
		cli.Define("pod_failures_total", "Connections to a pod that failed, and answers that were cut off.", "zone", "pod"),
		cli.Define("pod_requests_in_flight", "Requests without a complete answer.", "zone", "pod"),
		cli.Define("pod_up", "1 if HAProxy sends requests to the pod, 0 while the pod is ejected or gone.", "zone", "pod"),
		cli.Define("server_info", "1 for each server of HAProxy that has a pod.", "backend", "server", "zone", "pod", "node"),
		cli.Define("pods", "Pods by zone and state (in_service, not_ready, expected, terminating). A pod that counts for terminating is in service too, because no pod of the service is ready.", "zone", "state"),
		cli.Define("source_up", "1 while the source of the pods answers and its answer is not doubtful."),
		cli.Define("source_age_seconds", "Age of the list of pods: 0 while the list is up to date."),
		cli.Define("policy_good", "1 if the policy file is in force, 0 while an older policy is."),
		cli.Define("change_good", "1 if the last change of the configuration is in force."),
		cli.Define("changes_total", "Changes of the configuration that are in force."),
		cli.Define("haproxy_up", "1 while HAProxy runs and answers."),
		cli.Define("haproxy_starts_total", "Starts of HAProxy by this program."),
		cli.Define("draining", "1 while a drain is in force."),
	)
	return m
}

func (m *metrics) runtimeChanged(c deploy.RuntimeChange) {
	m.commands.Add(float64(c.Commands))
	if c.Reload != "" {
		m.reloads.Inc()
	}
}

// send sends the present value of each metric to the scrape of Prometheus.
func (m *metrics) send(send cli.Send) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	traffic, err := m.proxy.controller.Traffic(ctx)
	for _, t := range traffic {
		send("pod_requests_total", float64(t.Requests), t.Zone, t.Pod)
		send("pod_errors_total", float64(t.Errors), t.Zone, t.Pod)
		send("pod_failures_total", float64(t.Failures), t.Zone, t.Pod)
		send("pod_requests_in_flight", float64(t.InFlight), t.Zone, t.Pod)
		send("pod_up", cli.OneIf(t.Up), t.Zone, t.Pod)
	}
	s := m.proxy.controller.Status()
	for _, server := range s.Servers {
		send("server_info", 1, server.Backend, server.Server, server.Zone, server.Pod, server.Node)
	}
	for zone, z := range s.Zones {
		send("pods", float64(z.InService), zone, "in_service")
		send("pods", float64(z.Other), zone, "not_ready")
		send("pods", float64(z.Terminating), zone, "terminating")
		send("pods", float64(z.Expected), zone, "expected")
	}
	age := 0.0
	if !s.Since.IsZero() {
		age = max(time.Since(s.Since).Seconds(), 0)
	}
	send("source_up", cli.OneIf(s.Known && s.SourceErr == nil))
	send("source_age_seconds", age)
	send("policy_good", cli.OneIf(s.PolicyErr == nil))
	send("change_good", cli.OneIf(s.ApplyErr == nil))
	send("changes_total", float64(s.Applied))
	send("draining", cli.OneIf(m.proxy.drainer.Progress().State != drain.Serving))
	up := err == nil
	if own := m.proxy.supervisor; own != nil {
		state := own.State()
		up = up && (state.Phase == supervisor.Running || state.Phase == supervisor.Draining)
		send("haproxy_starts_total", float64(state.Starts))
	}
	send("haproxy_up", cli.OneIf(up))
}
