package relay

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// shared is what the connections of an Engine have in common: how many there are, and how
// they are told to stop. A connection of either implementation calls begin first and end
// last, so that one count serves to wait for all of them.
type shared struct {
	once sync.Once
	set  settings

	open     atomic.Int64
	accepted atomic.Int64
	shed     atomic.Int64
	stopping atomic.Bool // no connection begins any more
	closing  atomic.Bool // and those that have begun end

	mu         sync.Mutex
	listeners  map[*stoppable]struct{}
	empty      chan struct{} // closed when stopping and the last connection has ended
	emptied    bool
	goroutines goroutines
	started    bool
	events     atomic.Pointer[events] // nil where there are none, and before start
}

// stoppable is a running Serve.
type stoppable struct{ stop func() }

// init sets up what every method needs.
func (e *Engine) init() *shared {
	s := &e.shared
	s.once.Do(func() {
		s.set = e.settings()
		s.listeners = make(map[*stoppable]struct{})
		s.empty = make(chan struct{})
		s.goroutines.init(s)
	})
	return s
}

// start makes the Engine run, once. It fails when the Engine is stopping.
func (e *Engine) start() (*shared, error) {
	s := e.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil, ErrClosed
	}
	if !s.started {
		s.started = true
		if !e.Portable {
			s.events.Store(newEvents(s))
		}
	}
	return s, nil
}

func (s *shared) serve(l net.Listener, accept func(Conn) Session) error {
	if tcp, ok := l.(*net.TCPListener); ok {
		if ev := s.events.Load(); ev != nil {
			return ev.serve(tcp, accept)
		}
	}
	return s.goroutines.serve(l, accept)
}

func (s *shared) relay(client, backend net.Conn, prefix []byte, session Session) {
	if ev := s.events.Load(); ev != nil {
		c, isTCP := client.(*net.TCPConn)
		b, areTCP := backend.(*net.TCPConn)
		if isTCP && areTCP {
			ev.relay(c, b, prefix, session)
			return
		}
	}
	s.goroutines.relay(client, backend, prefix, session)
}

// begin counts a connection. If it returns false there must be none.
func (s *shared) begin() bool {
	s.open.Add(1)
	if s.stopping.Load() {
		s.end()
		return false
	}
	return true
}

func (s *shared) end() {
	if s.open.Add(-1) == 0 && s.stopping.Load() {
		s.signalEmpty()
	}
}

func (s *shared) signalEmpty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.emptied {
		s.emptied = true
		close(s.empty)
	}
}

// listen registers a Serve that stop ends. It returns nil when the Engine is stopping.
func (s *shared) listen(stop func()) *stoppable {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil
	}
	l := &stoppable{stop}
	s.listeners[l] = struct{}{}
	return l
}

func (s *shared) unlisten(l *stoppable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// stop ends all listeners and lets no connection begin.
func (s *shared) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Swap(true) {
		return
	}
	for l := range s.listeners {
		l.stop()
	}
}

func (s *shared) shutdown(ctx context.Context) error {
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

func (s *shared) close() error {
	s.stop()
	s.closing.Store(true)
	s.goroutines.closeWithin(0)
	if ev := s.events.Load(); ev != nil {
		ev.closeWithin(0)
	}
	return s.shutdown(context.Background())
}

func (s *shared) closeWithin(d time.Duration) {
	s.goroutines.closeWithin(d)
	if ev := s.events.Load(); ev != nil {
		ev.closeWithin(d)
	}
}

// finish waits for the goroutines that are not of one connection.
func (s *shared) finish() {
	if ev := s.events.Load(); ev != nil {
		ev.stop()
	}
	s.goroutines.wait()
}

func (s *shared) stats() Stats {
	st := Stats{Open: s.open.Load(), Accepted: s.accepted.Load(), Shed: s.shed.Load()}
	if ev := s.events.Load(); ev != nil {
		st.Pipes = ev.pipes()
	}
	return st
}
