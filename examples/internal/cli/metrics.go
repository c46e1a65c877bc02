package cli

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics creates the metrics of a binary, and registers them in its Registry. The Registry also
// has the metrics of NewRegistry. The name of each metric begins with the same prefix, such as
// "headgate_terminator_". The argument "name" of each method is the name without this prefix.
type Metrics struct {
	*prometheus.Registry
	prefix  string
	labels  prometheus.Labels
	factory promauto.Factory
}

// NewMetrics returns Metrics for a binary. With the program "terminator", the name of each metric
// begins with "headgate_terminator_". All metrics have the given labels.
func NewMetrics(program string, labels prometheus.Labels) *Metrics {
	m := &Metrics{Registry: NewRegistry(), prefix: "headgate_" + program + "_", labels: labels}
	m.factory = promauto.With(prometheus.WrapRegistererWith(labels, prometheus.WrapRegistererWithPrefix(m.prefix, m.Registry)))
	return m
}

// Counter creates a counter without labels.
func (m *Metrics) Counter(name, help string) prometheus.Counter {
	return m.factory.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// CounterVec creates a counter with labels.
func (m *Metrics) CounterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return m.factory.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// CounterFunc creates a counter whose value is the result of f. Each scrape calls f, from any
// goroutine.
func (m *Metrics) CounterFunc(name, help string, labels prometheus.Labels, f func() float64) {
	m.factory.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, f)
}

// Gauge creates a gauge without labels.
func (m *Metrics) Gauge(name, help string) prometheus.Gauge {
	return m.factory.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// GaugeVec creates a gauge with labels.
func (m *Metrics) GaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return m.factory.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// GaugeFunc creates a gauge whose value is the result of f. Each scrape calls f, from any
// goroutine.
func (m *Metrics) GaugeFunc(name, help string, f func() float64) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// HistogramVec creates a histogram. It has no labels if the argument "labels" is empty.
func (m *Metrics) HistogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return m.factory.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// Scraped creates one metric for each Series, a description that Define returns. Each scrape calls
// the function "read", from any goroutine. The function read must call "send" once for each value
// of the metrics.
func (m *Metrics) Scraped(read func(send Send), series ...Series) {
	descs := make(map[string]*prometheus.Desc, len(series))
	for _, s := range series {
		descs[s.name] = prometheus.NewDesc(m.prefix+s.name, s.help, s.labels, m.labels)
	}
	m.MustRegister(scraped{descs, read})
}

// Send adds one value to a scrape. name is the name of a Series, and labels are the values of the
// labels of this Series.
type Send func(name string, value float64, labels ...string)

// Series describes one metric that Scraped creates.
type Series struct {
	name, help string
	labels     []string
}

// Define returns the description of a metric, for Scraped. name has no prefix; a name that ends
// with "_total" makes a counter, and any other name a gauge. labels are the names of the labels.
func Define(name, help string, labels ...string) Series { return Series{name, help, labels} }

// scraped is the Prometheus collector that Scraped registers.
type scraped struct {
	descs map[string]*prometheus.Desc
	read  func(Send)
}

// Describe implements prometheus.Collector.
func (s scraped) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. If the function in the field "read" sends a value with a
// name that no Series has, the scrape fails.
func (s scraped) Collect(ch chan<- prometheus.Metric) {
	s.read(func(name string, value float64, labels ...string) {
		desc := s.descs[name]
		if desc == nil {
			err := fmt.Errorf("no metric %q is defined", name)
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
			return
		}
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	})
}

// OneIf returns 1 if b is true, and otherwise 0.
func OneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
