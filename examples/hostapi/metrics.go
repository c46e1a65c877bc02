package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// metrics are the metrics of the API. The label "route" is "hosts", "changes" or "other".
type metrics struct {
	*cli.Metrics
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	hosts    prometheus.Gauge
	changes  prometheus.Counter
	refused  prometheus.Gauge
	problems *prometheus.GaugeVec
}

func newMetrics() *metrics {
	c := cli.NewMetrics(program, nil)
	return &metrics{
		Metrics:  c,
		requests: c.CounterVec("requests_total", "Requests by route (hosts, changes, other), status code and method.", "route", "code", "method"),
		duration: c.HistogramVec("host_duration_seconds", "Time from a request about a host to its answer.", prometheus.ExponentialBuckets(20e-6, 4, 8)),
		hosts:    c.Gauge("hosts", "Hosts that the API has. A wildcard counts as one host."),
		changes:  c.Counter("host_changes_total", "Hosts that were added, changed or removed."),
		refused:  c.Gauge("change_refused", "1 while -max-removed refuses a change."),
		problems: c.GaugeVec("problems", "Entries and files that cannot be used, by source (hosts, routes, cluster NAME).", "source"),
	}
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

// watch adds the metric "followers". Each scrape asks api for the value: the number of requests
// that wait for a change of the hosts.
func (m *metrics) watch(api *httpapi.Handler) {
	m.GaugeFunc("followers", "Requests that wait for a change of the hosts.", func() float64 { return float64(api.Waiting()) })
}
