package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// metrics are the metrics of the discovery API. The label "route" says which part of the API got a
// request: "pods", "prometheus", "envoy" or "other".
type metrics struct {
	*cli.Metrics
	requests *prometheus.CounterVec
	services prometheus.Gauge
	pods     *prometheus.GaugeVec
	changes  prometheus.Counter
	problems prometheus.Gauge
}

func newMetrics() *metrics {
	c := cli.NewMetrics(program, nil)
	return &metrics{
		Metrics:  c,
		requests: c.CounterVec("requests_total", "Requests by route (pods, prometheus, envoy, other), status code and method.", "route", "code", "method"),
		services: c.Gauge("services", "Services that have an EndpointSlice."),
		pods:     c.GaugeVec("pods", "Pods of all service ports, by condition (accepting, draining, not_ready).", "condition"),
		changes:  c.Counter("service_changes_total", "Services that were added, changed or removed."),
		problems: c.Gauge("problems", "Objects and files that cannot be used in full."),
	}
}

// instrument wraps the handler of a route to count its requests.
func (m *metrics) instrument(route string, h http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(prometheus.Labels{"route": route}), h)
}

// watch adds the metric "waiting". Each scrape gets the value from "api": the number of requests
// that wait for a change of the pods.
func (m *metrics) watch(api *httpapi.Handler) {
	m.GaugeFunc("waiting", "Requests that wait for a change of the pods.", func() float64 { return float64(api.Waiting()) })
}

// watchAge adds the metric "age_seconds". Each scrape calls the function "age" for the value; see
// the method source.age.
func (m *metrics) watchAge(age func() time.Duration) {
	m.GaugeFunc("age_seconds", "Age of the pods: 0 while the API server answers, otherwise the time since its last good answer.",
		func() float64 { return age().Seconds() })
}
