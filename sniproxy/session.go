package sniproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// session decides what becomes of one connection; the engine does it. There is one for
// each connection all its life, so it is kept small: what takes more, the parser, is held
// only until the host is known.
type session struct {
	srv  *Server
	conn relay.Conn
	on   *listening

	// Guarded by live.mu.
	prev, next *session
	in         place

	pushed atomic.Bool
	id     uint64
	start  int64 // since Server.epoch, as all times here
	peer   netip.AddrPort

	mu       sync.Mutex // guards the rest: the engine, a lookup and Connections meet here
	phase    Phase
	outcome  Outcome
	level    hostlookup.Level
	looked   bool
	fallback bool
	counted  bool // by Server.sources
	dials    uint8
	waits    uint8 // for descriptors
	answer   uint16
	skip     int32
	face     face
	head     *head  // until the peek ends
	ext      *extra // nil for most
	alpn     *[]string
	name     string
	endpoint hostlookup.Endpoint
	upstream netip.AddrPort
	err      error

	peekTime, lookupTime, dialTime time.Duration
	since                          int64 // when the present phase began
}

// extra is what few sessions have.
type extra struct {
	proxy   *proxyInfo
	rawName string
	rest    []netip.AddrPort // addresses not tried yet
	prefix  []byte           // for the upstream, before the client's bytes
	cancel  context.CancelFunc
}

// more returns the extra for writing.
func (s *session) more() *extra {
	if s.ext == nil {
		s.ext = new(extra)
	}
	return s.ext
}

// less is the extra for reading.
func (s *session) less() extra {
	if s.ext == nil {
		return extra{}
	}
	return *s.ext
}

var heads = sync.Pool{New: func() any { return new(head) }}

// Hello is part of relay.Session.
func (s *session) Hello(data []byte, end error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.head.parse(data)
	if s.head.looked && !s.counted {
		if s.head.proxy != nil {
			s.more().proxy = s.head.proxy
		}
		if !s.count() {
			s.peekEnds(r, data)
			return s.drop(Limited, ErrTooManyFromSource)
		}
	}
	_, more := err.(peek.NeedMore)
	if more && end == nil {
		return relay.Step{}
	}
	if !s.peekEnds(r, data) {
		return s.drop(Limited, ErrPushedOut)
	}
	eof := errors.Is(end, io.EOF)
	switch {
	case end != nil && !eof && !errors.Is(end, os.ErrDeadlineExceeded) && !errors.Is(end, relay.ErrHelloTooLong):
		return s.drop(s.leaving(end)) // there is nobody to be answered
	case more && len(data) == int(s.skip):
		if eof {
			return s.drop(Gone, errGone) // a health check, or a browser's spare connection
		}
		return s.drop(TimedOut, end)
	case more && eof:
		return s.refuse(refuseMalformed, fmt.Errorf("%w: %w", peek.ErrMalformed, io.ErrUnexpectedEOF))
	case more && errors.Is(end, relay.ErrHelloTooLong):
		return s.refuse(refuseTooLarge, fmt.Errorf("%w: %w", peek.ErrTooLarge, end))
	case more:
		return s.refuse(refuseSlow, end)
	}
	if s.less().proxy.hasHop(s.srv.hop) {
		return s.refuse(refuseLoop, fmt.Errorf("%w: the connection has been here", ErrLoop))
	}
	if err == nil || errors.Is(err, peek.ErrNoName) {
		if err := s.makePrefix(); err != nil {
			return s.refuse(refuseLoop, err)
		}
	}
	switch {
	case err == nil:
		return s.find()
	case errors.Is(err, peek.ErrNoName) && s.srv.NoName.Addr != "":
		return s.goOn(s.to(s.srv.NoName, true))
	}
	return s.refuse(refusalOf(err), err)
}

// count counts the connection for its source.
func (s *session) count() bool {
	limit := s.srv.MaxConnsPerSource
	if limit <= 0 {
		return true
	}
	source := sourceOf(s.client().Addr())
	if !source.IsValid() {
		return true
	}
	if !s.srv.sources.add(source, limit) {
		return false
	}
	s.counted = true
	return true
}

// client is where the connection comes from in the end.
func (s *session) client() netip.AddrPort {
	if p := s.less().proxy; p != nil && p.source.IsValid() {
		return p.source
	}
	return s.peer
}

// used is the address that the client connected to, where a PROXY header says so.
func (s *session) used() netip.AddrPort {
	if p := s.less().proxy; p != nil {
		return p.destination
	}
	return netip.AddrPort{}
}

