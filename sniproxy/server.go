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
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/quicrelay"
	"github.com/headgate/headgate/sniproxy/relay"
)

// Server routes connections by the host that the client names; see the package comment. All fields
// except Lookup may be zero, and must not change after the first Serve or ServeQUIC. The methods
// are safe for concurrent use. A Server cannot be used again after Shutdown or Close.
type Server struct {
	// Lookup finds the endpoint of a host. Required. If it is a hostlookup.Peeker, such as a Cache,
	// the Server calls its Peek first. It calls LookupHost in a new goroutine, with a context that
	// ends after LookupTimeout or when the client leaves.
	//
	// Without a port in the endpoint, the Server connects to the port that a PROXY header names, or
	// else the port of the listener. It tries up to 8 addresses of a name in turn.
	Lookup hostlookup.Lookup

	// NoName, if its Addr is not empty, is the endpoint of well-formed connections that name no
	// host. A malformed connection never reaches it.
	NoName hostlookup.Endpoint
	// Fallback, if its Addr is not empty, is the endpoint of TLS connections whose host is not
	// found. An example is a server that has a certificate and shows a page about the unknown host.
	Fallback hostlookup.Endpoint
	// CloseUnknownTLS makes the Server send no alert to a TLS client that names an unknown host, or
	// no host: it only closes the connection.
	CloseUnknownTLS bool
	// Page is the template of the pages for HTTP clients, executed with a value of type Page. Its
	// output must be HTML of at most 1 MiB. nil means a plain page.
	Page *template.Template

	// HelloTimeout bounds the time from accept until the client has named its host. 0 means 10 s.
	HelloTimeout time.Duration
	// LookupTimeout bounds a lookup. If the endpoint is a name, the DNS query for it may take
	// LookupTimeout in addition. 0 means 5 s.
	LookupTimeout time.Duration
	// DialTimeout bounds the total time of all attempts to connect to an endpoint. After an encrypted
	// hello, it also bounds the wait for the first bytes of the upstream. 0 means 10 s.
	DialTimeout time.Duration
	// IdleTimeout is the time without a byte in either direction after which the Server closes the
	// connection. 0 means 10 min, less than 0 means no bound.
	IdleTimeout time.Duration
	// HalfCloseTimeout is the idle time-out of a connection after one side has ended its direction
	// or has failed. If IdleTimeout is shorter, IdleTimeout applies instead. 0 means 1 min; less
	// than 0 means that only IdleTimeout applies.
	HalfCloseTimeout time.Duration
	// QUICIdleTimeout replaces IdleTimeout for QUIC connections. The Server does not see the end of a
	// QUIC connection, so it keeps each connection until no datagram has come for this time. 0 means
	// 2 min, the least value that RFC 9308 section 4.2 recommends.
	QUICIdleTimeout time.Duration
	// KeepAlive is the time without a packet from a peer after which TCP sends it a keep-alive
	// probe, and the interval between further probes. 0 means 15 s, less than 0 means no probes.
	KeepAlive time.Duration

	// MaxHello is the largest size, in bytes, of a ClientHello or of the head of an HTTP request. 0
	// means peek.MaxBytes (64 KiB), which is also the largest allowed value.
	MaxHello int
	// MaxConns bounds the open connections, except QUIC connections, which have their own limit.
	// Above MaxConns, the Server closes a connection of the source with the most connections; see
	// "Shares of the sources" in the package comment. 0 means that only the descriptors of the
	// process are a limit.
	MaxConns int
	// MaxConnsPerSource bounds the open connections of one source: an IPv4 address or an IPv6 /64.
	// The Server closes further connections immediately. 0 means no bound.
	MaxConnsPerSource int
	// MaxPeeking bounds the silent connections, whose clients have not named a host yet. Above
	// MaxPeeking, the Server closes the oldest silent connection of the source with the most silent
	// connections. A client that has sent more than 4 KiB counts once for each 4 KiB. 0 means no
	// bound.
	MaxPeeking int
	// MaxConnsPerHost bounds the open connections to one host; 0 means no bound. The Server refuses
	// further connections after the lookup, with an answer to the client. All names of one wildcard
	// count as one host, and so do NoName and Fallback together.
	MaxConnsPerHost int
	// MaxRatePerHost bounds the new connections to one host in a second; 0 means no bound. After a
	// second without a new connection, MaxRatePerHost connections may arrive at the same moment.
	// The Server refuses further connections with an answer to the client.
	MaxRatePerHost int
	// TrustedSources are networks to which MaxConnsPerSource does not apply, for example the
	// networks of balancers that send no PROXY header. To make room, the Server closes a connection
	// from such a network only if it can close no other connection, and only if the client has not
	// named a host yet.
	TrustedSources []netip.Prefix

	// ECHKeys, if not nil, returns the keys for encrypted ClientHellos (ECH) of TLS clients; see
	// "Encrypted ClientHello" in the package comment. The Server calls ECHKeys for each TLS
	// connection, so new keys are used from the next connection on. ECHKeys must not block. The
	// result nil means no keys. The method Keys of a keyfiles.Dir is such a function.
	ECHKeys func() *ech.Keys

	// ProxyFrom are the networks whose connections may begin with a PROXY protocol header,
	// version 1 or 2. From other networks, the Server treats a header as bytes of the client.
	ProxyFrom []netip.Prefix
	// ProxyRequired makes the Server refuse connections without a PROXY header, and all connections
	// from outside the networks in ProxyFrom.
	ProxyRequired bool
	// ProxyOut is the version of the PROXY header for upstreams: 1, 2, or 0 for none. A header of
	// version 2 has the TLVs of the incoming header, and the ID of this Server, by which the Server
	// recognises a connection that comes back.
	ProxyOut int
	// ProxyAuthority adds the TLV AUTHORITY to the PROXY header for upstreams: the host that the
	// client named, if any, in normal form, at most 253 bytes. It needs ProxyOut 2.
	ProxyAuthority bool
	// ProxyALPN adds the TLV ALPN to the PROXY header for upstreams. ProxyALPN needs ProxyOut 2.
	// These are the values of the TLV:
	//
	//   - without TLS: "http/1.1" or "h2c"
	//   - with TLS: the protocol that the client offers
	//   - no TLV, if the client offers several protocols, as browsers do, or if the name of the
	//     protocol is not printable ASCII
	//
	// The Server passes an AUTHORITY or ALPN TLV of the incoming PROXY header on, and does not add
	// a second TLV of this type.
	ProxyALPN bool

	// AllowEndpoints, if not empty, are the only networks that the Server connects to.
	//
	// Special addresses need a narrow prefix in AllowEndpoints. So 0.0.0.0/0 does not allow
	// 127.0.0.1. To allow 127.0.0.1 and everything else, list 0.0.0.0/0, ::/0 and 127.0.0.1/32.
	//
	//   - These addresses need a prefix within their special range: loopback, link-local,
	//     documentation (such as 192.0.2.0/24) and benchmarks (such as 198.18.0.0/15).
	//   - A cloud metadata address, or an address of this machine, needs a prefix that contains
	//     only this address.
	//   - The Server never connects to unspecified, multicast and reserved addresses, nor to the
	//     addresses that it listens on.
	//
	// If an IPv6 address contains an IPv4 address, as 64:ff9b::7f00:1 does, the Server checks both.
	// If an endpoint is a name, the Server checks the addresses that DNS returns.
	AllowEndpoints []netip.Prefix
	// DenyEndpoints are networks that the Server never connects to, even if AllowEndpoints has
	// them. For example, list the virtual addresses of the balancers in front of the routers: such
	// an address leads back to a router.
	DenyEndpoints []netip.Prefix
	// NAT64Prefixes are the prefixes of the site's own NAT64 translators, of 32, 40, 48, 56, 64 or
	// 96 bits (RFC 6052). The Server checks the IPv4 address in an address with such a prefix. The
	// prefixes of RFC 6052 and RFC 8215 need not be listed.
	NAT64Prefixes []netip.Prefix
	// OwnListeners are further addresses that this process listens on, such as that of an admin
	// page. The address 0.0.0.0 or :: means all addresses of this machine. The Server never
	// connects to these addresses, even if AllowEndpoints has them. Set OwnListeners before the
	// first Serve.
	OwnListeners []netip.AddrPort
	// Resolver finds the addresses of endpoints that are names. nil means net.DefaultResolver.
	Resolver Resolver
	// DialContext connects to an address. nil means a plain TCP connection, which needs no
	// goroutine on Linux. If DialContext returns a connection that is not a *net.TCPConn, two
	// goroutines relay it, which is slower. Without a CloseWrite method, this connection ends when
	// the client ends its direction.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// DrainSpread is the last part of the time until the deadline of Shutdown. During DrainSpread,
	// the Server closes the remaining connections one by one, in random order, so that the clients
	// do not all reconnect at the same time. 0 means a quarter of the time until the deadline, less
	// than 0 means that the Server closes nothing before the deadline.
	DrainSpread time.Duration

	// Finished, if not nil, is called once for every connection, after the connection has ended.
	// The Server also calls it for a connection that it closed because of a limit. Finished must
	// not block, because the calling goroutine serves other connections too.
	Finished func(Stats)
	// Logger logs errors of accept, at most one line a second. These errors belong to no
	// connection, so Finished does not report them. nil means no log.
	Logger *slog.Logger

	portable bool // for tests: use the relay without event loops

	once          sync.Once
	invalid       error // the error of the method validate
	engine        relay.Engine
	epoch         time.Time // the zero of the clock of the method "now"
	instanceID    string    // the ID in PROXY headers of version 2
	guard         guard
	conns         fairshare.Table[*session]
	quic          quicrelay.Relay
	quicStart     sync.Once
	hosts         hostLimits
	lastID        atomic.Uint64
	queries       sync.WaitGroup // background lookups and DNS queries
	draining      atomic.Bool
	acceptErrors  atomic.Int64 // the number of errors since the last log line
	acceptErrorAt atomic.Int64 // the time of the last log line, on the clock of the method "now"
}

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// listener holds the facts about one call of Serve.
type listener struct {
	srv       *Server
	protocols peek.Protocol
	port      uint16
	addr      string
}

