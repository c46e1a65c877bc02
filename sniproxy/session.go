package sniproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// session is the relay.Session of one connection. It is small, because each open connection has
// one. So it drops its parser as soon as the host is known, and fields that few connections need
// are in rareState.
type session struct {
	*listener
	conn  relay.Conn
	share fairshare.Entry[*session] // the part of this session that belongs to a fairshare.Table

	id        uint64
	startedAt int64 // see Server.now

	// mu guards the fields below. Three kinds of goroutines use them at the same time: the
	// goroutines of the engine, the goroutines of runInBackground, and callers of
	// Server.Connections.
	mu              sync.Mutex
	phase           Phase
	outcome         Outcome
	level           hostlookup.Level
	lookedUp        bool
	fallback        bool
	sourceKnown     bool // the whole PROXY header has arrived, or the connection has none
	dials           uint8
	descriptorWaits uint8
	answer          uint16
	hostCounted     bool // Server.hosts counts this connection
	echResult       ECHResult
	skip            int32 // how many first bytes the upstream does not get: a PROXY header, empty lines
	client          clientInfo
	preface         *preface   // nil after the peek
	rare            *rareState // nil for most sessions
	alpn            *[]string
	name            string
	endpoint        hostlookup.Endpoint
	upstream        netip.AddrPort
	err             error

	peekTime, lookupTime, dialTime time.Duration
}

// rareState holds the fields that only few sessions need, so that the other sessions are smaller.
type rareState struct {
	proxy       *proxyInfo       // the incoming PROXY header
	rawName     string           // see Stats.RawName
	untried     []netip.AddrPort // the addresses of the endpoint that the Server has not tried yet
	proxyHeader []byte           // the PROXY header for the upstream
	ech         *echState        // nil unless the Server has decrypted the hello
	cancelQuery context.CancelFunc
}

// ensureRare returns s.rare. It allocates s.rare at the first call.
func (s *session) ensureRare() *rareState {
	if s.rare == nil {
		s.rare = new(rareState)
	}
	return s.rare
}

// proxy returns the PROXY header that the client's connection began with, or nil if there was none.
func (s *session) proxy() *proxyInfo {
	if s.rare == nil {
		return nil
	}
	return s.rare.proxy
}

// peer returns the address of the host at the other end of the client's connection.
func (s *session) peer() netip.AddrPort {
	a := s.conn.RemoteAddr()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// inPhase returns the time since the end of the last complete phase. The phases are peek, lookup and
// dial, and follow one another without a gap.
func (s *session) inPhase() time.Duration {
	return time.Duration(s.srv.now()-s.startedAt) - s.peekTime - s.lookupTime - s.dialTime
}

// clientAddr returns the address of the client: from a PROXY header, or else the peer's.
func (s *session) clientAddr() netip.AddrPort {
	if p := s.proxy(); p != nil && p.source.IsValid() {
		return p.source
	}
	return s.peer()
}

// proxyDestination returns the address that the client connected to according to the PROXY header.
// Without a header, it returns the zero value.
func (s *session) proxyDestination() netip.AddrPort {
	if p := s.proxy(); p != nil {
		return p.destination
	}
	return netip.AddrPort{}
}

// Hello is part of relay.Session.
func (s *session) Hello(data []byte, end error) relay.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.preface.parse(data)
	var limit error
	if s.preface.proxyDone && !s.sourceKnown {
		s.sourceKnown = true
		if s.preface.proxy != nil {
			s.ensureRare().proxy = s.preface.proxy
		}
		if s.preface.proxyUse != proxyNone {
			limit = s.countForSource()
		}
	}
	_, incomplete := err.(peek.NeedMore)
	if incomplete && end == nil && limit == nil {
		if limit = s.countHello(len(data)); limit == nil {
			return relay.Step{}
		}
	}
	if s.srv.ECHKeys != nil && limit == nil && !incomplete {
		r, err = s.openHello(r, err, data[s.preface.proxyLen:])
	}
	if err := s.endPeek(r, data); limit == nil {
		limit = err
	}
	switch {
	case limit == ErrTooManyConns && !incomplete && end == nil:
		return s.refuse(refuseFull, limit)
	case limit != nil:
		return s.drop(Limited, limit)
	case end != nil && !isHelloEnd(end):
		return s.drop(s.endReason(end)) // the connection has failed: no answer can reach the client
	case incomplete:
		return s.refuseIncomplete(end, len(data) == int(s.skip))
	case s.proxy().passedThrough(s.srv.instanceID):
		return s.refuse(refuseLoop, fmt.Errorf("%w: the connection has been here", ErrLoop))
	}
	if err == nil || errors.Is(err, peek.ErrNoName) {
		if err := s.makeProxyHeader(); err != nil {
			return s.refuse(refuseLoop, err)
		}
	}
	switch {
	case err == nil:
		return s.lookUpHost()
	case errors.Is(err, peek.ErrNoName) && s.srv.NoName.Addr != "":
		s.fallback = true
		return s.dialEndpoint(s.srv.NoName)
	}
	return s.refuse(refusalOf(err), err)
}

