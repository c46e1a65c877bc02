// Package observed exports a Prometheus metric for the flag -observe of terminator: how many requests
// HAProxy would refuse or change without -observe.
package observed

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Collector asks HAProxy for its counters at each scrape. If HAProxy does not show them, the
// Collector exports nothing, and logs the first such error in a row.
type Collector struct {
	Socket runtimeapi.Socket // the stats socket of HAProxy, or its master socket with a Worker
	Logger *slog.Logger
	fails  atomic.Bool // whether the last scrape failed
}

var desc = prometheus.NewDesc("headgate_terminator_observed_total",
	"Requests that HAProxy would refuse, or change, without -observe. An HAProxy process begins with 0.", []string{"reason"}, nil)

// Describe implements prometheus.Collector.
func (*Collector) Describe(ch chan<- *prometheus.Desc) { ch <- desc }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	answer, err := c.Socket.Do(context.Background(), haproxycfg.ObservedCommand)
	var counts map[haproxycfg.Refusal]uint64
	if err == nil {
		counts, err = haproxycfg.ParseObserved(answer)
	}
	if failed := c.fails.Swap(err != nil); err != nil && !failed {
		c.Logger.Warn("no counters of -observe", "err", err)
	}
	for reason, n := range counts {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), string(reason))
	}
}
