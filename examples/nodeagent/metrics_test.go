package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The metric limited_total counts each connection that an agent port closed because it had too many
// connections, even if the client already had its answer.
func TestLimitedConnections(t *testing.T) {
	m := newMetrics(func() time.Time { return time.Time{} })
	m.finished("", agentcheck.Exchange{})
	m.finished("", agentcheck.Exchange{Evicted: true})
	m.finished("", agentcheck.Exchange{Evicted: true, Err: agentcheck.ErrEvicted})
	m.finished("", agentcheck.Exchange{Err: fmt.Errorf("%w: many", agentcheck.ErrTooManyConns)})
	families, err := m.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "headgate_agent_limited_total" {
			for _, series := range f.GetMetric() {
				got[series.GetLabel()[0].GetValue()] = series.GetCounter().GetValue()
			}
		}
	}
	require.Equal(t, map[string]float64{"evicted": 2, "full": 1}, got)
}

func TestMetricsPage(t *testing.T) {
	clitest.MetricsPage(t, "nodeagent", newMetrics(nil))
}
