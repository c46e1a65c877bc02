package relay

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// These are the default values of fields of an Engine. They apply to fields that are 0.
const (
	defaultHelloTimeout = 10 * time.Second
	defaultHelloLimit   = 68 << 10 // a ClientHello of 64 KiB after a PROXY header
	defaultDialTimeout  = 10 * time.Second
	defaultIdleTimeout  = 10 * time.Minute
	defaultHalfClose    = time.Minute
	defaultKeepAlive    = 15 * time.Second
	defaultPipes        = 64
)

// lingerTimeout is how long the Engine waits for the FIN of a client after it has sent its own FIN:
// after an Answer, or after a failure of the backend. The time begins when the client has
// acknowledged the last byte.
const lingerTimeout = 2 * time.Second

// settleInterval is the pause between two checks of the Engine after one side has failed. Each
// check finds out whether the other side has acknowledged all bytes. If it has, the connection can
// end.
const settleInterval = 250 * time.Millisecond

// maxUnread is a number of bytes. Before the Engine closes a socket whose peer has not ended its
// direction, it reads and drops at most this many unread bytes. maxUnread is the default maximum of
// a receive queue on Linux (tcp_rmem), rounded up.
const maxUnread = 8 << 20

// ackTime bounds an additional wait: when IdleTimeout or HalfCloseTimeout expires, and the peer has
// not acknowledged all bytes that the Engine has sent, the Engine waits once more, for at most
// ackTime. If the peer acknowledges some of these bytes during this wait, the time-out starts
// again.
const ackTime = 30 * time.Second

// Engine serves any number of listeners and connections. The zero value is ready; the fields must
// not change after the first call of a method. The methods are safe for concurrent use. A Session
// must not call Shutdown or Close, which wait for the Session.
type Engine struct {
	// HelloTimeout bounds the time from accept until the Session returns a Step other than More. 0
	// means 10 s, less than 0 means no bound.
	HelloTimeout time.Duration
	// HelloLimit bounds the number of bytes that a Session may see before it returns a Step other
	// than More. Until a connection relays, it holds at most this number of bytes. 0 means 68 KiB.
	HelloLimit int
	// DialTimeout bounds the time of each Connect. 0 means 10 s, less than 0 means no bound.
	DialTimeout time.Duration
	// IdleTimeout is the time without a byte in either direction after which the Engine closes the
	// connection. 0 means 10 min, less than 0 means no bound.
	IdleTimeout time.Duration
	// HalfCloseTimeout is the idle time-out of a connection after one side has sent FIN or has
	// failed. If IdleTimeout is shorter, IdleTimeout applies instead. 0 means 1 min; less than 0
	// means that only IdleTimeout applies.
	HalfCloseTimeout time.Duration
	// KeepAlive is the time without a packet from a peer after which TCP sends it a keep-alive
	// probe, and the interval between further probes. 0 means 15 s, less than 0 means no probes.
	// The Engine sets the socket option only when a connection has been open for KeepAlive, to save
	// this system call for shorter connections.
	KeepAlive time.Duration

	// Loops is the number of event loops. 0 means GOMAXPROCS.
	Loops int
	// Pipes bounds the number of pipes for splice(2), with two descriptors each. If all of them are
	// in use, the Engine copies the bytes through a buffer. 0 means 64, less than 0 means no pipes.
	Pipes int
	// Portable makes the Engine use the implementation with goroutines even on Linux.
	Portable bool

	// AcceptError, if not nil, is called with the error of each failed accept. If the process has
	// no free descriptor, the Engine then accepts one connection with a descriptor in reserve, and
	// calls MakeRoom. After any other failure, or without a reserve, it accepts no connection for 5
	// ms to 1 s.
	AcceptError func(error)
	// MakeRoom, if not nil, decides about a connection that the Engine has accepted with its
	// descriptor in reserve. client is the address of the client. MakeRoom returns true if it has
	// closed another connection with Conn.Close; otherwise the Engine closes the new connection.
	// MakeRoom must not block, and must be safe for concurrent use.
	MakeRoom func(client netip.AddrPort) bool

	shared engineState
}

// Serve accepts connections from l, and calls the function "accept" to make the Session of each
// connection. If accept returns nil, the Engine closes the connection. Like the methods of a
// Session, accept must not block, and must be safe for concurrent use.
//
// Serve may close l long before it returns. So a caller that closes a TCP listener does not end
// Serve. Serve returns ErrClosed after Shutdown or Close. Connections may stay open after Serve
// returns.
func (e *Engine) Serve(l net.Listener, accept func(Conn) Session) error {
	s, err := e.start()
	if err != nil {
		l.Close()
		return err
	}
	return s.serve(l, accept)
}

