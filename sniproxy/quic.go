package sniproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
	"github.com/headgate/headgate/sniproxy/quicrelay"
)

// quicClient is the clientInfo of all QUIC clients. They all use TLS 1.3, because QUIC needs it
// (RFC 9001 section 4.2).
var quicClient = clientInfo{protocol: peek.QUIC, version: tls.VersionTLS13}

// initQUIC sets the fields of s.quic.
func (s *Server) initQUIC() {
	s.quic.Route, s.quic.Finished = s.routeQUIC, s.finishedQUIC
	s.quic.NewID = func() uint64 { return s.lastID.Add(1) }
	s.quic.Trusted = s.isTrusted
	s.quic.HelloTimeout, s.quic.MaxHello = s.HelloTimeout, s.MaxHello
	s.quic.RouteTimeout = 2 * s.lookupTimeout() // for the lookup and for DNS
	s.quic.IdleTimeout = s.QUICIdleTimeout
	s.quic.MaxPeeking, s.quic.MaxPathsPerSource = s.MaxPeeking, s.MaxConnsPerSource
	s.quic.MaxPaths = s.MaxConns
	if files := quicFiles(s.conns.MaxFiles); files > 0 && (s.MaxConns == 0 || s.MaxConns > files) {
		s.quic.MaxPaths = files
	}
}

// quicFiles returns how many descriptors QUIC connections may use: a quarter of the descriptors of all
// connections. 0 means no bound.
func quicFiles(maxFiles int) int {
	if maxFiles == 0 {
		return 0
	}
	return max(maxFiles/4, 1)
}

// ServeQUIC routes the QUIC connections whose datagrams arrive at conn; see "QUIC" in the package
// comment. Give conn a large receive buffer (SetReadBuffer). ServeQUIC may be called for several
// sockets, and closes conn at the latest when it returns.
//
// ServeQUIC returns ErrServerClosed after Shutdown or Close, and another error if it can receive no
// more datagrams. It also returns an error if ProxyRequired is set, because QUIC has no PROXY
// header.
func (s *Server) ServeQUIC(conn *net.UDPConn) error {
	err := s.init()
	if err == nil && s.ProxyRequired {
		err = errors.New("sniproxy: ServeQUIC with ProxyRequired: QUIC has no PROXY header")
	}
	if err != nil {
		conn.Close()
		return err
	}
	s.quicStart.Do(func() {
		if files := s.conns.MaxFiles; files > 0 {
			s.conns.SetMaxFiles(files - quicFiles(files))
		}
	})
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	// Add the address of this socket to the guard. The guard then refuses the address as an
	// endpoint, for QUIC and for TCP connections, because the Server would connect to itself.
	defer s.guard.addListener(netip.AddrPortFrom(local.Addr().Unmap(), local.Port()))()
	if err := s.quic.Serve(conn); !errors.Is(err, quicrelay.ErrClosed) {
		return err
	}
	return ErrServerClosed
}

// quicRoute is what routeQUIC has found out about a connection. Package quicrelay stores it in the
// Stats of the connection, in the field Tag.
type quicRoute struct {
	stats   Stats  // Outcome is Open, unless routeQUIC has refused the connection
	host    string // the name for hostLimits
	counted bool   // Server.hosts counts the connection
}

// routeQUIC returns the address of the upstream for a connection.
func (s *Server) routeQUIC(ctx context.Context, req quicrelay.Request) (quicrelay.Backend, error) {
	r := &quicRoute{stats: quicHelloStats(req.Hello)}
	why, err := s.findQUIC(ctx, r, req)
	if err == nil {
		r.stats.Dials = 1
		return quicrelay.Backend{Addr: r.stats.Upstream, Tag: r}, nil
	}
	r.stats.Outcome, r.stats.Err = why.outcome(), err
	if errors.Is(err, quic.ErrClosed) {
		r.stats.Outcome = Gone
	} else if !(s.CloseUnknownTLS && (why == refuseUnknown || why == refuseNoName)) {
		err = &quicrelay.Refusal{Alert: why.alert(quicClient), Reason: why.message(), Err: err}
	}
	return quicrelay.Backend{Tag: r}, err
}

// findQUIC finds the address of the upstream, and stores it in r.stats.Upstream. If the Server must
// refuse the connection, findQUIC returns the reason and its error.
func (s *Server) findQUIC(ctx context.Context, r *quicRoute, req quicrelay.Request) (refusal, error) {
	st := &r.stats
	switch {
	case req.Err == nil:
		if why, err := s.lookUpQUIC(ctx, r); err != nil {
			return why, err
		}
	case errors.Is(req.Err, peek.ErrNoName) && s.NoName.Addr != "":
		st.Endpoint, st.Fallback = s.NoName, true
	default:
		return refusalOf(req.Err), req.Err
	}
	st.Phase = PhaseLookup
	if s.hosts.enabled() {
		if !st.Fallback {
			r.host = cmp.Or(st.Endpoint.Host, st.Name)
		}
		switch err := s.hosts.add(r.host, s.now()); err {
		case nil:
			r.counted = true
		case ErrHostRate:
			return refuseHostRate, err
		default:
			return refuseHostFull, err
		}
	}
	t, err := parseEndpoint(st.Endpoint, req.Local.Port())
	addrs := []netip.AddrPort{t.addr}
	if err == nil && t.name != "" {
		ctx, cancel := context.WithTimeout(ctx, s.lookupTimeout())
		defer cancel()
		addrs, err = t.resolve(ctx, s.resolver())
	}
	if err != nil {
		return refuseLookup, err
	}
	st.Phase = PhaseDial
	for _, addr := range addrs {
		e := s.guard.check(addr, netip.AddrPort{})
		if e == nil {
			st.Upstream = addr
			return 0, nil
		}
		err = errors.Join(err, e)
	}
	if errors.Is(err, ErrLoop) {
		return refuseLoop, err
	}
	return refuseForbidden, err
}

