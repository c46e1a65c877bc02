package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// CheckBudget is how many checks one HAProxy process makes with a configuration,
// whatever the traffic. A second process with the same configuration makes as many
// again: nothing is shared between terminators, nor between a process and the one
// that it replaces, which goes on checking until it ends.
type CheckBudget struct {
	// HealthServers and AgentServers count the server lines that are checked, and
	// those that have an agent. A line may be among both.
	HealthServers int `json:"healthCheckedServers"`
	AgentServers  int `json:"agentCheckedServers"`
	// Health and Agent are checks a second, Total is their sum.
	Health float64 `json:"healthChecksPerSecond"`
	Agent  float64 `json:"agentChecksPerSecond"`
	Total  float64 `json:"checksPerSecond"`
}

// CheckBudget counts the checks of the servers as they are rendered: the sum of
// 1/Health.Interval over all server lines with Check, and of 1/AgentInterval over
// those with AgentPort. A server that tracks another makes no health check of its
// own. HAProxy asks an agent for each server line: ten backends with the same
// agent port of the same node ask it ten times.
//
// It is the steady state, in which every check is answered at once. HAProxy counts
// an interval from the end of a check, so that checks which take their time, and
// servers that do not answer, are fewer; a server in maintenance has no health
// checks, but its agent is asked on. While a server's health is in doubt, for Rise
// or Fall checks, it is checked each Health.FastInterval, which is not counted; no
// other interval is rendered for servers that are down.
func (c *Config) CheckBudget() CheckBudget {
	var health, agent intervals
	for i := range c.Backends {
		b := &c.Backends[i]
		checked, asked := 0, 0
		for j := range b.Servers {
			if b.Servers[j].Check {
				checked++
			}
			if b.Servers[j].AgentPort != 0 {
				asked++
			}
		}
		health.add(cmp.Or(b.Health.Interval, defaultInterval), checked)
		agent.add(cmp.Or(b.AgentInterval, defaultInterval), asked)
	}
	var n CheckBudget
	n.HealthServers, n.Health = health.sum()
	n.AgentServers, n.Agent = agent.sum()
	n.Total = n.Health + n.Agent
	return n
}

// intervals counts servers by their interval. Whole numbers add up without rounding
// errors, in whatever order backends stand.
type intervals []intervalCount

type intervalCount struct {
	every   time.Duration
	servers int
}

func (v *intervals) add(every time.Duration, servers int) {
	if servers == 0 {
		return
	}
	i := slices.IndexFunc(*v, func(c intervalCount) bool { return c.every == every })
	if i < 0 {
		i = len(*v)
		*v = append(*v, intervalCount{every: every})
	}
	(*v)[i].servers += servers
}

func (v intervals) sum() (servers int, perSecond float64) {
	slices.SortFunc(v, func(a, b intervalCount) int { return int(a.every - b.every) })
	for _, c := range v {
		servers += c.servers
		perSecond += float64(c.servers) / c.every.Seconds()
	}
	return servers, perSecond
}