// Relay relays between two existing connections, and returns without waiting for their end. The
// caller must not use them any more. The backend receives prefix before the bytes of the client.
//
// The function "done", if not nil, is called when both connections are closed, like Session.Done.
// If Relay is called after Shutdown or Close, it calls done at once, with ErrClosed.
func (e *Engine) Relay(client, backend net.Conn, prefix []byte, done func(Result)) {
	s, err := e.start()
	if err != nil {
		client.Close()
		backend.Close()
		if done != nil {
			done(Result{By: ByEngine, Phase: PhaseRelay, Err: err})
		}
		return
	}
	s.relay(client, backend, prefix, &pairSession{done})
}

// Shutdown stops accepting and waits until the last connection has ended. If ctx ends first, it
// returns the error of ctx and leaves the remaining connections open. CloseWithin ends them one by
// one, and Close ends all of them immediately.
func (e *Engine) Shutdown(ctx context.Context) error {
	return e.init().shutdown(ctx)
}

// CloseWithin closes each open connection at a random time between now and d from now, so that the
// clients do not all reconnect at the same time. It returns immediately.
func (e *Engine) CloseWithin(d time.Duration) {
	e.init().closeWithin(d)
}

// Close stops accepting, closes all connections, and waits until Done has returned for every
// Session.
func (e *Engine) Close() error {
	return e.init().close()
}

// Alive returns nil when each event loop has handled an event that Alive sends it. If a loop is
// stuck, Alive returns the error of ctx when ctx ends. Without event loops, and after the end of the
// Engine, Alive returns nil.
func (e *Engine) Alive(ctx context.Context) error {
	s := e.init()
	ee := s.epoll.Load()
	if ee == nil {
		return nil
	}
	for i, answered := range ee.ping() {
		select {
		case <-answered:
		case <-s.empty: // the loops end
			return nil
		case <-ctx.Done():
			return fmt.Errorf("relay: event loop %d does not answer: %w", i, ctx.Err())
		}
	}
	return nil
}

// Stats are counters of an Engine.
type Stats struct {
	Open     int64 // connections that are open now; a client and its backend count as one
	Accepted int64 // connections accepted since the start, without Shed
	Shed     int64 // connections that the Engine has closed right after it accepted them, because no descriptor was free
	Pipes    int64 // pipes that exist now
}

// Stats returns the counters. It is cheap.
func (e *Engine) Stats() Stats { return e.init().stats() }

// settings are the fields of an Engine in another form. A field that is 0 in the Engine has its
// default value here. A time-out that is negative in the Engine is 0 here, which means no time-out.
type settings struct {
	helloTimeout, dialTimeout, idleTimeout, halfClose, keepAlive time.Duration
	helloLimit, loops, pipes                                     int
	acceptError                                                  func(error)
	makeRoom                                                     func(netip.AddrPort) bool
}

// shorter returns the shorter one of two time-outs. A time-out of 0 means no time-out.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (e *Engine) settings() settings {
	s := settings{
		helloTimeout: max(cmp.Or(e.HelloTimeout, defaultHelloTimeout), 0),
		dialTimeout:  max(cmp.Or(e.DialTimeout, defaultDialTimeout), 0),
		idleTimeout:  max(cmp.Or(e.IdleTimeout, defaultIdleTimeout), 0),
		halfClose:    max(cmp.Or(e.HalfCloseTimeout, defaultHalfClose), 0),
		keepAlive:    max(cmp.Or(e.KeepAlive, defaultKeepAlive), 0),
		helloLimit:   cmp.Or(max(e.HelloLimit, 0), defaultHelloLimit),
		loops:        cmp.Or(max(e.Loops, 0), runtime.GOMAXPROCS(0)),
		pipes:        max(cmp.Or(e.Pipes, defaultPipes), 0),
		acceptError:  e.AcceptError,
		makeRoom:     e.MakeRoom,
	}
	if s.acceptError == nil {
		s.acceptError = func(error) {}
	}
	if s.makeRoom == nil {
		s.makeRoom = func(netip.AddrPort) bool { return false }
	}
	return s
}

// pairSession is the Session of Engine.Relay.
type pairSession struct{ done func(Result) }

func (*pairSession) Hello([]byte, error) Step { return Step{Action: Drop} }
func (*pairSession) DialFailed(e error) Step  { return Step{Action: Drop, Err: e} }

func (s *pairSession) Done(r Result) {
	if s.done != nil {
		s.done(r)
	}
}

