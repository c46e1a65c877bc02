package haproxycfg

import (
	"cmp"
	"slices"
	"time"
)

// HAProxy's own needs beside connections and checks: per thread a poller and
// the pipes that wake it (64 threads at most before 2.9 and by far enough for
// an edge after it), the logs, the state file, the maps while they are read,
// and the sockets of the command line.
const descriptorSlack = 64*3 + 64

// MaxConn is the limit of connections that is rendered: Global.MaxConn, or what
// Global.Descriptors leaves when every check, agent check and listener has its
// socket and every connection two. 0 means that none is rendered.
func (c *Config) MaxConn() int {
	if c.Global.MaxConn > 0 || c.Global.Descriptors <= 0 {
		return c.Global.MaxConn
	}
	return max(0, (c.Global.Descriptors-c.reserved())/2)
}

// reserved counts the descriptors that are not for connections.
func (c *Config) reserved() int {
	n := descriptorSlack
	for i := range c.Frontends {
		n += len(c.Frontends[i].Binds)
	}
	for i := range c.Backends {
		for j := range c.Backends[i].Servers {
			if s := &c.Backends[i].Servers[j]; s.Check {
				n++
			}
			if c.Backends[i].Servers[j].AgentPort != 0 {
				n += 2 // as 2.6 counts ("Maxsock" of "show info"), though one is ever open
			}
		}
	}
	return n
}

// checkSpread is the time over which HAProxy may spread the first checks after
// its start, 0 for what it chooses itself.
//
// It spreads all of them, those of agents too, over the shortest interval that is
// not below a second (start_checks in its source). Agents with a shorter one, beside
// health checks every minute, would be heard after up to a minute, and until then
// what they drain gets traffic.
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
