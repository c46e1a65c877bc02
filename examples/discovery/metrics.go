package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// metrics are the metrics of the server. The label route is "pods", "prometheus", "envoy" or
// "other".
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	services prometheus.Gauge
	pods     *prometheus.GaugeVec
	changes  prometheus.Counter
	problems prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: cli.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_discovery_requests_total", Help: "Requests by route (pods, prometheus, envoy, other), status code and method.",
		}, []string{"route", "code", "method"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_discovery_services", Help: "Services that have an EndpointSlice.",
		}),
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "headgate_discovery_pods", Help: "Pods of all service ports, by condition (accepting, draining, not_ready).",
		}, []string{"condition"}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_discovery_service_changes_total", Help: "Services that were added, changed or removed.",
		}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_discovery_problems", Help: "Objects and files that cannot be used in full.",
		}),
	}
	m.registry.MustRegister(m.requests, m.services, m.pods, m.changes, m.problems)
	return m
}

// instrument wraps the handler of a route to count its requests.
func (m *metrics) instrument(route string, h http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(prometheus.Labels{"route": route}), h)
}

// watch adds the metric whose value comes from api: the number of requests that wait for a change.
func (m *metrics) watch(api *httpapi.Handler) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_discovery_waiting", Help: "Requests that wait for a change.",
	}, func() float64 { return float64(api.Waiting()) }))
}

// watchAge adds the metric of the age of the pods.
func (m *metrics) watchAge(age func() time.Duration) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_discovery_age_seconds", Help: "Age of the pods: 0 while the API server answers, otherwise the time since its last good answer.",
	}, func() float64 { return age().Seconds() }))
}