const (
	defaultLookupTimeout = 5 * time.Second
	defaultDialTimeout   = 10 * time.Second
)

func (s *Server) lookupTimeout() time.Duration { return cmp.Or(s.LookupTimeout, defaultLookupTimeout) }
func (s *Server) dialTimeout() time.Duration   { return cmp.Or(s.DialTimeout, defaultDialTimeout) }

func (s *Server) resolver() Resolver {
	if s.Resolver != nil {
		return s.Resolver
	}
	return net.DefaultResolver
}

// now returns the time in nanoseconds since the Server's first use. A session stores times as
// int64, because a time.Time takes 24 bytes.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) }

// init prepares the Server on its first use. It returns an error if a field has an invalid value.
func (s *Server) init() error {
	s.once.Do(func() {
		s.invalid = s.validate()
		s.epoch = time.Now()
		s.instanceID = fmt.Sprintf("%016x", rand.Uint64())
		s.guard.allow, s.guard.deny, s.guard.nat64 = s.AllowEndpoints, s.DenyEndpoints, s.NAT64Prefixes
		s.guard.localAddrs = newLocalAddrList().get
		for _, l := range s.OwnListeners {
			s.guard.addListener(netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port()))
		}
		s.conns.Max, s.conns.MaxWaiting = s.MaxConns, s.MaxPeeking
		s.hosts.maxConns, s.hosts.maxRate = s.MaxConnsPerHost, s.MaxRatePerHost
		s.conns.MaxPerSource, s.conns.MaxFiles = s.MaxConnsPerSource, maxFiles(fileLimit())
		s.engine.HelloTimeout = s.HelloTimeout
		s.engine.HelloLimit = cmp.Or(s.MaxHello, peek.MaxBytes) + maxProxyV2
		s.engine.IdleTimeout, s.engine.HalfCloseTimeout = s.IdleTimeout, s.HalfCloseTimeout
		s.engine.KeepAlive = s.KeepAlive
		s.engine.Portable = s.portable
		s.engine.AcceptError = s.acceptFailed
		s.engine.MakeRoom = s.makeRoomFor
		s.initQUIC()
	})
	return s.invalid
}

