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
	srv      *Server
	conn     relay.Conn
	listener *listener

	// Guarded by live.mu.
	prev, next *session
	state      connState

	evicted   atomic.Bool
	id        uint64
	startedAt int64 // since Server.epoch, as all times here
	peer      netip.AddrPort

	mu              sync.Mutex // guards the rest: the engine, a lookup and Connections meet here
	phase           Phase
	outcome         Outcome
	level           hostlookup.Level
	lookedUp        bool
	fallback        bool
	sourceCounted   bool // by Server.sources
	dials           uint8
	descriptorWaits uint8 // for descriptors
	answer          uint16
	proxyHeaderLen  int32
	client          clientInfo
	preface         *preface   // until the peek ends
	extra           *rareState // nil for most
	alpn            *[]string
	name            string
	endpoint        hostlookup.Endpoint
	upstream        netip.AddrPort
	err             error

	peekTime, lookupTime, dialTime time.Duration
	phaseStart                     int64 // when the present phase began
}

// extra is what few sessions have.
type rareState struct {
	proxy       *proxyInfo
	rawName     string
	untried     []netip.AddrPort // addresses not tried yet
	proxyHeader []byte           // for the upstream, before the client's bytes
	cancel      context.CancelFunc
}

// more returns the extra for writing.
func (s *session) more() *rareState {
	if s.extra == nil {
		s.extra = new(rareState)
	}
	return s.extra
}

// less is the extra for reading.
func (s *session) less() rareState {
	if s.extra == nil {
		return rareState{}
	}
	return *s.extra
}

var prefaces = sync.Pool{New: func() any { return new(preface) }}

// Hello is part of relay.Session.
func (s *session) Hello(data []byte, end error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.preface.parse(data)
	if s.preface.proxyDone && !s.sourceCounted {
		if s.preface.proxy != nil {
			s.more().proxy = s.preface.proxy
		}
		if !s.countSource() {
			s.endPeek(r, data)
			return s.drop(Limited, ErrTooManyFromSource)
		}
	}
	_, more := err.(peek.NeedMore)
	if more && end == nil {
		return relay.Step{}
	}
	if !s.endPeek(r, data) {
		return s.drop(Limited, ErrEvicted)
	}
	eof := errors.Is(end, io.EOF)
	switch {
	case end != nil && !eof && !errors.Is(end, os.ErrDeadlineExceeded) && !errors.Is(end, relay.ErrHelloTooLong):
		return s.drop(s.endReason(end)) // there is nobody to be answered
	case more && len(data) == int(s.proxyHeaderLen):
		if eof {
			return s.drop(Gone, errClientGone) // a health check, or a browser's spare connection
		}
		return s.drop(TimedOut, end)
	case more && eof:
		return s.refuse(refuseMalformed, fmt.Errorf("%w: %w", peek.ErrMalformed, io.ErrUnexpectedEOF))
	case more && errors.Is(end, relay.ErrHelloTooLong):
		return s.refuse(refuseTooLarge, fmt.Errorf("%w: %w", peek.ErrTooLarge, end))
	case more:
		return s.refuse(refuseSlow, end)
	}
	if s.less().proxy.passedThrough(s.srv.instanceID) {
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
func (s *session) countSource() bool {
	limit := s.srv.MaxConnsPerSource
	if limit <= 0 {
		return true
	}
	source := sourceOf(s.clientAddr().Addr())
	if !source.IsValid() {
		return true
	}
	if !s.srv.sources.add(source, limit) {
		return false
	}
	s.sourceCounted = true
	return true
}

// client is where the connection comes from in the end.
func (s *session) clientAddr() netip.AddrPort {
	if p := s.less().proxy; p != nil && p.source.IsValid() {
		return p.source
	}
	return s.peer
}

// used is the address that the client connected to, where a PROXY header says so.
func (s *session) usedAddr() netip.AddrPort {
	if p := s.less().proxy; p != nil {
		return p.destination
	}
	return netip.AddrPort{}
}

// peekEnds takes what is to be known of the client out of its bytes. It returns false if
// the session was pushed out meanwhile.
func (s *session) endPeek(r peek.Result, data []byte) bool {
	stays := s.srv.conns.peekDone(s)
	now := s.srv.now()
	s.peekTime, s.phaseStart = time.Duration(now-s.startedAt), now
	s.proxyHeaderLen = int32(s.preface.proxyLen)
	s.client = clientInfoOf(r, data[s.preface.proxyLen:])
	s.alpn = alpnOf(r.Hello)
	if s.name = r.Name; r.Name == "" && r.RawName != "" {
		s.more().rawName = clipName(r.RawName)
	}
	s.putPreface()
	return stays
}

func (s *session) putPreface() {
	if s.preface != nil {
		*s.preface = preface{}
		prefaces.Put(s.preface)
		s.preface = nil
	}
}

// makePrefix makes what the upstream is told of the client.
func (s *session) makePrefix() error {
	if s.srv.ProxyOut == 0 {
		return nil
	}
	destination := s.usedAddr()
	if !destination.IsValid() {
		destination = s.conn.LocalAddr()
	}
	prefix, err := formatProxy(s.srv.ProxyOut, s.clientAddr(), destination, s.less().proxy, s.srv.instanceID)
	s.more().proxyHeader = prefix
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
func (s *session) endReason(err error) (Outcome, error) {
	switch {
	case s.evicted.Load():
		return Limited, ErrEvicted
	case errors.Is(err, relay.ErrClosed):
		return Aborted, ErrServerClosed
	case err == nil:
		return Gone, errClientGone
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
		s.phase, s.outcome, s.err = PhaseRelay, Relayed, serverClosed(r.Err)
		s.dialTime += r.Dial
	default:
		s.outcome, s.err = s.endReason(r.Err)
	}
	var st Stats
	finished := s.srv.Finished
	if finished != nil {
		st = s.stats()
		st.ToUpstream, st.ToClient, st.Total = r.ToBackend, r.ToClient, r.Total
	}
	s.putPreface()
	s.srv.remove(s)
	s.mu.Unlock()
	if finished != nil {
		finished(st)
	}
}

// stats is what is known now.
func (s *session) stats() Stats {
	st := Stats{
		ID:         s.id,
		Client:     s.clientAddr(),
		Peer:       s.peer,
		Listener:   s.listener.addr,
		Protocol:   s.client.protocol,
		Name:       s.name,
		RawName:    s.less().rawName,
		TLSVersion: s.client.version,
		ECH:        s.client.ech,
		Endpoint:   s.endpoint,
		Level:      s.level,
		LookedUp:   s.lookedUp,
		Fallback:   s.fallback,
		Upstream:   s.dialled(),
		Dials:      int(s.dials),
		Answer:     int(s.answer),
		Start:      s.srv.epoch.Add(time.Duration(s.startedAt)),
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
