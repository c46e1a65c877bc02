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

// After the client has named its host, a session calls the functions of this file in this order:
//
//	lookUpHost -> useAnswer -> dialEndpoint -> (resolve) -> connect
//
// Each of these functions returns the next Step. The caller must hold s.mu.

// lookUpHost looks up the host that the client named.
func (s *session) lookUpHost() relay.Step {
	s.phase = PhaseLookup
	if p, ok := s.srv.Lookup.(hostlookup.Peeker); ok {
		if answer, err := p.Peek(s.name); err != hostlookup.ErrWouldWait {
			return s.useAnswer(answer, err)
		}
	}
	name := s.name
	return s.runInBackground(func(ctx context.Context) func() relay.Step {
		answer, err := s.srv.Lookup.LookupHost(ctx, name)
		return func() relay.Step { return s.useAnswer(answer, err) }
	})
}

// runInBackground calls the function "query", which may take long, in a new goroutine without s.mu.
// Then it locks s.mu, calls the function "use" that query has returned, and resumes the connection
// with the Step of "use". The context of query ends after LookupTimeout, or when the connection
// ends.
func (s *session) runInBackground(query func(ctx context.Context) (use func() relay.Step)) relay.Step {
	ctx, cancel := context.WithTimeout(context.Background(), s.srv.lookupTimeout())
	s.ensureRare().cancelQuery = cancel
	s.srv.queries.Go(func() {
		defer cancel()
		use := query(ctx)
		s.mu.Lock()
		step := relay.Step{Action: relay.Wait}
		if s.outcome == Open {
			step = use()
		}
		s.mu.Unlock()
		if step.Action != relay.Wait { // the function use may have started another query
			s.conn.Resume(step)
		}
	})
	return relay.Step{Action: relay.Wait}
}

// useAnswer decides about the connection by the result of the lookup of its host. It connects to
// the endpoint in answer, or refuses the connection because of err. If the source does not know the
// host and the client uses TLS, useAnswer connects to Server.Fallback, unless Fallback is empty.
func (s *session) useAnswer(answer hostlookup.Answer, err error) relay.Step {
	s.lookedUp, s.level = true, answer.Level
	switch {
	case err == nil:
		return s.dialEndpoint(answer.Endpoint)
	case !errors.Is(err, hostlookup.ErrNotFound):
		return s.failLookup(refuseLookup, err)
	case s.client.protocol == peek.TLS && s.srv.Fallback.Addr != "":
		s.fallback = true
		return s.dialEndpoint(s.srv.Fallback)
	}
	return s.failLookup(refuseUnknown, err)
}

func (s *session) failLookup(why refusal, err error) relay.Step {
	s.endLookup()
	return s.refuse(why, err)
}

func (s *session) endLookup() {
	s.lookupTime += s.inPhase()
}

// dialEndpoint connects to an endpoint. If the endpoint is a name, dialEndpoint asks DNS first.
func (s *session) dialEndpoint(ep hostlookup.Endpoint) relay.Step {
	s.phase, s.endpoint = PhaseLookup, ep
	if why, err := s.countForHost(); err != nil {
		return s.failLookup(why, err)
	}
	port := s.listener.port
	if used := s.proxyDestination(); used.IsValid() {
		port = used.Port()
	}
	t, err := parseEndpoint(ep, port)
	switch {
	case err != nil:
		return s.failLookup(refuseLookup, err)
	case t.name != "":
		return s.runInBackground(func(ctx context.Context) func() relay.Step {
			addrs, err := t.resolve(ctx, s.srv.resolver())
			return func() relay.Step { return s.dialResolved(addrs, err) }
		})
	}
	s.endLookup()
	if err := s.srv.guard.check(t.addr, s.proxyDestination()); err != nil {
		return s.refuseAddress(err)
	}
	s.upstream = t.addr
	return s.connect()
}

// dialResolved connects to the first address that the guard allows. If that fails, DialFailed tries
// the later addresses.
func (s *session) dialResolved(addrs []netip.AddrPort, err error) relay.Step {
	if err != nil {
		return s.failLookup(refuseLookup, err)
	}
	s.endLookup()
	allowed := addrs[:0]
	for _, addr := range addrs {
		if e := s.srv.guard.check(addr, s.proxyDestination()); e != nil {
			err = errors.Join(err, e)
		} else {
			allowed = append(allowed, addr)
		}
	}
	if len(allowed) == 0 {
		return s.refuseAddress(err)
	}
	s.upstream = allowed[0]
	if len(allowed) > 1 {
		s.ensureRare().untried = allowed[1:]
	}
	return s.connect()
}