func (s *Server) validate() error {
	switch {
	case s.Lookup == nil:
		return errors.New("sniproxy: Lookup is required")
	case s.ProxyOut < 0 || s.ProxyOut > 2:
		return fmt.Errorf("sniproxy: ProxyOut %d is not 0, 1 or 2", s.ProxyOut)
	case (s.ProxyAuthority || s.ProxyALPN) && s.ProxyOut != 2:
		return errors.New("sniproxy: ProxyAuthority and ProxyALPN need ProxyOut 2: a header of version 1 has no TLVs")
	case s.ProxyRequired && len(s.ProxyFrom) == 0:
		return errors.New("sniproxy: ProxyRequired without ProxyFrom refuses every connection")
	case s.QUICIdleTimeout < 0:
		return errors.New("sniproxy: QUICIdleTimeout cannot be negative: the Server does not see the end of a QUIC connection")
	case s.HelloTimeout < 0 || s.LookupTimeout < 0 || s.DialTimeout < 0:
		return errors.New("sniproxy: HelloTimeout, LookupTimeout and DialTimeout cannot be negative: they bound what a stranger can hold")
	case s.MaxHello < 0 || s.MaxHello > peek.MaxBytes:
		return fmt.Errorf("sniproxy: MaxHello %d is not from 0 to %d", s.MaxHello, peek.MaxBytes)
	}
	for _, p := range slices.Concat(s.ProxyFrom, s.TrustedSources, s.AllowEndpoints, s.DenyEndpoints) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("sniproxy: network %v contains no address: write an IPv4 network as IPv4", p)
		}
	}
	for _, p := range s.NAT64Prefixes {
		if !p.Addr().Is6() || p.Addr().Is4In6() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits()) {
			return fmt.Errorf("sniproxy: NAT64 prefix %v: want an IPv6 network of 32, 40, 48, 56, 64 or 96 bits", p)
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

// Serve routes the connections of l. protocols are the protocols that clients may speak; 0 means
// all that package peek recognises:
//
//	go srv.Serve(l443, peek.TLS)
//	go srv.Serve(l80, peek.HTTP1|peek.HTTP2)
//
// Serve closes l when it returns, or earlier. It returns ErrServerClosed after Shutdown or Close,
// and another error if it can accept no more connections; a lack of descriptors does not end Serve.
// Open connections stay open; Shutdown waits for them.
func (s *Server) Serve(l net.Listener, protocols peek.Protocol) error {
	if err := s.init(); err != nil {
		l.Close()
		return err
	}
	addr := addrPort(l.Addr())
	on := &listener{srv: s, protocols: protocols, port: addr.Port(), addr: l.Addr().String()}
	defer s.guard.addListener(addr)()
	return serverClosed(s.engine.Serve(l, func(c relay.Conn) relay.Session { return s.accept(on, c) }))
}

// accept returns the session of a new connection. If the connection exceeds a limit, accept returns
// nil, and the engine closes the connection.
func (s *Server) accept(l *listener, c relay.Conn) relay.Session {
	n := &session{conn: c, listener: l, id: s.lastID.Add(1), startedAt: s.now()}
	peer := n.peer().Addr()
	use, err := s.proxyUse(peer)
	if err != nil {
		return s.reject(n, Rejected, err)
	}
	p := prefaces.Get().(*preface)
	*p = preface{proxyUse: use, parser: peek.Parser{Accept: l.protocols, MaxBytes: s.MaxHello}}
	n.preface, n.phase = p, PhasePeek
	// Set all fields of n before Add: after a successful Add, other goroutines use n.
	victim, err := s.conns.Add(n, fairshare.KeyOf(peer), s.isExempt(peer, use))
	if err != nil {
		n.putPreface()
		n.phase = PhaseAccept
		return s.reject(n, Limited, limitError(err))
	}
	victim.close()
	return n
}

// proxyUse returns how to treat a PROXY header of a peer.
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
		return proxyNone, fmt.Errorf("%w: required, but %v must not send one", ErrProxyHeader, peer)
	}
	return proxyNone, nil
}

