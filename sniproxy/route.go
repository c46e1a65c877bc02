package sniproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// find looks the host up.
func (s *session) find() relay.Step {
	s.phase = PhaseLookup
	if i := s.srv.peeker; i != nil {
		if answer, err := i.Peek(s.name); err != hostlookup.ErrWouldWait {
			return s.goOn(s.found(answer.Endpoint, answer.Level, err))
		}
	}
	return s.seek(target{})
}

// found takes the answer of the lookup. A target with a name is to be resolved, else the
// step is what comes next.
func (s *session) found(ep hostlookup.Endpoint, level hostlookup.Level, err error) (target, relay.Step) {
	s.lookedUp, s.level = true, level
	switch {
	case err == nil:
		return s.to(ep, false)
	case errors.Is(err, hostlookup.ErrNotFound):
		if s.client.protocol == peek.TLS && s.srv.Fallback.Addr != "" {
			return s.to(s.srv.Fallback, true)
		}
		s.endLookup()
		return target{}, s.refuse(refuseUnknown, err)
	}
	s.endLookup()
	return target{}, s.refuse(refuseLookup, err)
}

// to is the way to an endpoint, with results as those of found.
func (s *session) to(ep hostlookup.Endpoint, fallback bool) (target, relay.Step) {
	s.phase = PhaseLookup
	s.endpoint, s.fallback = ep, fallback
	port := s.listener.port
	if used := s.usedAddr(); used.IsValid() {
		port = used.Port()
	}
	t, err := targetOf(ep, port)
	switch {
	case err != nil:
		s.endLookup()
		return target{}, s.refuse(refuseLookup, err)
	case t.name != "":
		return t, relay.Step{}
	}
	s.endLookup()
	if err := s.srv.guard.check(t.addr, s.usedAddr()); err != nil {
		return target{}, s.refuseTarget(err)
	}
	s.upstream = t.addr
	return target{}, s.connect()
}

// goOn resolves a target that has a name.
func (s *session) goOn(t target, step relay.Step) relay.Step {
	if t.name != "" {
		return s.seek(t)
	}
	return step
}

func (s *session) endLookup() {
	now := s.srv.now()
	s.lookupTime, s.phaseStart = time.Duration(now-s.phaseStart), now
}

// seek begins what may take time: the lookup, unless there is a target, and DNS.
func (s *session) seek(t target) relay.Step {
	ctx, cancel := context.WithCancel(s.srv.ctx)
	s.more().cancel = cancel
	name := s.name
	s.srv.lookups.Go(func() {
		defer cancel()
		s.conn.Resume(s.sought(ctx, name, t))
	})
	return relay.Step{Action: relay.Wait}
}

func (s *session) sought(ctx context.Context, name string, t target) (step relay.Step) {
	if t.name == "" {
		bounded, cancel := context.WithTimeout(ctx, s.srv.lookupTimeout())
		answer, err := s.srv.Lookup.LookupHost(bounded, name)
		cancel()
		s.mu.Lock()
		t, step = s.found(answer.Endpoint, answer.Level, err)
		s.mu.Unlock()
		if t.name == "" {
			return step
		}
	}
	bounded, cancel := context.WithTimeout(ctx, s.srv.lookupTimeout())
	addrs, err := t.resolve(bounded, s.srv.resolver())
	cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolved(addrs, err)
}

// resolved takes the addresses of an endpoint that is a name.
func (s *session) resolved(addrs []netip.AddrPort, err error) relay.Step {
	s.endLookup()
	if err != nil {
		return s.refuse(refuseLookup, err)
	}
	allowed := addrs[:0]
	for _, addr := range addrs {
		if e := s.srv.guard.check(addr, s.usedAddr()); e != nil {
			err = errors.Join(err, e)
		} else {
			allowed = append(allowed, addr)
		}
	}
	if len(allowed) == 0 {
		return s.refuseTarget(err)
	}
	s.upstream = allowed[0]
	if len(allowed) > 1 {
		s.more().untried = allowed[1:]
	}
	return s.connect()
}

// connect is the step to s.upstream.
func (s *session) connect() relay.Step {
	s.phase = PhaseDial
	s.dials++
	step := relay.Step{
		Action:      relay.Connect,
		Addr:        s.upstream,
		Data:        s.less().proxyHeader,
		Skip:        int(s.proxyHeaderLen),
		DialTimeout: attemptTimeout(s.srv.dialTimeout()-s.dialTime, 1+len(s.less().untried)),
	}
	if s.srv.DialContext != nil {
		step.Dial = s.srv.dialFunc(s.upstream)
	}
	return step
}

