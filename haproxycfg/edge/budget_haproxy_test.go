package edge_test

import (
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// checkedFleet is an HAProxy in front of nodes on loopback addresses. The ports of the nodes count
// connections. There are no clients, so every connection is a check of HAProxy.
type checkedFleet struct {
	t             testing.TB
	edge          edge.Edge
	table         routes.Table
	upstreams     []edge.Upstream
	health, agent atomic.Int64 // connections
	budget        haproxycfg.CheckBudget
}

// count listens on a new port of all addresses, counts connections in n, and sends the answer to
// each connection.
func (f *checkedFleet) count(n *atomic.Int64, answer string) uint16 {
	port := haproxytest.Ports(f.t, 1)[0]
	listen(f.t, "0.0.0.0:"+strconv.Itoa(port), func(c net.Conn) {
		n.Add(1)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, answer)
		_, _ = io.Copy(io.Discard, c) // read until HAProxy closes the connection
	})
	return uint16(port)
}

// newCheckedFleet starts an HAProxy with 12 nodes and 10 services, each on 6 nodes. Every second
// service has an agent. One of these has two backends.
func newCheckedFleet(t testing.TB, check *routes.Check) *checkedFleet {
	const nodes, services, each = 12, 10, 6
	f := &checkedFleet{t: t}
	const agentAnswer, healthAnswer = "up ready 100%\n", "HTTP/1.0 200 OK\r\n\r\n"
	f.edge = edge.Edge{
		NodeHealth:    edge.NodeAgentAndKubeProxy, // health checks and agents use different ports
		NodeAgentPort: f.count(&f.agent, agentAnswer),
		KubeProxyPort: f.count(&f.health, healthAnswer),
		CheckInterval: 2 * time.Second,
		AgentInterval: 1500 * time.Millisecond,
		Defaults:      haproxycfg.Defaults{Timeouts: haproxycfg.Timeouts{Check: 2 * time.Second}},
	}
	var declared []routes.Route
	for i := range services {
		u := edge.Upstream{Ref: ref("eu-1", "service-"+strconv.Itoa(i)), NodePort: f.count(&f.health, healthAnswer)}
		for j := range each {
			u.Nodes = append(u.Nodes, node(1+(5*i+j)%nodes))
		}
		if i%2 == 0 {
			u.AgentPort = f.count(&f.agent, agentAnswer)
		}
		f.upstreams = append(f.upstreams, u)
		r := routes.Route{Host: fmt.Sprintf("s%d.example.com", i), Path: "/", Backends: []routes.Backend{{Ref: u.Ref, Weight: 1}}, Check: check}
		declared = append(declared, r)
		if i == 4 {
			r.Host, r.Timeouts.Server = "slow."+r.Host, time.Minute
			declared = append(declared, r)
		}
	}
	f.table = tableOf(t, declared...)
	w := newWorld(t)
	w.nodeAgent, w.upstreams = int(f.edge.NodeAgentPort), f.upstreams
	config := w.start(f.edge, f.table)
	f.budget = config.CheckBudget()
	return f
}

// TestCheckBudgetIsWhatHAProxyMakes compares CheckBudget with the checks that a real HAProxy makes.
//
// HAProxy counts an interval from the end of a check, so it makes fewer checks on a busy machine.
// The intervals are long compared with such delays. If a measurement differs from CheckBudget, the
// test measures again, for up to a minute. On a machine that is busy for the whole minute, no
// measurement agrees. Then the test only requires that HAProxy has not made more checks than
// CheckBudget in this minute.
func TestCheckBudgetIsWhatHAProxyMakes(t *testing.T) {
	t.Parallel()
	tracking := newCheckedFleet(t, nil)
	// These checks need a path. If a check only connects, HAProxy resets the connection before the
	// listener accepts it, and the listener would count nothing.
	checking := newCheckedFleet(t, &routes.Check{Path: "/"})
	require.Equal(t, haproxycfg.CheckBudget{HealthServers: 12, AgentServers: 12 + 36, Health: 6, Agent: 32, Total: 38}, tracking.budget)
	require.Equal(t, haproxycfg.CheckBudget{HealthServers: 66, AgentServers: 66, Health: 33, Agent: 44, Total: 77}, checking.budget)
	fleets := []*checkedFleet{tracking, checking}

	// Wait until each server had its first check.
	require.Eventually(t, func() bool {
		for _, f := range fleets {
			if f.health.Load() < int64(f.budget.HealthServers) || f.agent.Load() < int64(f.budget.AgentServers) {
				return false
			}
		}
		return true
	}, time.Minute, 5*time.Millisecond)

	const tolerance = 0.15
	begin := snapshot(fleets)
	for {
		measured := measure(fleets, 6*time.Second) // a multiple of both intervals
		var off []string
		for i, f := range fleets {
			for _, x := range []struct {
				what      string
				got, want float64
			}{{"health", measured[i].Health, f.budget.Health}, {"agent", measured[i].Agent, f.budget.Agent}} {
				text := fmt.Sprintf("fleet %d: %.1f %s checks a second are %.3f of the budget", i, x.got, x.what, x.got/x.want)
				t.Log(text)
				if math.Abs(x.got/x.want-1) > tolerance {
					off = append(off, text)
				}
			}
		}
		if off == nil {
			// By tracking, the real HAProxy saves the same factor of checks as the budgets say.
			factor := checking.budget.Total / tracking.budget.Total
			require.Greater(t, factor, 2.0)
			require.InEpsilon(t, factor, measured[1].Total/measured[0].Total, 2.5*tolerance)
			return
		}
		if time.Since(begin.at) > time.Minute {
			for i, rates := range begin.until(snapshot(fleets)) {
				// The number of checks of a server may exceed the number of intervals in a minute
				// by one.
				require.LessOrEqual(t, rates.Health, 1.05*fleets[i].budget.Health, off)
				require.LessOrEqual(t, rates.Agent, 1.05*fleets[i].budget.Agent, off)
				require.GreaterOrEqual(t, rates.Total, fleets[i].budget.Total/10, off)
			}
			return
		}
	}
}

// measure returns the checks per second of each fleet during the window.
func measure(fleets []*checkedFleet, window time.Duration) []haproxycfg.CheckBudget {
	begin := snapshot(fleets)
	<-time.After(window)
	return begin.until(snapshot(fleets))
}

// counts are the numbers of checks of each fleet until a time.
type counts struct {
	at            time.Time
	health, agent []int64
}

func snapshot(fleets []*checkedFleet) (c counts) {
	c.at = time.Now()
	for _, f := range fleets {
		c.health, c.agent = append(c.health, f.health.Load()), append(c.agent, f.agent.Load())
	}
	return c
}

// The method until returns the checks per second of each fleet between c and a later snapshot.
func (c counts) until(end counts) []haproxycfg.CheckBudget {
	rates := make([]haproxycfg.CheckBudget, len(c.health))
	seconds := end.at.Sub(c.at).Seconds()
	for i := range rates {
		r := &rates[i]
		r.Health, r.Agent = float64(end.health[i]-c.health[i])/seconds, float64(end.agent[i]-c.agent[i])/seconds
		r.Total = r.Health + r.Agent
	}
	return rates
}
