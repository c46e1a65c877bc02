package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// metrics are the metrics of the API. The label route is "hosts", "changes" or "other".
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	hosts    prometheus.Gauge
	changes  prometheus.Counter
	refused  prometheus.Gauge
	problems *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: cli.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_hostapi_requests_total", Help: "Requests by route (hosts, changes, other), status code and method.",
		}, []string{"route", "code", "method"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headgate_hostapi_host_duration_seconds", Help: "Time that a request about a host took.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 4, 8),
		}, nil),
		hosts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_hostapi_hosts", Help: "Hosts that are known, wildcards as one.",
		}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_hostapi_host_changes_total", Help: "Hosts that were added, changed or removed.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_hostapi_change_refused", Help: "1 while a change is refused because too many hosts would go at once.",
		}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_hostapi_problems", Help: "What could not be read or followed, by source.",
		}, []string{"source"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.hosts, m.changes, m.refused, m.problems)
	return m
}

// instrument wraps the handler of a route. It counts the requests, and measures the duration of
// requests for a host.
func (m *metrics) instrument(route string, h http.Handler) http.Handler {
	h = promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(prometheus.Labels{"route": route}), h)
	if route == "hosts" {
		h = promhttp.InstrumentHandlerDuration(m.duration, h)
	}
	return h
}

// watch adds the metric whose value comes from api: the number of requests that wait for a change.
func (m *metrics) watch(api *httpapi.Handler) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_hostapi_followers", Help: "Requests that wait for a change.",
	}, func() float64 { return float64(api.Waiting()) }))
}
