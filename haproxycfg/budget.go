package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// descriptorSlack is the number of descriptors that HAProxy needs for everything except
// connections, listeners and checks. The number is an upper bound. Each thread needs 3 descriptors:
// one for its poller, and two for the pipe that wakes it. HAProxy before 2.9 runs at most 64
// threads. Later versions can run more, but an edge needs far fewer. The other 64 descriptors are
// for logs, the state file, the files of maps while HAProxy reads them, and the sockets of the
// command line.
const descriptorSlack = 64*3 + 64

// MaxConn is the limit of client connections that Render writes. 0 means that Render writes no
// limit. If Global.MaxConn is not 0, MaxConn returns it. Otherwise MaxConn computes the limit from
// Global.Descriptors: it subtracts the descriptors that listeners, checks and agent checks need,
// and divides the rest by two, because each connection needs two descriptors. It then rounds the
// limit down, by less than a sixteenth, so that a few more servers rarely change the limit. HAProxy
// needs a reload for each new limit.
func (c *Config) MaxConn() int {
	if c.Global.MaxConn > 0 || c.Global.Descriptors <= 0 {
		return c.Global.MaxConn
	}
	limit := max(0, (c.Global.Descriptors-c.ReservedDescriptors())/2)
	step := 1
	for step*2 <= limit/16 {
		step *= 2
	}
	return limit / step * step
}

// ReservedDescriptors returns how many descriptors HAProxy needs for everything except client
// connections.
func (c *Config) ReservedDescriptors() int {
	n := descriptorSlack
	for i := range c.Frontends {
		for _, b := range c.Frontends[i].Binds {
			if n++; b.IPv6 {
				n++ // the second socket
			}
		}
	}
	for i := range c.Backends {
		for j := range c.Backends[i].Servers {
			s := &c.Backends[i].Servers[j]
			if s.Check {
				n++
			}
			if s.AgentPort != 0 {
				n += 2 // HAProxy 2.6 reserves two ("Maxsock" of "show info") and opens one
			}
		}
	}
	return n
}

// checkSpread returns the time over which HAProxy spreads the first checks after its start. If it
// returns 0, HAProxy chooses the time itself: the shortest check interval of at least one second
// (start_checks in its source).
//
// The time that HAProxy chooses can be too long. Suppose that HAProxy makes a health check every
// minute and an agent check every half second. To choose the time, HAProxy ignores the interval of
// half a second, so it may send the first agent check only after a minute. Meanwhile a drained
// server would get traffic. So if the shortest interval of agent checks is below a second,
// checkSpread returns this interval.
func (c *Config) checkSpread() time.Duration {
	var least time.Duration
	for i := range c.Backends {
		b := &c.Backends[i]
		interval := cmp.Or(b.AgentInterval, defaultInterval)
		if interval >= time.Second || least != 0 && interval >= least {
			continue
		}
		if slices.ContainsFunc(b.Servers, func(s Server) bool { return s.AgentPort != 0 }) {
			least = interval
		}
	}
	return least
}

// CheckBudget is the number of checks per second that one HAProxy process makes with a
// configuration. The number does not depend on traffic. Two processes with the same configuration
// make twice as many checks. After a reload, the old process also makes its checks until it ends.
type CheckBudget struct {
	// HealthServers counts the server lines with a health check. AgentServers counts the server
	// lines with an agent check. A line with both checks counts in both numbers.
	HealthServers int `json:"healthCheckedServers"`
	AgentServers  int `json:"agentCheckedServers"`
	// Health is the number of health checks per second, and Agent is the number of agent checks per
	// second. Total is their sum.
	Health float64 `json:"healthChecksPerSecond"`
	Agent  float64 `json:"agentChecksPerSecond"`
	Total  float64 `json:"checksPerSecond"`
}

// CheckBudget counts the checks of the rendered servers. A server line with Check adds
// 1/Health.Interval unless it is Disabled, and a server line with AgentPort adds 1/AgentInterval.
// A server at SpareAddr adds nothing: HAProxy cannot connect to this address, and sends no packet.
// For a server that tracks another server, HAProxy makes no health check. HAProxy makes agent
// checks for each server line on its own: if ten backends contain a server with the same agent port
// on the same node, HAProxy sends ten agent checks to that agent in each interval.
//
// The numbers assume that each server answers a check without delay. HAProxy counts an interval
// from the end of a check, so it checks a server less often if the server answers slowly or not at
// all. For a server in maintenance, HAProxy makes no health checks, but still makes agent checks.
// After a result that contradicts the state of a server, HAProxy checks the server every
// Health.FastInterval, until Rise or Fall equal results in a row have settled the state.
// CheckBudget does not count these extra checks. The interval for a server that is down is the same
// as for a healthy one.
func (c *Config) CheckBudget() CheckBudget {
	var health, agent intervals
	for i := range c.Backends {
		b := &c.Backends[i]
		checked, asked := 0, 0
		for j := range b.Servers {
			if b.Servers[j].Check && !b.Servers[j].Disabled {
				checked++
			}
			if b.Servers[j].AgentPort != 0 && b.Servers[j].Addr.Addr() != SpareAddr {
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

// intervals is the number of servers for each check interval. If the code added one rounded
// quotient for each server, the sum would depend on the order of the backends. So intervals first
// adds whole numbers of servers, and divides by the interval only at the end.
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
