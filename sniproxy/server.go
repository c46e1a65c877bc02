package sniproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// Server routes connections by the host that they name. See the package comment. All
// fields but Lookup may be left zero; they must not change after the first Serve. Its
// methods may be called from several goroutines. It cannot be used again after Shutdown or
// Close.
type Server struct {
	// Lookup finds the endpoint of a host. Required. What a hostlookup.Peeker, such as
	// a Cache, has is taken at once; all else is asked in a goroutine of its own, with
	// a context that ends after LookupTimeout or when the client leaves.
	//
	// An endpoint without a port is one with the port that the client used: that of
	// the listener, or the one that a PROXY header names. An endpoint that is a name
	// may have several addresses, which are tried in turn.
	Lookup hostlookup.Lookup

	// NoName, if its Addr is not empty, is the endpoint of connections that are well
	// formed but name no host. It never gets what is malformed.
	NoName hostlookup.Endpoint
	// Fallback, if its Addr is not empty, is the endpoint of TLS connections whose host
	// Lookup says is not found: a server with a certificate for a page that says so.
	Fallback hostlookup.Endpoint
	// CloseUnknownTLS closes TLS connections of unknown hosts, and of no host, without
	// the alert that otherwise tells the client why.
	CloseUnknownTLS bool
	// Page makes the pages that HTTP clients get; it is executed with a Page. nil is a
	// plain one. What it gives is HTML, 1 MiB of it at most.
	Page *template.Template

	// HelloTimeout bounds the time from accept until the client has named its host.
	// 0 is 10 s.
	HelloTimeout time.Duration
	// LookupTimeout bounds a lookup, and apart from that the DNS query for an endpoint
	// that is a name. 0 is 5 s.
	LookupTimeout time.Duration
	// DialTimeout bounds connecting to an endpoint, all its addresses together.
	// 0 is 10 s.
	DialTimeout time.Duration
	// IdleTimeout ends a connection on which nothing has moved in either direction for
	// so long. It bounds also those of which one direction has ended. 0 is 10 min,
	// less than 0 is never.
	IdleTimeout time.Duration
	// KeepAlive is after how long a silence TCP probes whether a peer is still there,
	// and how often. 0 is 15 s, less than 0 is never.
	KeepAlive time.Duration

	// MaxHello bounds a ClientHello or the head of a request in bytes. 0 is
	// peek.MaxBytes, 64 KiB, which is also the most.
	MaxHello int
	// MaxConns bounds the connections at one time; more are closed as they come.
	// 0 is no bound.
	MaxConns int
	// MaxConnsPerSource bounds those of one source: an IPv4 address or a /64 of IPv6,
	// of the client that a PROXY header names, if there is one. More are closed. 0 is
	// no bound.
	MaxConnsPerSource int
	// MaxPeeking bounds the connections that have not named their host. One more takes
	// the place of the oldest, which is closed. 0 is no bound.
	MaxPeeking int

	// ProxyFrom are the networks whose connections may begin with a header of the PROXY
	// protocol, version 1 or 2. Nobody else's are looked at.
	ProxyFrom []netip.Prefix
	// ProxyRequired refuses connections without a header, and such from other networks.
	ProxyRequired bool
	// ProxyOut is the version of the PROXY header that upstreams get: 1 or 2; 0 is none.
	// Version 2 passes on the TLVs of a header that came in, and carries a mark by which
	// the server recognises its own connections if they come back.
	ProxyOut int

	// AllowEndpoints, if not empty, are the only networks that may be connected to.
	//
	// Loopback and link-local addresses and those of this machine are allowed only
	// where a prefix within their range says so, for the machine's own the single
	// address: 0.0.0.0/0 does not allow 127.0.0.1. To allow that beside all else,
	// list 0.0.0.0/0, ::/0 and 127.0.0.1/32. Unspecified, multicast and reserved addresses,
	// and the addresses that this Server listens on, are never connected to. All of this
	// is checked after DNS.
	AllowEndpoints []netip.Prefix
	// DenyEndpoints are networks that may not be connected to, whatever else is said:
	// such as the virtual addresses that lead back to the routers.
	DenyEndpoints []netip.Prefix
	// Resolver finds the addresses of endpoints that are names. nil is
	// net.DefaultResolver.
	Resolver Resolver
	// DialContext connects to an address. nil is a plain TCP connection, which on Linux
	// takes no goroutine. Connections other than *net.TCPConn cost the fast path, and those
	// without a CloseWrite method end as soon as the client ends its direction.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// DrainSpread is how long before the end of Shutdown's context the connections
	// that are left begin to be closed, in random order, so that their clients do not all
	// come back at once. 0 is a quarter of the time that Shutdown has, less than 0 none.
	DrainSpread time.Duration

	// Finished, if not nil, is called once for every connection after it has ended,
	// also for those that a limit closed. It must not block: it is called from where
	// other connections are served.
	Finished func(Stats)
	// Logger is told what concerns no single connection, such as accept errors. nil is
	// silence. Faults that repeat make one line a second.
	Logger *slog.Logger

	portable bool // for tests: the engine without event loops

	once         sync.Once
	invalid      error // of the fields
	engine       relay.Engine
	epoch        time.Time
	instanceID   string // the ID by which it recognises its own connections
	ctx          context.Context
	cancel       context.CancelFunc
	peeker       instant
	guard        guard
	conns        connTable
	sources      sourceCounts
	lastID       atomic.Uint64
	lookups      sync.WaitGroup
	draining     atomic.Bool
	acceptErrors atomic.Int64 // of accepting, since the last that was logged
	warnedAt     atomic.Int64 // when that was
}

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// listening is one call of Serve.
type listener struct {
	protocols peek.Protocol
	port      uint16
	addr      string
}

