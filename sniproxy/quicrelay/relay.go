package quicrelay

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// Stats.Err can be one of these errors. Test with errors.Is.
var (
	// ErrClosed is the error of Serve after Close, and of the paths that Close has ended.
	ErrClosed = errors.New("quicrelay: closed")
	// ErrEvicted means that the path had to make room for another one.
	ErrEvicted = fairshare.ErrEvicted
	// ErrFull means that the path could not begin: the Relay had MaxPaths paths, and the rules of
	// package fairshare allowed it to end none of them.
	ErrFull = fairshare.ErrFull
	// ErrSourceFull means that the path could not begin: the source of the client had
	// MaxPathsPerSource paths.
	ErrSourceFull = fairshare.ErrSourceFull
	// ErrHelloTimeout means that the hello was not complete after HelloTimeout.
	ErrHelloTimeout = os.ErrDeadlineExceeded
)

// internalError is the TLS alert for a failure of the Relay or the backend (RFC 8446 section 6.2).
const internalError = 80

// connectionRefused is the QUIC error CONNECTION_REFUSED (RFC 9000 section 20.1).
const connectionRefused = 2

// Request describes a connection that needs a backend.
type Request struct {
	Client netip.AddrPort // the address of the client
	Local  netip.AddrPort // the address of the socket that the client sent to; see net.UDPConn.LocalAddr
	Hello  quic.Hello
	// Err is nil, or the final error of quic.Reader.Read, such as peek.ErrNoName.
	Err error
}

// Backend is the result of Route.
type Backend struct {
	Addr netip.AddrPort
	// Tag is any value. The Relay copies it to Stats.Tag, even if Route also returns an error.
	Tag any
}

// Refusal is an error of Route. The client gets it as a TLS alert. After other errors of Route, the
// client gets no answer.
type Refusal struct {
	Alert  uint8  // such as 112, unrecognized_name
	Reason string // for the log of the client, at most 256 bytes
	Err    error  // the cause; may be nil
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return "quicrelay: " + r.Reason + ": " + r.Err.Error()
	}
	return "quicrelay: " + r.Reason
}

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// Relay relays QUIC connections. All fields except Route may be zero, and must not change after the
// first Serve. The methods are safe for concurrent use. A Relay cannot be used again after Close.
type Relay struct {
	// Route chooses the backend of a connection. It may wait until ctx ends. Several goroutines may
	// call it at the same time.
	Route func(ctx context.Context, req Request) (Backend, error)
	// HelloTimeout bounds the time from the first datagram until the hello is complete. 0 means 10 s.
	HelloTimeout time.Duration
	// RouteTimeout bounds the context of Route. 0 means 10 s.
	RouteTimeout time.Duration
	// IdleTimeout is the time without a datagram after which a path ends. 0 means 2 min. RFC 9308
	// section 4.2 recommends at least 2 minutes, because a client behind the Relay cannot know this
	// time.
	IdleTimeout time.Duration
	// MaxHello is the greatest length of a ClientHello in bytes. 0 means peek.MaxBytes (64 KiB), which
	// is also the largest allowed value.
	MaxHello int
	// MaxPaths bounds the number of paths. 0 means 10,000.
	MaxPaths int
	// MaxPathsPerSource bounds the paths of a source: an IPv4 address or an IPv6 /64. 0 means no
	// bound.
	MaxPathsPerSource int
	// MaxPeeking bounds the number of paths whose backend is not known yet. 0 means 1,000.
	MaxPeeking int
	// Trusted, if not nil, reports whether a client address is trusted. The paths of trusted
	// addresses count for no source, so MaxPathsPerSource does not apply to them. Trusted must not
	// call methods of the Relay.
	Trusted func(netip.Addr) bool
	// NewID, if not nil, returns a number for Stats.ID of a new path. nil means 1, 2, 3 and so on.
	// NewID must not call methods of the Relay.
	NewID func() uint64
	// Finished, if not nil, is called once for each path: when the path has ended, or when it could
	// not begin because of a limit. A path is the relay between one client address and one backend.
	//
	// Finished must not block, because its goroutine relays other datagrams too. It must not call
	// Close.
	Finished func(Stats)

	once   sync.Once
	all    sync.WaitGroup // goroutines, and calls of Finished that are still to come
	shares fairshare.Table[*path]
	// dial returns a socket that is connected to a backend.
	dial func(netip.AddrPort) (socket, error)

	mu       sync.Mutex
	closed   bool
	draining bool // Shutdown was called
	lastID   uint64
	fronts   map[*front]struct{}
	table    table
	refused  refusedTable
	done     []Stats // for Finished; the method unlock calls Finished
}

// Phase is a part of the life of a path.
type Phase uint8

// The phases, in order.
const (
	PhasePeek  Phase = iota // the hello is incomplete
	PhaseRoute              // Route runs
	PhaseRelay              // the path has a backend
)

