package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// descriptorSlack is the number of descriptors that HAProxy needs apart from connections and
// checks. Each thread has a poller and the pipes that wake it; HAProxy has at most 64 threads
// before 2.9, and an edge needs far fewer after it. Logs, the state file, maps while HAProxy reads
// them, and the sockets of the command line need some more.
const descriptorSlack = 64*3 + 64

// MaxConn is the limit of connections that is rendered: Global.MaxConn, or if that is 0, the limit
// that Global.Descriptors allows. Each check, agent check and listener needs its sockets, and each
// connection two. 0 means that no limit is rendered.
func (c *Config) MaxConn() int {
	if c.Global.MaxConn > 0 || c.Global.Descriptors <= 0 {
		return c.Global.MaxConn
	}
	return max(0, (c.Global.Descriptors-c.reservedDescriptors())/2)
}

// reservedDescriptors counts the descriptors that connections cannot use.
func (c *Config) reservedDescriptors() int {
	n := descriptorSlack
	for i := range c.Frontends {
		n += len(c.Frontends[i].Binds)
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

// checkSpread is the time over which HAProxy may spread the first checks after its start; 0 means
// HAProxy's own choice.
//
// HAProxy spreads all first health checks and agent checks over the shortest interval that is at
// least a second (start_checks in its source). If health checks have an interval of a minute and
// agent checks one below a second, the first answer of an agent could take a minute, and a drained
// server would get traffic until then.
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

// CheckBudget is the number of checks that one HAProxy process makes with a configuration. It does
// not depend on traffic. A second process with the same configuration makes as many checks again.
// That includes the old process after a reload, which checks until it ends.
type CheckBudget struct {
	// HealthServers and AgentServers count the server lines with a health check and with an
	// agent. A line can count in both.
	HealthServers int `json:"healthCheckedServers"`
	AgentServers  int `json:"agentCheckedServers"`
	// Health and Agent are checks per second. Total is their sum.
	Health float64 `json:"healthChecksPerSecond"`
	Agent  float64 `json:"agentChecksPerSecond"`
	Total  float64 `json:"checksPerSecond"`
}

// CheckBudget counts the checks of the rendered servers: the sum of 1/Health.Interval over all
// server lines with Check, and of 1/AgentInterval over those with AgentPort. A server that tracks
// another one makes no health check. HAProxy asks an agent for each server line: ten backends with
// the same agent port of the same node ask it ten times.
//
// The numbers hold if each check is answered at once. HAProxy counts an interval from the end of a
// check, so slow servers, and servers that do not answer, are checked less often. A server in
// maintenance has no health checks, but HAProxy still asks its agent. While the health of a server
// is in doubt, HAProxy checks it every Health.FastInterval, for Rise or Fall checks; these checks
// are not counted. Servers that are down have the same interval as others.
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

// intervals counts servers by check interval. It adds whole numbers before it divides, so that the
// order of the backends does not change the result by rounding.
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
