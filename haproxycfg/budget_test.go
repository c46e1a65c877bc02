package haproxycfg_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestCheckBudget(t *testing.T) {
	type server = haproxycfg.Server
	type backends = []haproxycfg.Backend
	addr := netip.MustParseAddrPort("10.0.0.1:31000")
	plain := server{Addr: addr}
	checked := server{Addr: addr, Check: true}
	both := server{Addr: addr, Check: true, AgentPort: 9707}
	tracks := server{Addr: addr, Track: "nodes.a/10.0.0.1:9707"}
	agent := server{Addr: addr, Track: "nodes.a/10.0.0.1:9707", AgentPort: 9801}
	every := func(health, agent time.Duration, servers ...server) haproxycfg.Backend {
		return haproxycfg.Backend{Health: haproxycfg.Health{Interval: health}, AgentInterval: agent, Servers: servers}
	}
	tests := []struct {
		name string
		in   backends
		want haproxycfg.CheckBudget
	}{
		{"nothing", nil, haproxycfg.CheckBudget{}},
		{"no checks", backends{every(0, 0, plain, plain), {Response: &haproxycfg.FixedResponse{Status: 404}}}, haproxycfg.CheckBudget{}},
		{"default intervals", backends{every(0, 0, checked, both)}, haproxycfg.CheckBudget{HealthServers: 2, AgentServers: 1, Health: 1, Agent: 0.5, Total: 1.5}},
		{"their own", backends{every(time.Second, 250*time.Millisecond, both)}, haproxycfg.CheckBudget{HealthServers: 1, AgentServers: 1, Health: 1, Agent: 4, Total: 5}},
		{"tracked servers are not checked, their agents are", backends{every(0, 0, tracks, tracks, agent)}, haproxycfg.CheckBudget{AgentServers: 1, Agent: 0.5, Total: 0.5}},
		{"an agent is asked for each line", backends{every(0, 0, agent), every(0, 0, agent), every(0, 0, agent)}, haproxycfg.CheckBudget{AgentServers: 3, Agent: 1.5, Total: 1.5}},
		{"nobody answers a spare server", backends{every(0, 0, both, both.Spare(1), both.Spare(2))}, haproxycfg.CheckBudget{HealthServers: 1, AgentServers: 1, Health: 0.5, Agent: 0.5, Total: 1}},
		{"weight says nothing", backends{every(0, 0, server{Addr: addr, Check: true, Weight: haproxycfg.NoTraffic})}, haproxycfg.CheckBudget{HealthServers: 1, Health: 0.5, Total: 0.5}},
		{"fast intervals are of doubt", backends{{Health: haproxycfg.Health{FastInterval: time.Millisecond}, Servers: []server{checked}}}, haproxycfg.CheckBudget{HealthServers: 1, Health: 0.5, Total: 0.5}},
		{
			"sums are exact", func() (b backends) {
				for range 3000 {
					b = append(b, every(300*time.Millisecond, 600*time.Millisecond, both), every(time.Minute, 0, checked))
				}
				return b
			}(),
			haproxycfg.CheckBudget{HealthServers: 6000, AgentServers: 3000, Health: 10050, Agent: 5000, Total: 15050},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := haproxycfg.Config{Backends: tt.in}
			require.Equal(t, tt.want, c.CheckBudget())
		})
	}
	t.Run("as JSON", func(t *testing.T) {
		text, err := json.Marshal(haproxycfg.CheckBudget{HealthServers: 1, AgentServers: 2, Health: 0.5, Agent: 4, Total: 4.5})
		require.NoError(t, err)
		require.JSONEq(t, `{"healthCheckedServers":1,"agentCheckedServers":2,"healthChecksPerSecond":0.5,"agentChecksPerSecond":4,"checksPerSecond":4.5}`, string(text))
	})
}

func TestDisabledServersAreNotChecked(t *testing.T) {
	t.Parallel()
	c := zonesConfig(haproxycfg.Version{})
	require.Equal(t, 3, c.CheckBudget().HealthServers) // the fourth server is an empty slot
}
