package relay

import (
	"context"
	"net"
	"runtime"
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

	shared shared
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