// lookUpQUIC looks up the endpoint of the host that the client has named.
func (s *Server) lookUpQUIC(ctx context.Context, r *quicRoute) (refusal, error) {
	st := &r.stats
	st.Phase = PhaseLookup
	ctx, cancel := context.WithTimeout(ctx, s.lookupTimeout())
	defer cancel()
	answer, err := s.Lookup.LookupHost(ctx, st.Name)
	st.LookedUp, st.Level = true, answer.Level
	switch {
	case err == nil:
		st.Endpoint = answer.Endpoint
		return 0, nil
	case !errors.Is(err, hostlookup.ErrNotFound):
		return refuseLookup, err
	case s.Fallback.Addr == "":
		return refuseUnknown, err
	}
	st.Endpoint, st.Fallback = s.Fallback, true
	return 0, nil
}

// quicHelloStats returns the part of the Stats that depends on the hello.
func quicHelloStats(h quic.Hello) Stats {
	st := Stats{Phase: PhasePeek, Name: h.Name, ECH: h.ClientHello.ECH, TLSVersion: h.ClientHello.MaxVersion()}
	if h.Name == "" {
		st.RawName = clipName(h.RawName)
	}
	if alpn := alpnOf(h.ClientHello); alpn != nil {
		st.ALPN = *alpn
	}
	return st
}

// quicStats converts the Stats of package quicrelay into the Stats of this package. The result has
// the Outcome Open, unless the Server has refused the connection.
func quicStats(p quicrelay.Stats) Stats {
	st := Stats{Name: p.Name}
	if r, ok := p.Tag.(*quicRoute); ok {
		st = r.stats
	}
	if st.Outcome == Open {
		st.Phase = [...]Phase{quicrelay.PhasePeek: PhasePeek, quicrelay.PhaseRoute: PhaseLookup, quicrelay.PhaseRelay: PhaseRelay}[p.Phase]
	}
	if p.Moved { // the earlier path has counted the lookup
		st.LookedUp, st.Level = false, 0
	}
	st.ID, st.Client, st.Peer, st.Listener, st.Protocol = p.ID, p.Client, p.Client, p.Local.String(), peek.QUIC
	st.Start, st.Peek, st.Lookup, st.Total = p.Start, p.Peek, p.Route, p.Total
	return st
}

// finishedQUIC calls Finished for a path that has ended.
func (s *Server) finishedQUIC(p quicrelay.Stats) {
	if r, ok := p.Tag.(*quicRoute); ok && r.counted && !p.Moved {
		s.hosts.remove(r.host, s.now())
	}
	if s.Finished == nil {
		return
	}
	st := quicStats(p)
	st.ToUpstream, st.ToClient, st.Answer = p.ToBackend, p.ToClient, int(p.Alert)
	isEvicted := errors.Is(p.Err, quicrelay.ErrEvicted) || errors.Is(p.Err, quicrelay.ErrClosed)
	if st.Outcome == Open || isEvicted { // routeQUIC can also fail because its connection was evicted
		st.Phase, st.Outcome, st.Err = quicEnd(st.Phase, p)
	}
	s.Finished(st)
}

// quicEnd returns the phase, the outcome and the error of a path that has ended for another reason
// than a refusal by the Server.
func quicEnd(phase Phase, p quicrelay.Stats) (Phase, Outcome, error) {
	_, refused := errors.AsType[*quicrelay.Refusal](p.Err)
	switch {
	case refused: // the Relay has no socket for the upstream, or the upstream is unreachable
		return PhaseDial, DialFailed, p.Err
	case phase == PhaseRelay && errors.Is(p.Err, quicrelay.ErrEvicted):
		return phase, Relayed, ErrEvictedIdle
	case phase == PhaseRelay && errors.Is(p.Err, quicrelay.ErrClosed):
		return phase, Relayed, ErrServerClosed
	case phase == PhaseRelay:
		return phase, Relayed, p.Err
	case errors.Is(p.Err, quicrelay.ErrClosed):
		return phase, Aborted, ErrServerClosed
	case errors.Is(p.Err, quicrelay.ErrFull), errors.Is(p.Err, quicrelay.ErrSourceFull):
		return PhaseAccept, Limited, limitError(p.Err)
	case errors.Is(p.Err, quicrelay.ErrEvicted):
		return phase, Limited, ErrEvicted
	case errors.Is(p.Err, quicrelay.ErrHelloTimeout):
		return phase, TimedOut, p.Err
	}
	return phase, Rejected, p.Err // the first datagram has no part of a hello
}

// quicConnections returns the Stats of the open QUIC connections, in the order of their IDs.
func (s *Server) quicConnections() []Stats {
	_ = s.init() // before the first use of s.quic
	var list []Stats
	for p := range s.quic.All() {
		list = append(list, quicStats(p))
	}
	slices.SortFunc(list, func(a, b Stats) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