// refuseAddress refuses a connection if the endpoint of its host has no address that the Server may
// connect to.
func (s *session) refuseAddress(err error) relay.Step {
	s.phase = PhaseDial
	if errors.Is(err, ErrLoop) {
		return s.refuse(refuseLoop, err)
	}
	return s.refuse(refuseForbidden, err)
}

// connect returns the Step that connects to s.upstream.
func (s *session) connect() relay.Step {
	s.phase = PhaseDial
	s.dials++
	step := relay.Step{Action: relay.Connect, Addr: s.upstream, Skip: int(s.skip)}
	addrs := 1
	if s.rare != nil {
		step.Data = s.rare.proxyHeader
		addrs += len(s.rare.untried)
	}
	step.DialTimeout = attemptTimeout(s.srv.dialTimeout()-s.dialTime, addrs)
	switch {
	case s.echState() != nil:
		step.Dial, step.Data = s.dialECH(step.Data), nil // Step.Dial sends the PROXY header
	case s.srv.DialContext != nil:
		step.Dial = s.srv.dialFunc(s.upstream)
	}
	return step
}

// If a connect fails because the process has no free descriptor, the session tries three more
// times. It waits 80 ms, then 320 ms, then 1.28 s.
const (
	maxDescriptorWaits  = 3
	firstDescriptorWait = 20 * time.Millisecond
)

// DialFailed implements relay.Session. It can try the next address of the endpoint if the upstream
// has received no byte. It can also do so if the upstream has received an inner hello, but has not
// answered it.
func (s *session) DialFailed(err error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addDialTime()
	e := s.echState()
	mayRetry := s.dialTime < s.srv.dialTimeout() && (e == nil || e.records != nil)
	if isResourceExhausted(err) {
		s.srv.makeRoom()
		if s.descriptorWaits < maxDescriptorWaits && mayRetry {
			s.descriptorWaits++
			time.AfterFunc(firstDescriptorWait<<(2*s.descriptorWaits), s.retryConnect)
			return relay.Step{Action: relay.Wait}
		}
	} else if s.rare != nil && len(s.rare.untried) > 0 && mayRetry {
		s.upstream, s.rare.untried = s.rare.untried[0], s.rare.untried[1:]
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

// retryConnect connects to the same address again. It has no effect on a session whose method Done
// has been called.
func (s *session) retryConnect() {
	s.mu.Lock()
	s.addDialTime()
	step := s.connect()
	s.mu.Unlock()
	s.conn.Resume(step)
}

func (s *session) addDialTime() {
	s.dialTime += s.inPhase()
}

// isResourceExhausted reports whether err means that the process or the machine lacks
// descriptors or memory.
func isResourceExhausted(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// target is a parsed endpoint: an IP address with a port, or a name with a port.
type target struct {
	addr netip.AddrPort // not valid if the endpoint is a name
	name string         // "" if the endpoint is an address
	port uint16
}

// parseEndpoint parses the address of an endpoint. If the address has no port, the result has the
// port in the argument "port".
func parseEndpoint(ep hostlookup.Endpoint, port uint16) (target, error) {
	// Most endpoints are an IP address, with or without a port. Parse these first, because this
	// needs no allocation.
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

// If an endpoint is a name, the Server tries at most maxTriedAddrs of its addresses.
const maxTriedAddrs = 8

// resolve asks DNS for the addresses of a target that is a name.
func (t target) resolve(ctx context.Context, r Resolver) ([]netip.AddrPort, error) {
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

// minAttemptTimeout is the shortest time for one attempt to connect to one of several addresses. It
// is 2 s, because TCP sends a lost SYN again after 1 s. If less than 2 s of DialTimeout is left,
// the attempt gets only this rest.
const minAttemptTimeout = 2 * time.Second

// attemptTimeout returns the time-out of the next attempt to connect. The argument "left" is the
// rest of DialTimeout, and n is the number of addresses that the Server has not tried yet. The
// result is left/n, but at least minAttemptTimeout, and never more than left.
func attemptTimeout(left time.Duration, n int) time.Duration {
	return max(min(left, max(left/time.Duration(n), minAttemptTimeout)), time.Millisecond)
}
