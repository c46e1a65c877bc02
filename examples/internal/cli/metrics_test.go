package cli

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestMetrics(t *testing.T) {
	m := NewMetrics("prog", prometheus.Labels{"zone": "a"})
	m.Counter("starts_total", "Starts.").Inc()
	m.CounterVec("calls_total", "Calls.", "code").WithLabelValues("200").Inc()
	m.CounterFunc("seen_total", "Seen.", prometheus.Labels{"kind": "x"}, func() float64 { return 2 })
	m.Gauge("open", "Open.").Set(3)
	m.GaugeVec("size", "Size.", "file").WithLabelValues("f").Set(4)
	m.GaugeFunc("age", "Age.", func() float64 { return 5 })
	m.HistogramVec("time_seconds", "Time.", []float64{1}).WithLabelValues().Observe(0.5)
	m.Scraped(func(send Send) {
		send("up", OneIf(true), "n1")
		send("up", OneIf(false), "n2")
		send("done_total", 6)
	}, Define("up", "Up.", "node"), Define("done_total", "Done."))
	const want = `# HELP headgate_prog_age Age.
# TYPE headgate_prog_age gauge
headgate_prog_age{zone="a"} 5
# HELP headgate_prog_calls_total Calls.
# TYPE headgate_prog_calls_total counter
headgate_prog_calls_total{code="200",zone="a"} 1
# HELP headgate_prog_done_total Done.
# TYPE headgate_prog_done_total counter
headgate_prog_done_total{zone="a"} 6
# HELP headgate_prog_open Open.
# TYPE headgate_prog_open gauge
headgate_prog_open{zone="a"} 3
# HELP headgate_prog_seen_total Seen.
# TYPE headgate_prog_seen_total counter
headgate_prog_seen_total{kind="x",zone="a"} 2
# HELP headgate_prog_size Size.
# TYPE headgate_prog_size gauge
headgate_prog_size{file="f",zone="a"} 4
# HELP headgate_prog_starts_total Starts.
# TYPE headgate_prog_starts_total counter
headgate_prog_starts_total{zone="a"} 1
# HELP headgate_prog_time_seconds Time.
# TYPE headgate_prog_time_seconds histogram
headgate_prog_time_seconds_bucket{zone="a",le="1"} 1
headgate_prog_time_seconds_bucket{zone="a",le="+Inf"} 1
headgate_prog_time_seconds_sum{zone="a"} 0.5
headgate_prog_time_seconds_count{zone="a"} 1
# HELP headgate_prog_up Up.
# TYPE headgate_prog_up gauge
headgate_prog_up{node="n1",zone="a"} 1
headgate_prog_up{node="n2",zone="a"} 0
`
	r := httptest.NewRecorder()
	Admin{Gatherer: m}.Handler().ServeHTTP(r, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	var own strings.Builder
	for line := range strings.Lines(r.Body.String()) {
		if strings.Contains(line, "headgate_prog_") {
			own.WriteString(line)
		}
	}
	require.Equal(t, want, own.String())

	m.Scraped(func(send Send) { send("other", 1) })
	_, err := m.Gather()
	require.ErrorContains(t, err, `no metric "other" is defined`)
}