// Stats describes a path. Relay.Finished gets the Stats of a path that has ended, and Relay.All
// yields the Stats of the open paths.
type Stats struct {
	ID     uint64 // see Relay.NewID
	Client netip.AddrPort
	Local  netip.AddrPort // the address of the socket that the client sends to
	Phase  Phase          // the phase in which the path ended, or is
	// Backend is not valid if the path has not got a backend.
	Backend netip.AddrPort
	// Name is the server name in normal form. It is "" if the client named no valid host, and for
	// the path of a client that has moved.
	Name    string
	Version uint32 // of QUIC; 0 after a move, or if the hello is incomplete
	Moved   bool   // the path began because the client came from another address
	// Tag is Backend.Tag. It is nil if Route has not returned. If the client has moved to another
	// address, its new path has the Tag of its earlier path.
	Tag any
	// ToBackend and ToClient are the bytes of the datagrams that the Relay sent until the path ended,
	// including an answer of the Relay.
	ToBackend, ToClient int64
	// Start is when the first datagram arrived. Peek is the time from Start until the hello was
	// complete, Route the duration of Relay.Route, and Total the time from Start to the end of the
	// path.
	Start              time.Time
	Peek, Route, Total time.Duration
	// DroppedAmplification is the number of bytes that the Relay did not send to the client,
	// because the client would have got more than three times the bytes that came from it.
	DroppedAmplification int64
	Alert                uint8 // the TLS alert that the Relay sent to the client; 0 means none
	Err                  error // nil if the path is open, or ended because it was idle
}

// front is a socket that clients send to.
type front struct {
	socket socket
	local  netip.AddrPort
	runs   []run // memory of the goroutine of Serve
}

// run is a series of datagrams that follow each other in a bundle (datagrams that arrived
// together), and go to the backend of one path.
type run struct {
	path *path
	b    []byte
}

func (r *Relay) init() {
	r.once.Do(func() {
		r.shares.Max = cmp.Or(r.MaxPaths, 10_000)
		r.shares.MaxWaiting = cmp.Or(r.MaxPeeking, 1_000)
		r.shares.MaxPerSource = r.MaxPathsPerSource
		r.table = newTable()
		r.fronts = map[*front]struct{}{}
		if r.dial == nil {
			r.dial = dialUDP
		}
	})
}

func (r *Relay) helloTimeout() time.Duration { return cmp.Or(r.HelloTimeout, 10*time.Second) }
func (r *Relay) routeTimeout() time.Duration { return cmp.Or(r.RouteTimeout, 10*time.Second) }
func (r *Relay) idleTimeout() time.Duration  { return cmp.Or(r.IdleTimeout, 2*time.Minute) }

func (r *Relay) trusted(client netip.Addr) bool { return r.Trusted != nil && r.Trusted(client) }

// newID returns the ID of a new path. r.mu is locked.
func (r *Relay) newID() uint64 {
	if r.NewID != nil {
		return r.NewID()
	}
	r.lastID++
	return r.lastID
}

func dialUDP(addr netip.AddrPort) (socket, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	s, err := newSocket(conn, true)
	if err != nil {
		conn.Close()
	}
	return s, err
}

// connect returns a socket that is connected to a backend.
func (r *Relay) connect(addr netip.AddrPort) (socket, error) {
	if !addr.IsValid() || addr.Port() == 0 {
		return nil, errors.New("quicrelay: Route returned an address that is not valid")
	}
	return r.dial(addr)
}