// peekEnds takes what is to be known of the client out of its bytes. It returns false if
// the session was pushed out meanwhile.
func (s *session) peekEnds(r peek.Result, data []byte) bool {
	stays := s.srv.live.decide(s)
	now := s.srv.now()
	s.peekTime, s.since = time.Duration(now-s.start), now
	s.skip = int32(s.head.skip)
	s.face = faceOf(r, data[s.head.skip:])
	s.alpn = alpnOf(r.Hello)
	if s.name = r.Name; r.Name == "" && r.RawName != "" {
		s.more().rawName = clip(r.RawName)
	}
	s.dropHead()
	return stays
}

func (s *session) dropHead() {
	if s.head != nil {
		*s.head = head{}
		heads.Put(s.head)
		s.head = nil
	}
}

// makePrefix makes what the upstream is told of the client.
func (s *session) makePrefix() error {
	if s.srv.ProxyOut == 0 {
		return nil
	}
	destination := s.used()
	if !destination.IsValid() {
		destination = s.conn.LocalAddr()
	}
	prefix, err := formatProxy(s.srv.ProxyOut, s.client(), destination, s.less().proxy, s.srv.hop)
	s.more().prefix = prefix
	return err
}

// refuse tells the client why it is not relayed.
func (s *session) refuse(why refusal, err error) relay.Step {
	s.outcome, s.err = s.outcomeOf(why), err
	answer, data := s.srv.answerTo(s, why)
	if data == nil {
		return relay.Step{Action: relay.Drop, Err: err}
	}
	s.answer = uint16(answer)
	return relay.Step{Action: relay.Answer, Data: data, Err: err}
}

// drop tells it nothing.
func (s *session) drop(o Outcome, err error) relay.Step {
	s.outcome, s.err = o, err
	return relay.Step{Action: relay.Drop, Err: err}
}

func (s *session) outcomeOf(why refusal) Outcome {
	switch why {
	case refuseUnknown, refuseNoName:
		return NotFound
	case refuseSlow:
		return TimedOut
	case refuseLookup:
		return LookupFailed
	case refuseDial, refuseDialTime, refuseBusy, refuseLoop, refuseForbidden:
		return DialFailed
	}
	return Rejected
}

// leaving is what became of a connection that ended without a decision of ours.
func (s *session) leaving(err error) (Outcome, error) {
	switch {
	case s.pushed.Load():
		return Limited, ErrPushedOut
	case errors.Is(err, relay.ErrClosed):
		return Aborted, ErrServerClosed
	case err == nil:
		return Gone, errGone
	}
	return Gone, err
}

// Done is part of relay.Session.
func (s *session) Done(r relay.Result) {
	s.mu.Lock()
	if cancel := s.less().cancel; cancel != nil {
		cancel()
	}
	switch {
	case s.outcome != Open: // refused
	case r.Phase == relay.PhaseRelay:
		s.phase, s.outcome, s.err = PhaseRelay, Relayed, closed(r.Err)
		s.dialTime += r.Dial
	default:
		s.outcome, s.err = s.leaving(r.Err)
	}
	var st Stats
	finished := s.srv.Finished
	if finished != nil {
		st = s.stats()
		st.Sent, st.Received, st.Total = r.ToBackend, r.ToClient, r.Total
		if st.Total == 0 {
			st.Total = time.Duration(s.srv.now() - s.start)
		}
	}
	s.dropHead()
	s.srv.leave(s)
	s.mu.Unlock()
	if finished != nil {
		finished(st)
	}
}

// stats is what is known now.
func (s *session) stats() Stats {
	st := Stats{
		ID:         s.id,
		Client:     s.client(),
		Peer:       s.peer,
		Listener:   s.on.name,
		Protocol:   s.face.protocol,
		Name:       s.name,
		RawName:    s.less().rawName,
		TLSVersion: s.face.version,
		ECH:        s.face.ech,
		Endpoint:   s.endpoint,
		Level:      s.level,
		Looked:     s.looked,
		Fallback:   s.fallback,
		Upstream:   s.dialled(),
		Dials:      int(s.dials),
		Answer:     int(s.answer),
		Start:      s.srv.epoch.Add(time.Duration(s.start)),
		Peek:       s.peekTime,
		Lookup:     s.lookupTime,
		Dial:       s.dialTime,
		Phase:      s.phase,
		Outcome:    s.outcome,
		Err:        s.err,
	}
	if s.alpn != nil {
		st.ALPN = *s.alpn
	}
	return st
}

func (s *session) dialled() netip.AddrPort {
	if s.dials == 0 {
		return netip.AddrPort{}
	}
	return s.upstream
}