// isHelloEnd reports whether the hello (the first bytes of the client, which name the host) has
// ended because the client has ended its direction, or because of HelloTimeout or MaxHello. In
// these cases, the Server can still send an answer to the client. err is the reason why the Server
// reads no more of the hello.
func isHelloEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, relay.ErrHelloTooLong)
}

// refuseIncomplete refuses a client whose hello ended too early. The argument "silent" is true if
// the client sent nothing, except perhaps a PROXY header.
func (s *session) refuseIncomplete(end error, silent bool) relay.Step {
	eof := errors.Is(end, io.EOF)
	switch {
	case silent && eof:
		return s.drop(Gone, errClientGone) // a health check, or a spare connection of a browser
	case silent:
		return s.drop(TimedOut, end)
	case eof:
		return s.refuse(refuseMalformed, fmt.Errorf("%w: %w", peek.ErrMalformed, io.ErrUnexpectedEOF))
	case errors.Is(end, relay.ErrHelloTooLong):
		return s.refuse(refuseTooLarge, fmt.Errorf("%w: %w", peek.ErrTooLarge, end))
	}
	return s.refuse(refuseSlow, end)
}

// endPeek stores the facts about the client's first bytes that the session needs later, and
// releases the parser. It returns one of these errors, or nil:
//
//   - ErrTooManyConns: the process has not enough descriptors for a connection to an upstream.
//   - ErrEvicted: the Server has closed the connection to make room for another one.
func (s *session) endPeek(r peek.Result, data []byte) error {
	victim, err := s.srv.conns.Serve(s)
	victim.close()
	s.peekTime = s.inPhase()
	s.skip = int32(s.preface.proxyLen + r.Request.Blank)
	if e := s.echState(); e != nil {
		s.skip += int32(e.outerLen)
	}
	s.client = clientInfoOf(r, data[s.preface.proxyLen:])
	s.alpn = alpnOf(r.Hello)
	if s.name = r.Name; r.Name == "" && r.RawName != "" {
		s.ensureRare().rawName = clipName(r.RawName)
	}
	s.putPreface()
	return limitError(err)
}

func (s *session) putPreface() {
	if s.preface != nil {
		*s.preface = preface{}
		prefaces.Put(s.preface)
		s.preface = nil
	}
}

// makeProxyHeader makes the PROXY header for the upstream, if Server.ProxyOut is 1 or 2.
func (s *session) makeProxyHeader() error {
	if s.srv.ProxyOut == 0 {
		return nil
	}
	destination := s.proxyDestination()
	if !destination.IsValid() {
		destination = s.conn.LocalAddr()
	}
	header, err := formatProxy(s.srv.ProxyOut, s.clientAddr(), destination, s.proxy(), s.clientTLVs(), s.srv.instanceID)
	s.ensureRare().proxyHeader = header
	return err
}

// clientTLVs returns the facts that Server.ProxyAuthority and Server.ProxyALPN add to the header.
func (s *session) clientTLVs() (c clientTLVs) {
	if s.srv.ProxyAuthority {
		c.authority = s.name
	}
	if s.srv.ProxyALPN {
		var offered []string
		if s.alpn != nil {
			offered = *s.alpn
		}
		c.alpn = applicationProtocol(s.client.protocol, offered)
	}
	return c
}

