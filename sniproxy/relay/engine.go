package relay

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// What the zero values of an Engine's fields mean.
const (
	defaultHelloTimeout = 10 * time.Second
	defaultHelloLimit   = 68 << 10 // a ClientHello of 64 KiB behind a PROXY header
	defaultDialTimeout  = 10 * time.Second
	defaultIdleTimeout  = 10 * time.Minute
	defaultKeepAlive    = 15 * time.Second
	defaultPipes        = 64
)

// lingerTimeout is how long a client may go on sending after it was answered, or after a
// backend that takes no more has moved its last.
const lingerTimeout = 2 * time.Second

// Engine serves any number of listeners and connections. The zero value is ready. Its
// fields must not change after the first call of a method; the methods may be called from
// several goroutines, but Shutdown and Close not from within a Session, which they wait
// for.
type Engine struct {
	// HelloTimeout bounds the time from accept until the Session decides; 0 is 10 s.
	HelloTimeout time.Duration
	// HelloLimit bounds the bytes that a Session may see before it decides; 0 is
	// 68 KiB. That many bytes are held for a connection in the phases of hello, wait and dial.
	HelloLimit int
	// DialTimeout bounds each Connect; 0 is 10 s.
	DialTimeout time.Duration
	// IdleTimeout ends a connection in which no byte has moved, in either direction,
	// for so long; 0 is 10 min, less than 0 is never. It is also what bounds a
	// connection of which one direction has ended.
	IdleTimeout time.Duration
	// KeepAlive is after how long a silence TCP probes whether either peer is there,
	// and how often; 0 is 15 s, less than 0 turns probes off. A connection that ends
	// sooner does not pay for the socket option.
	KeepAlive time.Duration

	// Loops is how many event loops there are; 0 is GOMAXPROCS.
	Loops int
	// Pipes bounds how many pipes there are for splice(2), of two descriptors each; 0
	// is 64, less than 0 is none. Without a free pipe bytes are copied.
	Pipes int
	// Portable uses the implementation with goroutines also where there is the other.
	Portable bool

	// AcceptError, if not nil, is told when accepting fails. Where descriptors or
	// memory ran out the listener then sheds a connection (accepts and closes it), or
	// pauses where not even that is possible.
	AcceptError func(error)

	shared engineState
}

// Serve takes connections from l and lets accept make the Session of each; nil refuses
// the connection. accept is called like a method of Session, from several goroutines at
// once. Serve owns l: a TCP listener is closed at once and served from a duplicate, so that
// closing it later has no effect. Serve blocks until Shutdown or Close, then returns
// ErrClosed; the end of another kind of listener ends it too. Connections may outlive it.
func (e *Engine) Serve(l net.Listener, accept func(Conn) Session) error {
	s, err := e.start()
	if err != nil {
		l.Close()
		return err
	}
	return s.serve(l, accept)
}

// Relay takes over two connections and relays between them; prefix goes to the backend
// first. It returns at once; done, which may be nil, is called like Session.Done. The
// Engine may close the two and go on with descriptors of its own. After Close and Shutdown
// both are closed, and the Result has ErrClosed.
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

// Shutdown stops accepting and waits until the last connection has ended. If ctx ends
// first it returns its error and leaves the connections open: Close ends them,
// CloseWithin in small numbers at a time.
func (e *Engine) Shutdown(ctx context.Context) error {
	return e.init().shutdown(ctx)
}

// CloseWithin closes every connection that is open, each at a random moment between now
// and d from now, so that not all clients return at once. It returns at once.
func (e *Engine) CloseWithin(d time.Duration) {
	e.init().closeWithin(d)
}

// Close stops accepting, closes all connections and waits until every Session is done.
func (e *Engine) Close() error {
	return e.init().close()
}

// Stats are counters of an Engine.
type Stats struct {
	Open     int64 // connections that are open now, pairs count once
	Accepted int64 // connections accepted since the start, without those shed
	Shed     int64 // connections closed at accept for lack of descriptors or memory
	Pipes    int64 // pipes that exist now
}

// Stats returns the counters. It is cheap.
func (e *Engine) Stats() Stats { return e.init().stats() }

// settings are the Engine's fields with their defaults filled in. Time-outs of 0 are none.
type settings struct {
	helloTimeout, dialTimeout, idleTimeout, keepAlive time.Duration
	helloLimit, loops, pipes                          int
	acceptError                                       func(error)
}