// engineState is the state of an Engine. Both implementations call "begin" or beginAccepted for
// each new connection, and "end" for each connection that has ended. Shutdown waits until all
// connections and all calls of Serve have ended.
type engineState struct {
	once     sync.Once
	settings settings

	open     atomic.Int64 // connections
	active   atomic.Int64 // connections and running calls of Serve
	accepted atomic.Int64
	shed     atomic.Int64
	stopping atomic.Bool // begin returns false, and no call of Serve can begin
	closing  atomic.Bool // a connection that has begun ends at once

	mu         sync.Mutex
	listeners  map[*runningServe]struct{}
	empty      chan struct{} // closed when stopping is set and active is 0
	emptied    bool          // the channel empty is closed
	goroutines goroutineEngine
	started    bool
	epoll      atomic.Pointer[epollEngine] // nil before the call of start, and on systems without epoll
}

// runningServe is one call of Serve.
type runningServe struct{ stop func() }

func (e *Engine) init() *engineState {
	s := &e.shared
	s.once.Do(func() {
		s.settings = e.settings()
		s.listeners = make(map[*runningServe]struct{})
		s.empty = make(chan struct{})
		s.goroutines.init(s)
	})
	return s
}

// The method "start" starts the event loops at its first call. It returns ErrClosed when the Engine
// is stopping.
func (e *Engine) start() (*engineState, error) {
	s := e.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil, ErrClosed
	}
	if !s.started {
		s.started = true
		if !e.Portable {
			s.epoll.Store(newEpollEngine(s))
		}
	}
	return s, nil
}

func (s *engineState) serve(l net.Listener, accept func(Conn) Session) error {
	if tcp, ok := l.(*net.TCPListener); ok {
		if ee := s.epoll.Load(); ee != nil {
			return ee.serve(tcp, accept)
		}
	}
	return s.goroutines.serve(l, accept)
}

func (s *engineState) relay(client, backend net.Conn, prefix []byte, session Session) {
	if ee := s.epoll.Load(); ee != nil {
		c, clientIsTCP := client.(*net.TCPConn)
		b, backendIsTCP := backend.(*net.TCPConn)
		if clientIsTCP && backendIsTCP {
			ee.relay(c, b, prefix, session)
			return
		}
	}
	s.goroutines.relay(client, backend, prefix, session)
}

// begin counts a new connection of the Engine. If the Engine is stopping, the method "begin"
// returns false, and the caller must close the connection.
func (s *engineState) begin() bool {
	s.beginAccepted()
	if s.stopping.Load() {
		s.end()
		return false
	}
	return true
}

// beginAccepted counts a connection that a running call of Serve has accepted. It does so even
// while the Engine is stopping, because no other process can accept this connection any more. The
// Engine cannot end before this connection is counted, because it waits for the call of Serve.
func (s *engineState) beginAccepted() {
	s.open.Add(1)
	s.active.Add(1)
}

func (s *engineState) end() {
	s.open.Add(-1)
	s.release()
}

func (s *engineState) release() {
	if s.active.Add(-1) == 0 && s.stopping.Load() {
		s.signalEmpty()
	}
}

func (s *engineState) signalEmpty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.emptied {
		s.emptied = true
		close(s.empty)
	}
}

// listen registers a running call of Serve. To end this call of Serve, stopServing will call the
// function "stop". If the Engine is stopping already, listen returns nil.
func (s *engineState) listen(stop func()) *runningServe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil
	}
	l := &runningServe{stop}
	s.listeners[l] = struct{}{}
	s.active.Add(1)
	return l
}

func (s *engineState) unlisten(l *runningServe) {
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	s.release()
}

// stopServing ends every call of Serve, and makes all later calls of the method "begin" return
// false.
func (s *engineState) stopServing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Swap(true) {
		return
	}
	for l := range s.listeners {
		l.stop()
	}
}

func (s *engineState) shutdown(ctx context.Context) error {
	s.stopServing()
	if s.active.Load() == 0 {
		s.signalEmpty()
	}
	select {
	case <-s.empty:
		// All connections have ended. Stop the event loops, and wait until the goroutines that
		// called Done have returned.
		if ee := s.epoll.Load(); ee != nil {
			ee.stop()
		}
		s.goroutines.wait()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *engineState) close() error {
	s.stopServing()
	s.closing.Store(true)
	s.closeWithin(0)
	return s.shutdown(context.Background())
}

// closeWithin closes each connection at a random time within d. 0 means immediately.
func (s *engineState) closeWithin(d time.Duration) {
	s.goroutines.closeWithin(d)
	if ee := s.epoll.Load(); ee != nil {
		ee.closeWithin(d)
	}
}

func (s *engineState) stats() Stats {
	st := Stats{Open: s.open.Load(), Accepted: s.accepted.Load(), Shed: s.shed.Load()}
	if ee := s.epoll.Load(); ee != nil {
		st.Pipes = ee.pipes()
	}
	return st
}
