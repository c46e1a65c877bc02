package sniproxy

import (
	"sync"
	"time"
)

// hostLimits bounds the connections of each host, and the new connections of each host in a second.
// A bound of 0 means no bound.
type hostLimits struct {
	maxConns, maxRate int

	mu      sync.Mutex
	hosts   map[string]hostUse
	sweepAt int // when hosts has this many entries, the method "add" calls the method "sweep"
}

// hostUse records the open connections of one host, and how soon further connections may arrive.
type hostUse struct {
	conns int
	// fullAt is a time on the clock Server.now. After fullAt, maxRate new connections of the host
	// may arrive at the same moment. Each new connection moves fullAt by 1/maxRate of a second into
	// the future. If fullAt is in the past, it first becomes the present time.
	//
	// The method "add" refuses a connection that would move fullAt to more than one second from
	// now. This is the generic cell rate algorithm (ITU-T I.371).
	//
	// For example, with maxRate 10, "add" accepts 10 of 11 simultaneous connections. It refuses the
	// last connection, because fullAt would be 1.1 s from now.
	fullAt int64
}

func (l *hostLimits) enabled() bool { return l.maxConns > 0 || l.maxRate > 0 }

// add counts a new connection of a host at the time "now". If the connection exceeds a limit, add
// does not count it, and returns ErrTooManyForHost or ErrHostRate.
func (l *hostLimits) add(host string, now int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	use := l.hosts[host]
	if l.maxConns > 0 && use.conns >= l.maxConns {
		return ErrTooManyForHost
	}
	if l.maxRate > 0 {
		use.fullAt = max(use.fullAt, now) + int64(time.Second)/int64(l.maxRate)
		if use.fullAt-now > int64(time.Second) {
			return ErrHostRate
		}
	}
	if l.hosts == nil {
		l.hosts = map[string]hostUse{}
	}
	if len(l.hosts) >= l.sweepAt {
		l.sweep(now)
	}
	use.conns++
	l.hosts[host] = use
	return nil
}

// remove subtracts a connection from a host.
func (l *hostLimits) remove(host string, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	use := l.hosts[host]
	if use.conns--; use.conns <= 0 && use.fullAt <= now {
		delete(l.hosts, host)
		return
	}
	l.hosts[host] = use
}

// minSweep is the smallest number of hosts at which the method "sweep" removes unused hosts.
const minSweep = 1024

// sweep removes each host that has no open connection and may open maxRate new connections at once
// (see hostUse.fullAt). The method "add" calls sweep when there are sweepAt hosts. sweep then sets
// sweepAt to twice the number of hosts that it has kept, but at least to minSweep, so "add" takes
// constant time on average.
func (l *hostLimits) sweep(now int64) {
	for host, use := range l.hosts {
		if use.conns == 0 && use.fullAt <= now {
			delete(l.hosts, host)
		}
	}
	l.sweepAt = max(2*len(l.hosts), minSweep)
}

// limitedHost returns the name under which the connection counts for MaxConnsPerHost and
// MaxRatePerHost: the host of the endpoint, such as "*.example.com", or else the name that the
// client sent. Connections to Fallback and NoName count under the name "".
func (s *session) limitedHost() string {
	switch {
	case s.fallback:
		return ""
	case s.endpoint.Host != "":
		return s.endpoint.Host
	}
	return s.name
}

// countForHost adds the connection to the connections of its host. If a limit of the host is
// reached, it returns the refusal and its error.
func (s *session) countForHost() (refusal, error) {
	if !s.srv.hosts.enabled() {
		return 0, nil
	}
	err := s.srv.hosts.add(s.limitedHost(), s.srv.now())
	switch err {
	case nil:
		s.hostCounted = true
		return 0, nil
	case ErrHostRate:
		return refuseHostRate, err
	}
	return refuseHostFull, err
}
