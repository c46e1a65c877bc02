package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// descriptorSlack is an upper estimate of the descriptors that HAProxy needs for other purposes
// than connections, listeners and checks. Each thread needs 3: a poller, and a pipe that wakes the
// thread. HAProxy before 2.9 runs at most 64 threads. Later versions can run more, but an edge
// needs far fewer. The other 64 descriptors are for logs, the state file, maps while HAProxy reads
// them, and the sockets of the command line.
const descriptorSlack = 64*3 + 64

// MaxConn is the limit of client connections that Render writes. 0 means that Render writes no
// limit. MaxConn returns Global.MaxConn if that is not 0. Otherwise MaxConn computes the limit from
// Global.Descriptors: it subtracts the descriptors of listeners, checks and agent checks, and
// divides the rest by two, because each connection needs two descriptors.
func (c *Config) MaxConn() int {
	if c.Global.MaxConn > 0 || c.Global.Descriptors <= 0 {
		return c.Global.MaxConn
	}
	return max(0, (c.Global.Descriptors-c.ReservedDescriptors())/2)
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

// checkSpread is the time over which HAProxy spreads the first checks after its start. If it is 0,
// HAProxy chooses the time itself: the shortest check interval of at least one second (start_checks
// in its source).
//
// The time that HAProxy chooses can be too long. Suppose that health checks run every minute, and
// agent checks twice a second. HAProxy ignores the interval of half a second, and may wait a minute
// before it first asks an agent. Meanwhile a drained server would get traffic. So if the shortest
// interval of agent checks is below a second, checkSpread returns this interval.
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
// configuration. The number does not depend on traffic. Each further process with the same
// configuration makes the same number again. The old process after a reload also makes its checks
// until it ends.
type CheckBudget struct {
	// HealthServers counts the server lines with a health check. AgentServers counts the server
	// lines with an agent check. A line can count in both.
	HealthServers int `json:"healthCheckedServers"`
	AgentServers  int `json:"agentCheckedServers"`
	// Health and Agent are health checks and agent checks per second. Total is their sum.
	Health float64 `json:"healthChecksPerSecond"`
	Agent  float64 `json:"agentChecksPerSecond"`
	Total  float64 `json:"checksPerSecond"`
}

// CheckBudget counts the checks of the rendered servers. A server line with Check adds
// 1/Health.Interval unless it is Disabled, and a server line with AgentPort adds 1/AgentInterval. A server that tracks
// another server makes no health check. HAProxy asks an agent for each server line: if ten backends
// have a server with the same agent port on the same node, HAProxy asks that agent ten times.
//
// The numbers assume that each check is answered without delay. HAProxy counts an interval from the
// end of a check, so it checks servers that answer slowly, or not at all, less often. A server in
// maintenance has no health checks, but HAProxy still asks its agent. After a result that
// contradicts a server's state, HAProxy checks the server every Health.FastInterval, until enough
// equal results in a row (Rise or Fall) have settled the state. CheckBudget does not count these
// extra checks. A server that is down is checked at the same interval as a healthy one.
func (c *Config) CheckBudget() CheckBudget {
	var health, agent intervals
	for i := range c.Backends {
		b := &c.Backends[i]
		checked, asked := 0, 0
		for j := range b.Servers {
			if b.Servers[j].Check && !b.Servers[j].Disabled {
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

// intervals counts servers by check interval. A sum of rounded quotients would depend on the order
// of the backends. So intervals adds whole numbers of servers, and divides by the interval only at
// the end.
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