const (
	defaultLookupTimeout = 5 * time.Second
	defaultDialTimeout   = 10 * time.Second
)

func (s *Server) lookupTimeout() time.Duration {
	return positive(s.LookupTimeout, defaultLookupTimeout)
}
func (s *Server) dialTimeout() time.Duration { return positive(s.DialTimeout, defaultDialTimeout) }

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func (s *Server) resolver() Resolver {
	if s.Resolver != nil {
		return s.Resolver
	}
	return net.DefaultResolver
}

// now is the time since the Server began. Times of sessions take 8 bytes this way.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) }

// init prepares what the first use needs.
func (s *Server) init() error {
	s.once.Do(func() {
		s.invalid = s.validate()
		s.epoch = time.Now()
		s.instanceID = fmt.Sprintf("%016x", rand.Uint64())
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.peeker = instantOf(s.Lookup)
		s.guard.allow, s.guard.deny, s.guard.localAddrs = s.AllowEndpoints, s.DenyEndpoints, newLocalAddrList().get
		s.conns.maxConns, s.conns.maxPeeking = s.MaxConns, s.MaxPeeking
		s.engine.HelloTimeout = s.HelloTimeout
		s.engine.HelloLimit = cmp.Or(s.MaxHello, peek.MaxBytes) + maxProxyV2
		s.engine.IdleTimeout = s.IdleTimeout
		s.engine.KeepAlive = s.KeepAlive
		s.engine.Portable = s.portable
		s.engine.AcceptError = s.acceptFailed
	})
	return s.invalid
}

