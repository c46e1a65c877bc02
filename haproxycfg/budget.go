package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// descriptorSlack is the largest number of descriptors that HAProxy needs for everything except
// connections, listeners and checks. Each of at most 64 threads needs 3: a poller, and the pipe
// that wakes the thread. The other 64 are for logs, the state file, the files of maps, and the
// sockets of the command line.
const descriptorSlack = 64*3 + 64

// MaxConn is the limit of client connections that Render writes; 0 means no limit. It is
// Global.MaxConn if that is set. Otherwise MaxConn computes the limit from Global.Descriptors: it
// subtracts the descriptors of listeners, checks and agent checks, and divides the rest by two,
// because each connection needs two.
//
// It rounds a computed limit down, by less than a sixteenth, so that a few more or fewer servers
// seldom change the limit: each new limit needs a reload of HAProxy.
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

// checkSpread returns the time over which HAProxy spreads the first checks after its start. 0 means
// HAProxy's own choice: the shortest check interval of at least one second (start_checks in its
// source).
//
// For its own choice, HAProxy ignores intervals below a second. For example, if health checks run
// every minute and agent checks every half second, HAProxy would spread the first checks over a
// minute. A drained server would receive traffic until its first agent check. So checkSpread
// returns the shortest interval of agent checks if it is below a second.
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
// configuration, whatever the traffic. After a reload, the old process also makes its checks until
// it ends.
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
// 1/Health.Interval unless it is Disabled or tracks another server. A server line with AgentPort
// adds 1/AgentInterval unless its address is SpareAddr. If several lines name the same agent, each
// of them adds its checks.
//
// The numbers assume that each server answers without delay. They do not include the extra checks
// that HAProxy makes, every Health.FastInterval, after a result that contradicts the state of a
// server.
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