// When descriptors run out, connecting waits for those that were made free: a known host is
// not refused for that, if it can be helped.
const (
	maxDescriptorWaits  = 3
	firstDescriptorWait = 20 * time.Millisecond
)

// DialFailed is part of relay.Session. Nothing was sent, so the next address may be tried.
func (s *session) DialFailed(err error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.srv.now()
	s.dialTime, s.phaseStart = s.dialTime+time.Duration(now-s.phaseStart), now
	inTime := s.dialTime < s.srv.dialTimeout()
	if isResourceExhausted(err) {
		s.srv.evictOldest()
		if s.descriptorWaits < maxDescriptorWaits && inTime {
			s.descriptorWaits++
			time.AfterFunc(firstDescriptorWait<<(2*s.descriptorWaits), s.retryConnect)
			return relay.Step{Action: relay.Wait}
		}
	} else if rest := s.less().untried; len(rest) > 0 && inTime {
		s.upstream, s.extra.untried = rest[0], rest[1:]
		return s.connect()
	}
	err = fmt.Errorf("sniproxy: connecting to %v: %w", s.upstream, err)
	var timeout interface{ Timeout() bool }
	switch {
	case isResourceExhausted(err):
		return s.refuse(refuseBusy, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return s.refuse(refuseDialTime, err)
	}
	return s.refuse(refuseDial, err)
}

// connectAgain tries the same address once more. It does nothing where the session has ended.
func (s *session) retryConnect() {
	s.mu.Lock()
	now := s.srv.now()
	s.dialTime, s.phaseStart = s.dialTime+time.Duration(now-s.phaseStart), now
	step := s.connect()
	s.mu.Unlock()
	s.conn.Resume(step)
}

// scarce tells whether err is about what the whole process lacks.
func isResourceExhausted(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refuseTarget refuses an endpoint that may not be connected to.
func (s *session) refuseTarget(err error) relay.Step {
	s.phase = PhaseDial
	if errors.Is(err, ErrLoop) {
		return s.refuse(refuseLoop, err)
	}
	return s.refuse(refuseForbidden, err)
}

// target is where an endpoint leads: an address, or a name that has some.
type target struct {
	addr netip.AddrPort
	name string
	port uint16
}

// targetOf reads an endpoint; port is the one that the client used.
func targetOf(ep hostlookup.Endpoint, port uint16) (target, error) {
	// Addresses are the common case, and these take no memory.
	if ip, err := netip.ParseAddr(ep.Addr); err == nil && port != 0 && ip.Zone() == "" {
		return target{addr: netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	if ap, err := netip.ParseAddrPort(ep.Addr); err == nil && ap.Port() != 0 && ap.Addr().Zone() == "" {
		return target{addr: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}, nil
	}
	s, err := ep.DialAddr(port)
	if err != nil {
		return target{}, err
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return target{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return target{addr: netip.AddrPortFrom(ip.Unmap(), uint16(n))}, nil
	}
	return target{name: host, port: uint16(n)}, nil
}

// maxAddrs bounds how many addresses of a name are tried.
const maxTriedAddrs = 8

// resolve asks for the addresses of a target.
func (t target) resolve(ctx context.Context, r Resolver) ([]netip.AddrPort, error) {
	if t.name == "" {
		return []netip.AddrPort{t.addr}, nil
	}
	ips, err := r.LookupNetIP(ctx, "ip", t.name)
	if err != nil {
		return nil, fmt.Errorf("sniproxy: endpoint %q: %w", t.name, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%w: endpoint %q", ErrNoAddress, t.name)
	}
	addrs := make([]netip.AddrPort, min(len(ips), maxTriedAddrs))
	for i := range addrs {
		addrs[i] = netip.AddrPortFrom(ips[i].Unmap(), t.port)
	}
	return addrs, nil
}

// minAttempt is what an attempt to connect gets at least, where there is time for it: a
// lost SYN is sent again after a second.
const minAttemptTimeout = 2 * time.Second

// attempt is how long to try one of n addresses with that much time left.
func attemptTimeout(left time.Duration, n int) time.Duration {
	return max(min(left, max(left/time.Duration(n), minAttemptTimeout)), time.Millisecond)
}

// instant is a Lookup that can tell at once what it holds of a host, so that the
// common case needs no goroutine.
type instant = hostlookup.Peeker

// instantOf returns l if it is one, and else nil.
func instantOf(l hostlookup.Lookup) instant {
	i, _ := l.(instant)
	return i
}