func (s *Server) validate() error {
	switch {
	case s.Lookup == nil:
		return errors.New("sniproxy: Lookup is required")
	case s.ProxyOut < 0 || s.ProxyOut > 2:
		return fmt.Errorf("sniproxy: ProxyOut %d is not 0, 1 or 2", s.ProxyOut)
	case s.ProxyRequired && len(s.ProxyFrom) == 0:
		return errors.New("sniproxy: ProxyRequired without ProxyFrom lets nobody in")
	case s.HelloTimeout < 0 || s.LookupTimeout < 0 || s.DialTimeout < 0:
		return errors.New("sniproxy: HelloTimeout, LookupTimeout and DialTimeout cannot be negative: they bound what strangers may take")
	case s.MaxHello < 0 || s.MaxHello > peek.MaxBytes:
		return fmt.Errorf("sniproxy: MaxHello %d is not from 0 to %d", s.MaxHello, peek.MaxBytes)
	}
	for _, p := range slices.Concat(s.ProxyFrom, s.AllowEndpoints, s.DenyEndpoints) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("sniproxy: network %v contains nothing: one of IPv4 is written as such", p)
		}
	}
	for _, ep := range []hostlookup.Endpoint{s.NoName, s.Fallback} {
		if ep.Addr != "" {
			if err := ep.Validate(); err != nil {
				return fmt.Errorf("sniproxy: NoName, Fallback: %w", err)
			}
		}
	}
	return nil
}

// Serve routes the connections of l, which speak one of the protocols, or any that
// package peek knows if accept is 0:
//
//	go srv.Serve(l443, peek.TLS)
//	go srv.Serve(l80, peek.HTTP1|peek.HTTP2)
//
// It owns l, and blocks until Shutdown or Close, then returns ErrServerClosed, or until
// accepting is impossible for good. A lack of descriptors does not end it. Connections
// may outlive it; Shutdown waits for them.
func (s *Server) Serve(l net.Listener, accept peek.Protocol) error {
	if err := s.init(); err != nil {
		l.Close()
		return err
	}
	on := &listener{protocols: accept, addr: l.Addr().String()}
	addr := addrPort(l.Addr())
	on.port = addr.Port()
	defer s.guard.addListener(addr)()
	return serverClosed(s.engine.Serve(l, func(c relay.Conn) relay.Session { return s.accept(on, c) }))
}

// accept lets a connection in.
func (s *Server) accept(on *listener, c relay.Conn) relay.Session {
	peer := c.RemoteAddr()
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	n := &session{srv: s, conn: c, listener: on, id: s.lastID.Add(1), startedAt: s.now(), peer: peer}
	use, err := s.proxyUse(peer.Addr())
	if err != nil {
		return s.reject(n, Rejected, err)
	}
	if use == proxyNone && !n.countSource() {
		return s.reject(n, Limited, ErrTooManyFromSource)
	}
	h := prefaces.Get().(*preface)
	*h = preface{proxyUse: use, parser: peek.Parser{Accept: on.protocols, MaxBytes: s.MaxHello}}
	n.preface, n.phase = h, PhasePeek
	ok, out := s.conns.add(n) // from here on others see it
	if !ok {
		n.putPreface()
		n.phase = PhaseAccept
		s.remove(n)
		return s.reject(n, Limited, ErrTooManyConns)
	}
	if out != nil {
		out.conn.Close()
	}
	return n
}

// proxyUse is what to do about PROXY headers of a peer.
func (s *Server) proxyUse(peer netip.Addr) (proxyUse, error) {
	for _, p := range s.ProxyFrom {
		if p.Contains(peer) {
			if s.ProxyRequired {
				return proxyRequired, nil
			}
			return proxyOptional, nil
		}
	}
	if s.ProxyRequired {
		return proxyNone, fmt.Errorf("%w: required, and none may come from %v", ErrProxyHeader, peer)
	}
	return proxyNone, nil
}

// turnAway closes a connection that is not let in; the nil makes the engine do it.
func (s *Server) reject(n *session, o Outcome, err error) relay.Session {
	n.outcome, n.err = o, err
	if s.Finished != nil {
		s.Finished(n.stats())
	}
	return nil
}

// leave takes a session off the books. Its mutex is held, or it is new.
func (s *Server) remove(n *session) {
	s.conns.remove(n)
	if n.sourceCounted {
		s.sources.remove(sourceOf(n.clientAddr().Addr()))
	}
}

// makeRoom ends the oldest eighth of those that peek: descriptors ran out, and they are
// the ones that have cost nobody anything yet.
func (s *Server) evictOldest() {
	_, peeking := s.conns.counts()
	for _, out := range s.conns.evict((peeking + 7) / 8) {
		out.conn.Close()
	}
}