// Serve relays the datagrams that arrive at conn until Close or an error, and then closes conn.
// After Serve has returned, its clients get no more datagrams, and their connections end after
// IdleTimeout. Serve may be called for several sockets. Give conn a large receive buffer
// (SetReadBuffer).
func (r *Relay) Serve(conn *net.UDPConn) error {
	s, err := newSocket(conn, false)
	if err != nil {
		conn.Close()
		return err
	}
	return r.serve(s, conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

func (r *Relay) serve(s socket, local netip.AddrPort) error {
	r.init()
	defer s.close()
	f := &front{socket: s, local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port())}
	r.mu.Lock()
	if r.closed {
		r.unlock()
		return ErrClosed
	}
	r.fronts[f] = struct{}{}
	r.all.Add(1)
	r.unlock()
	defer r.all.Done()
	defer func() {
		r.mu.Lock()
		defer r.unlock()
		delete(r.fronts, f)
	}()
	failures := 0
	for {
		b, err := s.receive()
		if err != nil {
			if failures++; failures == maxFailures || errors.Is(err, net.ErrClosed) {
				return r.serveError(err)
			}
			continue // such as an ICMP error of an earlier datagram
		}
		failures = 0
		r.fromClient(f, b)
		b.release()
	}
}

func (r *Relay) serveError(err error) error {
	r.mu.Lock()
	defer r.unlock()
	if r.closed {
		return ErrClosed
	}
	return err
}

// drainIdle is the time without a datagram after which a path ends during Shutdown. Most clients and
// servers end a connection that has been idle for 30 s.
const drainIdle = 30 * time.Second

// drainInterval is how often Shutdown looks for paths that have ended.
const drainInterval = 100 * time.Millisecond

// Shutdown refuses new connections with the error CONNECTION_REFUSED, waits until all paths have
// ended, and closes the Relay. The Relay does not see the end of a connection, so a path ends after
// 30 s without a datagram, or after IdleTimeout if it is shorter. If ctx ends earlier, Shutdown
// closes the Relay and returns the error of ctx.
func (r *Relay) Shutdown(ctx context.Context) error {
	r.init()
	r.mu.Lock()
	r.draining = true
	r.unlock()
	ticker := time.NewTicker(drainInterval)
	defer ticker.Stop()
	defer r.Close()
	for {
		r.endIdle(min(r.idleTimeout(), drainIdle))
		if all, _ := r.shares.Counts(); all == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// endIdle ends the open paths that have had no datagram for the duration in the argument "limit".
func (r *Relay) endIdle(limit time.Duration) {
	r.mu.Lock()
	defer r.unlock()
	for _, p := range r.shares.All() {
		if p.state == open && p.Idle() >= limit {
			r.end(p, nil)
		}
	}
}

// Close ends all paths and all calls of Serve, and waits until Route and Finished have returned for
// each path.
func (r *Relay) Close() {
	r.init()
	r.mu.Lock()
	r.closed = true
	for f := range r.fronts {
		f.socket.close()
	}
	for _, p := range r.shares.All() {
		r.end(p, ErrClosed)
	}
	r.unlock()
	r.all.Wait()
}

// Paths returns the number of paths, and the number of those whose backend is not known yet.
func (r *Relay) Paths() (all, peeking int) {
	r.init()
	return r.shares.Counts()
}

// All yields the Stats of the open paths, in no order.
func (r *Relay) All() iter.Seq[Stats] {
	r.init()
	return func(yield func(Stats) bool) {
		for _, p := range r.shares.All() {
			r.mu.Lock()
			s, isOpen := p.snapshot(), p.state != ended
			r.unlock()
			if isOpen && !yield(s) {
				return
			}
		}
	}
}

// unlock unlocks r.mu, and calls Finished for the paths that have ended since r.mu was locked.
func (r *Relay) unlock() {
	done := r.done
	r.done = nil
	r.mu.Unlock()
	for _, s := range done {
		if r.Finished != nil {
			r.Finished(s)
		}
		r.all.Done()
	}
}

// fromClient relays the datagrams of a bundle that a client has sent.
func (r *Relay) fromClient(f *front, b *bundle) {
	client := peer{f, netip.AddrPortFrom(b.from.Addr().Unmap(), b.from.Port()), b.to}
	f.runs = f.runs[:0]
	r.mu.Lock()
	for data := b.buf[:b.n]; len(data) > 0; {
		var datagram []byte
		before := data
		datagram, data = cut(data, b.size)
		p := r.accept(client, datagram)
		switch last := len(f.runs) - 1; {
		case p == nil:
			// This datagram does not go to a backend, so the next datagram does not follow the last
			// run. The empty run makes sure that the next datagram begins a new run.
			f.runs = append(f.runs, run{})
		case last >= 0 && f.runs[last].path == p:
			n := len(f.runs[last].b)
			f.runs[last].b = f.runs[last].b[:n+len(datagram)]
		default:
			f.runs = append(f.runs, run{p, before[:len(datagram)]})
		}
	}
	r.unlock()
	for _, run := range f.runs {
		if run.path != nil {
			run.path.toBackend(run.b, b.size)
		}
	}
	clear(f.runs)
}

// accept finds the path of a client's datagram, or begins a new path. It returns the path if the
// caller can send the datagram to the backend now, and otherwise nil. r.mu is locked.
func (r *Relay) accept(client peer, datagram []byte) *path {
	h, err := quic.ParseHeader(datagram)
	if err != nil || r.closed {
		return nil
	}
	switch h.Type {
	case quic.VersionNegotiation, quic.Retry: // only servers send these
		return nil
	case quic.UnknownVersion:
		if len(datagram) >= quic.MinDatagram {
			answer := h.AppendVersionNegotiation(nil, quic.Version1, quic.Version2)
			_ = client.send(answer, len(answer))
		}
		return nil
	}
	if h.Type == quic.Initial {
		if answer, ok := r.refused.answers[initialKey{client, string(h.DestID)}]; ok {
			if answer != nil && len(datagram) >= quic.MinDatagram {
				_ = client.send(answer, len(answer))
			}
			return nil
		}
	}
	found := r.table.find(client, h, datagram)
	p := found.path
	switch {
	case p != nil:
	case found.id != nil:
		p = r.move(client, found)
	case h.Type == quic.Initial && r.draining:
		refuseConnection(client, h, datagram)
	case h.Type == quic.Initial:
		p = r.begin(client, h, datagram)
	}
	if p == nil {
		return nil
	}
	p.touch()
	p.received += int64(len(datagram))
	if !p.confirmed.Load() {
		p.confirm(h, found.id)
	}
	switch p.state {
	case peeking:
		p.peek(datagram)
	case routing, opening:
		p.hold(datagram)
	case open:
		return p
	}
	return nil
}

// beginsConnection reports whether an Initial packet with the header h, at the start of a datagram,
// can be the first packet of a client.
func beginsConnection(h quic.Header, datagram []byte) bool {
	return len(datagram) >= quic.MinDatagram && len(h.DestID) >= quic.MinClientIDLen
}

// refuseConnection answers the first packet of a client with CONNECTION_CLOSE, because the router
// shuts down. It ignores all other packets.
func refuseConnection(client peer, h quic.Header, datagram []byte) {
	if !beginsConnection(h, datagram) {
		return
	}
	hello := quic.Hello{Version: h.Version, DestID: h.DestID, SrcID: h.SrcID}
	if answer, err := hello.AppendClose(nil, connectionRefused, "the router shuts down"); err == nil {
		_ = client.send(answer, len(answer))
	}
}

// The method "begin" makes a new path, which relays datagrams between the client's address and one
// backend. datagram begins with an Initial packet with the header h. If this packet cannot be the
// first packet of a client, or if the limits allow no further path, begin returns nil.
func (r *Relay) begin(client peer, h quic.Header, datagram []byte) *path {
	if !beginsConnection(h, datagram) {
		return nil
	}
	p := r.newPath(client)
	p.reader.MaxBytes = r.MaxHello
	victim, err := r.shares.Add(p, fairshare.KeyOf(client.addr.Addr()), r.trusted(client.addr.Addr()))
	if !r.admit(p, victim, err) {
		return nil
	}
	r.table.add(p, string(h.DestID))
	p.timeout = time.AfterFunc(r.helloTimeout(), func() {
		r.mu.Lock()
		defer r.unlock()
		if p.state == peeking {
			r.end(p, ErrHelloTimeout)
		}
	})
	return p
}

func (r *Relay) newPath(client peer) *path {
	p := &path{relay: r, client: client}
	p.stats = Stats{ID: r.newID(), Client: client.addr, Local: client.front.local, Start: time.Now()}
	p.touch()
	return p
}

// The method "move" makes a new path for a client that has moved, that is, whose address or port
// has changed.
func (r *Relay) move(client peer, f found) *path {
	p := r.newPath(client)
	p.state, p.backendAddr = open, f.backend
	p.stats.Backend, p.stats.Tag, p.stats.Moved = f.backend, f.tag, true
	p.confirmed.Store(true)
	victim, err := r.shares.AddServing(p, fairshare.KeyOf(client.addr.Addr()), r.trusted(client.addr.Addr()))
	if !r.admit(p, victim, err) {
		return nil
	}
	r.table.add(p, "")
	r.table.learn(p, f.id)
	if p.backend, err = r.dial(f.backend); err != nil {
		r.end(p, err)
		return nil
	}
	r.all.Go(p.fromBackend)
	return p
}

// admit completes the start of the path p, after the caller has added p to r.shares. victim and err
// are the results of r.shares. victim is the path that has to end to make room for p, or nil. If
// err is not nil, p must not begin, and admit returns false.
func (r *Relay) admit(p, victim *path, err error) bool {
	if victim != nil {
		r.end(victim, ErrEvicted)
	}
	r.all.Add(1) // for Finished
	if err != nil {
		r.end(p, err)
	}
	return err == nil
}

func (r *Relay) endPath(p *path, err error) {
	r.mu.Lock()
	defer r.unlock()
	r.end(p, err)
}

// end ends a path. The caller has locked r.mu, and must call r.unlock later, which calls Finished.
func (r *Relay) end(p *path, err error) {
	if p.state == ended {
		return
	}
	s := p.snapshot()
	s.Err = err
	if p.state == routing {
		p.last = &s // Route still runs; the method route calls Finished
	} else {
		r.done = append(r.done, s)
	}
	p.state = ended
	r.shares.Remove(p)
	r.table.remove(p)
	if p.timeout != nil {
		p.timeout.Stop()
	}
	if p.cancel != nil {
		p.cancel()
	}
	if p.backend != nil {
		p.backend.close()
	}
	p.held, p.heldBytes, p.reader = nil, 0, quic.Reader{}
}