// reject calls Finished for a connection that the Server does not accept. It returns a nil Session,
// so the engine closes the connection.
func (s *Server) reject(n *session, o Outcome, err error) relay.Session {
	n.outcome, n.err = o, err
	if s.Finished != nil {
		s.Finished(n.stats())
	}
	return nil
}

// acceptFailed runs after each failed accept. It logs at most one line a second: while the process
// has no free descriptor, accept fails for every new connection.
func (s *Server) acceptFailed(err error) {
	if isResourceExhausted(err) {
		s.makeRoom()
	}
	if s.Logger == nil {
		return
	}
	s.acceptErrors.Add(1)
	last, now := s.acceptErrorAt.Load(), s.now()
	if (last == 0 || now-last >= int64(time.Second)) && s.acceptErrorAt.CompareAndSwap(last, now) {
		s.Logger.Warn("accepting failed", "err", err, "times", s.acceptErrors.Swap(0))
	}
}

// dialFunc returns a function that connects to addr with DialContext.
func (s *Server) dialFunc(addr netip.AddrPort) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, addr) }
}

// Connections yields the Stats of the open connections. First come the connections whose clients
// have named a host, in the order in which they named it. The others follow in the order of accept,
// and the QUIC connections come last, in the order of their IDs.
func (s *Server) Connections() iter.Seq[Stats] {
	return func(yield func(Stats) bool) {
		for _, n := range s.inOrder() {
			n.mu.Lock()
			st := n.stats()
			n.mu.Unlock()
			if st.Phase == PhaseDial && st.Outcome == Open {
				st.Phase = PhaseRelay // the engine does not report the end of the dial; see Stats.Phase
			}
			st.Total = time.Duration(s.now() - n.startedAt)
			if !yield(st) {
				return
			}
		}
		for _, st := range s.quicConnections() {
			if !yield(st) {
				return
			}
		}
	}
}

