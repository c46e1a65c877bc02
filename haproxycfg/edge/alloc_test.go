package edge_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAllocationsPerRoute limits the allocations for one more route, whose service has 20 servers.
// The cost of a route must not grow with its servers, or with the other routes.
func TestAllocationsPerRoute(t *testing.T) {
	const few, many = 100, 300
	allocations := func(n int) (config, render float64) {
		table, upstreams := manyServices(n)
		config = testing.AllocsPerRun(2, func() { benchEdge.Config(table, upstreams) })
		built, problems := benchEdge.Config(table, upstreams)
		require.Empty(t, problems)
		var err error
		render = testing.AllocsPerRun(2, func() { _, err = built.Render("/etc/haproxy") })
		require.NoError(t, err)
		return config, render
	}
	config, render := allocations(few)
	moreConfig, moreRender := allocations(many)
	t.Logf("Config: %.1f, Render: %.1f", (moreConfig-config)/(many-few), (moreRender-render)/(many-few))
	require.LessOrEqual(t, (moreConfig-config)/(many-few), 13.0, "Config") // 12.1 with the race detector
	require.LessOrEqual(t, (moreRender-render)/(many-few), 3.0, "Render")
}