func (s *Server) acceptFailed(err error) {
	if isResourceExhausted(err) {
		s.evictOldest()
	}
	if s.Logger == nil {
		return
	}
	// One line a second: without descriptors each connection that comes is a failure.
	s.acceptErrors.Add(1)
	last, now := s.warnedAt.Load(), s.now()
	if (last == 0 || now-last >= int64(time.Second)) && s.warnedAt.CompareAndSwap(last, now) {
		s.Logger.Warn("accepting failed", "err", err, "times", s.acceptErrors.Swap(0))
	}
}

// dialer makes a dial function of DialContext.
func (s *Server) dialFunc(addr netip.AddrPort) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return s.DialContext(ctx, "tcp", addr.String())
	}
}

// answerTo makes what a client gets instead of an upstream: the status or the description
// of the alert, and the bytes; nil where there is nothing to be said.
func (s *Server) answerTo(n *session, why refusal) (int, []byte) {
	switch n.client.protocol {
	case peek.TLS:
		if why == refuseSlow || s.CloseUnknownTLS && (why == refuseUnknown || why == refuseNoName) {
			return 0, nil
		}
		alert := why.alert(n.client)
		return int(alert), alertRecord(n.client, alert)
	case peek.HTTP1, peek.HTTP2:
		status := why.status()
		body := renderPage(s.Page, Page{
			Status: status, Text: http.StatusText(status), Message: why.message(), Host: n.name, App: n.endpoint.App,
		})
		if n.client.protocol == peek.HTTP2 {
			return status, http2Answer(n.client, status, body, time.Now())
		}
		return status, http1Answer(n.client, status, body, time.Now())
	}
	return 0, nil
}

// Connections yields what is known of the connections that are open now, those past the
// peek first, each in the order in which they came to that.
func (s *Server) Connections() iter.Seq[Stats] {
	return func(yield func(Stats) bool) {
		for _, n := range s.conns.snapshot() {
			n.mu.Lock()
			st := n.stats()
			n.mu.Unlock()
			if st.Phase == PhaseDial && st.Outcome == Open {
				st.Phase = PhaseRelay // nearly always; the engine does not say
			}
			st.Total = time.Duration(s.now() - n.startedAt)
			if !yield(st) {
				return
			}
		}
	}
}

// Load is how much a Server has to do.
type Load struct {
	Conns    int   // connections that are open
	Peeking  int   // those of them that have not named their host
	Pipes    int64 // pipes for bulk transfers that exist
	Shed     int64 // connections closed since the start as descriptors or memory ran out
	Draining bool  // Shutdown or Close was called
}

// Load returns the figures of this moment. It is cheap.
func (s *Server) Load() Load {
	_ = s.init()
	all, peeking := s.conns.counts()
	e := s.engine.Stats()
	return Load{Conns: all, Peeking: peeking, Pipes: e.Pipes, Shed: e.Shed, Draining: s.draining.Load()}
}

// Shutdown stops accepting and waits for the connections that are open to end. Before ctx
// ends, if it has a deadline, those that are left are closed one by one; see DrainSpread.
// When it has ended, what is still left is closed, and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	_ = s.init() // an unused Server too can be shut down
	s.draining.Store(true)
	if deadline, ok := ctx.Deadline(); ok && s.DrainSpread >= 0 {
		left := time.Until(deadline)
		spread := min(cmp.Or(s.DrainSpread, left/4), left)
		stop := time.AfterFunc(left-spread, func() { s.engine.CloseWithin(spread) })
		defer stop.Stop()
	}
	err := s.engine.Shutdown(ctx)
	if err != nil {
		s.Close()
	}
	s.cancel()
	s.lookups.Wait()
	return err
}

// Close stops accepting, closes all connections and waits until Finished has been called
// for each.
func (s *Server) Close() error {
	_ = s.init()
	s.draining.Store(true)
	// First, so that a lookup that ends with its connection is not taken for one that failed.
	err := s.engine.Close()
	s.cancel()
	s.lookups.Wait()
	return err
}