// inOrder returns the open sessions in the order in which the method Connections lists them.
func (s *Server) inOrder() []*session {
	type place struct {
		n       *session
		peeking bool
		at      int64 // when the client named a host, or the time of accept
	}
	var places []place
	for _, n := range s.conns.All() {
		n.mu.Lock()
		places = append(places, place{n, n.phase == PhasePeek, n.startedAt + int64(n.peekTime)})
		n.mu.Unlock()
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.peeking != b.peeking {
			if b.peeking {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n.id, b.n.id))
	})
	list := make([]*session, len(places))
	for i, p := range places {
		list[i] = p.n
	}
	return list
}

// Load is the load of a Server at one moment.
type Load struct {
	Conns    int   // open connections, of TCP and QUIC
	QUIC     int   // open connections of QUIC
	Peeking  int   // open connections whose clients have not named a host
	Pipes    int64 // pipes for bulk transfers; each holds two descriptors
	Shed     int64 // connections closed since the start, because no descriptor was free at accept
	Draining bool  // Shutdown or Close was called
}

// Load returns the load now. A call takes little time.
func (s *Server) Load() Load {
	_ = s.init()
	all, peeking := s.conns.Counts()
	quic, quicPeeking := s.quic.Paths()
	e := s.engine.Stats()
	return Load{Conns: all + quic, QUIC: quic, Peeking: peeking + quicPeeking, Pipes: e.Pipes, Shed: e.Shed, Draining: s.draining.Load()}
}

// Alive returns nil if each event loop of the relay has handled an event that Alive sends. If an
// event loop is stuck, Alive returns the error of ctx when ctx ends.
//
// Alive also reads the tables of connections. If the lock of a table is stuck, Alive does not
// return.
func (s *Server) Alive(ctx context.Context) error {
	s.Load()
	return s.engine.Alive(ctx)
}

// Shutdown stops accepting and waits until the open connections have ended. A QUIC connection ends
// when no datagram has come for 30 s. New QUIC connections get the error CONNECTION_REFUSED.
//
// Before the deadline of ctx, Shutdown starts to close the remaining connections one by one; see
// DrainSpread. When ctx ends, it closes all connections and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	_ = s.init()
	s.draining.Store(true)
	if deadline, ok := ctx.Deadline(); ok && s.DrainSpread >= 0 {
		left := time.Until(deadline)
		spread := min(cmp.Or(s.DrainSpread, left/4), left)
		stop := time.AfterFunc(left-spread, func() { s.engine.CloseWithin(spread) })
		defer stop.Stop()
	}
	quic := make(chan error, 1)
	go func() { quic <- s.quic.Shutdown(ctx) }()
	if err := cmp.Or(s.engine.Shutdown(ctx), <-quic); err != nil {
		s.Close()
		return err
	}
	s.queries.Wait()
	return nil
}

// Close stops accepting, closes all connections, and waits until Finished has returned for each
// connection.
func (s *Server) Close() error {
	_ = s.init()
	s.draining.Store(true)
	err := s.engine.Close()
	s.quic.Close()
	s.queries.Wait()
	return err
}