// refuse ends the session with an answer that tells the client the reason.
func (s *session) refuse(why refusal, err error) relay.Step {
	s.outcome, s.err = why.outcome(), err
	answer, data := s.answerFor(why)
	if data == nil {
		return relay.Step{Action: relay.Drop, Err: err}
	}
	s.answer = uint16(answer)
	return relay.Step{Action: relay.Answer, Data: data, Err: err}
}

// drop ends the session without an answer.
func (s *session) drop(o Outcome, err error) relay.Step {
	s.outcome, s.err = o, err
	return relay.Step{Action: relay.Drop, Err: err}
}

// answerFor returns the answer for a refusal. The number is the HTTP status, or for TLS the code of
// the alert (AlertDescription in RFC 8446). The slice holds the bytes of the answer. If the client
// gets no answer, the slice is nil.
func (s *session) answerFor(why refusal) (int, []byte) {
	switch s.client.protocol {
	case peek.TLS:
		if why == refuseSlow || s.srv.CloseUnknownTLS && (why == refuseUnknown || why == refuseNoName) {
			return 0, nil
		}
		alert := why.alert(s.client)
		return int(alert), alertRecord(s.client, alert)
	case peek.HTTP1, peek.HTTP2:
		status := why.status()
		body := renderPage(s.srv.Page, Page{
			Status: status, Text: http.StatusText(status), Message: why.message(), Host: s.name, App: s.endpoint.App,
		})
		if s.client.protocol == peek.HTTP2 {
			return status, http2Answer(s.client, status, body, time.Now())
		}
		return status, http1Answer(s.client, status, body, time.Now())
	}
	return 0, nil
}

// endReason returns the outcome and the error of a connection that has ended without a decision of
// the session: the client left, the connection failed, or the Server closed the connection.
func (s *session) endReason(err error) (Outcome, error) {
	switch {
	case s.srv.conns.Evicted(s):
		return Limited, s.evictedError()
	case errors.Is(err, relay.ErrClosed):
		return Aborted, ErrServerClosed
	case err == nil:
		return Gone, errClientGone
	}
	return Gone, err
}

// evictedError returns the error of a session that the Server closed to make room: ErrEvictedIdle
// if the client had named a host, and otherwise ErrEvicted.
func (s *session) evictedError() error {
	if s.preface == nil {
		return ErrEvictedIdle
	}
	return ErrEvicted
}

// Done is part of relay.Session.
func (s *session) Done(r relay.Result) {
	s.mu.Lock()
	if s.rare != nil && s.rare.cancelQuery != nil {
		s.rare.cancelQuery()
	}
	switch {
	case s.outcome != Open: // the method refuse or drop has set it
	case r.Phase == relay.PhaseRelay:
		s.phase, s.outcome, s.err = PhaseRelay, Relayed, serverClosed(r.Err)
		if s.err == nil && s.srv.conns.Evicted(s) {
			s.err = ErrEvictedIdle
		}
		if e := s.echState(); e != nil {
			r.ToBackend += int64(e.innerLen)
			if failure := e.failure.Load(); failure != nil {
				s.err, s.answer, s.echResult = failure, uint16(failure.Alert), ECHFailed
			}
		}
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
	s.srv.conns.Remove(s)
	if s.hostCounted {
		s.srv.hosts.remove(s.limitedHost(), s.srv.now())
	}
	s.mu.Unlock()
	if finished != nil {
		finished(st)
	}
}

// stats returns the Stats of this moment.
func (s *session) stats() Stats {
	st := Stats{
		ID:         s.id,
		Client:     s.clientAddr(),
		Peer:       s.peer(),
		Listener:   s.listener.addr,
		Protocol:   s.client.protocol,
		Name:       s.name,
		TLSVersion: s.client.version,
		ECH:        s.client.ech,
		ECHResult:  s.echResult,
		Endpoint:   s.endpoint,
		Level:      s.level,
		LookedUp:   s.lookedUp,
		Fallback:   s.fallback,
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
	if s.rare != nil {
		st.RawName = s.rare.rawName
	}
	if s.alpn != nil {
		st.ALPN = *s.alpn
	}
	if s.dials > 0 {
		st.Upstream = s.upstream
	}
	return st
}
