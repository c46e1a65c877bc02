package sniproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// find looks the host up.
func (s *session) find() relay.Step {
	s.phase = PhaseLookup
	if i := s.srv.instant; i != nil {
		if ep, level, err, ok := i.Held(s.name); ok {
			return s.goOn(s.found(ep, level, err))
		}
	}
	return s.seek(target{})
}

// found takes the answer of the lookup. A target with a name is to be resolved, else the
// step is what comes next.
func (s *session) found(ep hostlookup.Endpoint, level hostlookup.Level, err error) (target, relay.Step) {
	s.looked, s.level = true, level
	switch {
	case err == nil:
		return s.to(ep, false)
	case errors.Is(err, hostlookup.ErrNotFound):
		if s.face.protocol == peek.TLS && s.srv.Fallback.Addr != "" {
			return s.to(s.srv.Fallback, true)
		}
		s.lookupEnds()
		return target{}, s.refuse(refuseUnknown, err)
	}
	s.lookupEnds()
	return target{}, s.refuse(refuseLookup, err)
}

// to is the way to an endpoint, with results as those of found.
func (s *session) to(ep hostlookup.Endpoint, fallback bool) (target, relay.Step) {
	s.phase = PhaseLookup
	s.endpoint, s.fallback = ep, fallback
	port := s.on.port
	if used := s.used(); used.IsValid() {
		port = used.Port()
	}
	t, err := targetOf(ep, port)
	switch {
	case err != nil:
		s.lookupEnds()
		return target{}, s.refuse(refuseLookup, err)
	case t.name != "":
		return t, relay.Step{}
	}
	s.lookupEnds()
	if err := s.srv.guard.check(t.addr, s.used()); err != nil {
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

func (s *session) lookupEnds() {
	now := s.srv.now()
	s.lookupTime, s.since = time.Duration(now-s.since), now
}

// seek begins what may take time: the lookup, unless there is a target, and DNS.
func (s *session) seek(t target) relay.Step {
	ctx, cancel := context.WithCancel(s.srv.ctx)
	s.more().cancel = cancel
	name := s.name
	s.srv.seeks.Go(func() {
		defer cancel()
		s.conn.Resume(s.sought(ctx, name, t))
	})
	return relay.Step{Action: relay.Wait}
}

func (s *session) sought(ctx context.Context, name string, t target) (step relay.Step) {
	if t.name == "" {
		bounded, cancel := context.WithTimeout(ctx, s.srv.lookupTimeout())
		ep, level, err := hostlookup.Get(bounded, s.srv.Lookup, name)
		cancel()
		s.mu.Lock()
		t, step = s.found(ep, level, err)
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
	s.lookupEnds()
	if err != nil {
		return s.refuse(refuseLookup, err)
	}
	allowed := addrs[:0]
	for _, addr := range addrs {
		if e := s.srv.guard.check(addr, s.used()); e != nil {
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
		s.more().rest = allowed[1:]
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
		Data:        s.less().prefix,
		Skip:        int(s.skip),
		DialTimeout: attempt(s.srv.dialTimeout()-s.dialTime, 1+len(s.less().rest)),
	}
	if s.srv.DialContext != nil {
		step.Dial = s.srv.dialer(s.upstream)
	}
	return step
}

// When descriptors run out, connecting waits for those that were made free: a known host is
// not refused for that, if it can be helped.
const (
	maxWaits  = 3
	firstWait = 20 * time.Millisecond
)

// DialFailed is part of relay.Session. Nothing was sent, so the next address may be tried.
func (s *session) DialFailed(err error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.srv.now()
	s.dialTime, s.since = s.dialTime+time.Duration(now-s.since), now
	inTime := s.dialTime < s.srv.dialTimeout()
	if scarce(err) {
		s.srv.makeRoom()
		if s.waits < maxWaits && inTime {
			s.waits++
			time.AfterFunc(firstWait<<(2*s.waits), s.connectAgain)
			return relay.Step{Action: relay.Wait}
		}
	} else if rest := s.less().rest; len(rest) > 0 && inTime {
		s.upstream, s.ext.rest = rest[0], rest[1:]
		return s.connect()
	}
	err = fmt.Errorf("sniproxy: connecting to %v: %w", s.upstream, err)
	var timeout interface{ Timeout() bool }
	switch {
	case scarce(err):
		return s.refuse(refuseBusy, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return s.refuse(refuseDialTime, err)
	}
	return s.refuse(refuseDial, err)
}

// connectAgain tries the same address once more. It does nothing where the session has ended.
func (s *session) connectAgain() {
	s.mu.Lock()
	now := s.srv.now()
	s.dialTime, s.since = s.dialTime+time.Duration(now-s.since), now
	step := s.connect()
	s.mu.Unlock()
	s.conn.Resume(step)
}

// scarce tells whether err is about what the whole process lacks.
func scarce(err error) bool {
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