func (e *Engine) settings() settings {
	s := settings{
		helloTimeout: timeout(e.HelloTimeout, defaultHelloTimeout),
		dialTimeout:  timeout(e.DialTimeout, defaultDialTimeout),
		idleTimeout:  timeout(e.IdleTimeout, defaultIdleTimeout),
		keepAlive:    timeout(e.KeepAlive, defaultKeepAlive),
		helloLimit:   e.HelloLimit,
		loops:        e.Loops,
		pipes:        max(e.Pipes, 0),
		acceptError:  e.AcceptError,
	}
	if s.helloLimit <= 0 {
		s.helloLimit = defaultHelloLimit
	}
	if s.loops <= 0 {
		s.loops = runtime.GOMAXPROCS(0)
	}
	if e.Pipes == 0 {
		s.pipes = defaultPipes
	}
	if s.acceptError == nil {
		s.acceptError = func(error) {}
	}
	return s
}

// timeout resolves a setting: 0 is the default, less than 0 none.
func timeout(d, ifZero time.Duration) time.Duration {
	switch {
	case d == 0:
		return ifZero
	case d < 0:
		return 0
	}
	return d
}

// pairSession is the Session of Engine.Relay, which has nothing to decide.
type pairSession struct{ done func(Result) }

func (*pairSession) Hello([]byte, error) Step { return Step{Action: Drop} }
func (*pairSession) DialFailed(e error) Step  { return Step{Action: Drop, Err: e} }

func (s *pairSession) Done(r Result) {
	if s.done != nil {
		s.done(r)
	}
}

// engineState is what the connections of an Engine have in common: how many there are, and how
// they are told to stop. A connection of either implementation calls begin first and end
// last, so that one count serves to wait for all of them.
type engineState struct {
	once     sync.Once
	settings settings

	open     atomic.Int64
	accepted atomic.Int64
	shed     atomic.Int64
	stopping atomic.Bool // no connection begins any more
	closing  atomic.Bool // and those that have begun end

	mu         sync.Mutex
	listeners  map[*runningServe]struct{}
	empty      chan struct{} // closed when stopping and the last connection has ended
	emptied    bool
	goroutines goroutineEngine
	started    bool
	epoll      atomic.Pointer[epollEngine] // nil where there are none, and before start
}

// stoppable is a running Serve.
type runningServe struct{ stop func() }

// init sets up what every method needs.
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

// start makes the Engine run, once. It fails when the Engine is stopping.
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
		c, isTCP := client.(*net.TCPConn)
		b, areTCP := backend.(*net.TCPConn)
		if isTCP && areTCP {
			ee.relay(c, b, prefix, session)
			return
		}
	}
	s.goroutines.relay(client, backend, prefix, session)
}

// begin counts a connection. If it returns false there must be none.
func (s *engineState) begin() bool {
	s.open.Add(1)
	if s.stopping.Load() {
		s.end()
		return false
	}
	return true
}

func (s *engineState) end() {
	if s.open.Add(-1) == 0 && s.stopping.Load() {
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

// listen registers a Serve that stop ends. It returns nil when the Engine is stopping.
func (s *engineState) listen(stop func()) *runningServe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil
	}
	l := &runningServe{stop}
	s.listeners[l] = struct{}{}
	return l
}

func (s *engineState) unlisten(l *runningServe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// stop ends all listeners and lets no connection begin.
func (s *engineState) stop() {
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
	s.stop()
	if s.open.Load() == 0 {
		s.signalEmpty()
	}
	select {
	case <-s.empty:
		s.finish()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *engineState) close() error {
	s.stop()
	s.closing.Store(true)
	s.goroutines.closeWithin(0)
	if ee := s.epoll.Load(); ee != nil {
		ee.closeWithin(0)
	}
	return s.shutdown(context.Background())
}

func (s *engineState) closeWithin(d time.Duration) {
	s.goroutines.closeWithin(d)
	if ee := s.epoll.Load(); ee != nil {
		ee.closeWithin(d)
	}
}

// finish waits for the goroutines that are not of one connection.
func (s *engineState) finish() {
	if ee := s.epoll.Load(); ee != nil {
		ee.stop()
	}
	s.goroutines.wait()
}

func (s *engineState) stats() Stats {
	st := Stats{Open: s.open.Load(), Accepted: s.accepted.Load(), Shed: s.shed.Load()}
	if ee := s.epoll.Load(); ee != nil {
		st.Pipes = ee.pipes()
	}
	return st
}
