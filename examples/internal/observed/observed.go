// Package observed exports a Prometheus metric for the flag -observe of terminator: how many requests
// HAProxy would refuse or change without -observe.
package observed

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Collector asks HAProxy for its counters at each scrape. It exports nothing if HAProxy does not
// answer.
type Collector struct {
	Socket runtimeapi.Socket // the stats socket of HAProxy
}

var desc = prometheus.NewDesc("headgate_terminator_observed_total",
	"Requests that HAProxy would refuse, or change, without -observe. An HAProxy process begins with 0.", []string{"reason"}, nil)

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) { ch <- desc }

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	answer, err := c.Socket.Do(context.Background(), haproxycfg.ObservedCommand)
	if err != nil {
		return
	}
	for reason, n := range haproxycfg.ParseObserved(answer) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), string(reason))
	}
}
