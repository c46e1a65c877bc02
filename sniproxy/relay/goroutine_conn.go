package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// goroutineConn is one connection of the portable implementation. One goroutine, run, owns it; what
// others may touch is behind mu or atomic.
type goroutineConn struct {
	engine       *goroutineEngine
	client       net.Conn
	session      Session
	ctx          context.Context // ends when the goroutineConn is to stop
	cancel       context.CancelFunc
	resume       chan Step
	givenBackend net.Conn // the backend, if it is there before it is asked for

	mu       sync.Mutex
	backend  net.Conn
	stopped  bool
	by       Party
	err      error
	reset    bool  // close with RST
	firstEnd Party // whose direction ended first

	failedBy Party
	failure  error // of writing to failedBy, while the other direction comes to its end

	phase               Phase
	openedAt            time.Time
	movedAt             atomic.Int64 // when a byte moved last, since opened
	toBackend, toClient atomic.Int64
	idle                atomic.Int64 // the time-out
	hello, dial         time.Duration
}

// newTalk registers a connection, which has been counted.
func newGoroutineConn(ge *goroutineEngine, client net.Conn) *goroutineConn {
	gc := &goroutineConn{engine: ge, client: client, phase: PhaseHello, openedAt: time.Now(), resume: make(chan Step, 1)}
	gc.idle.Store(int64(ge.shared.settings.idleTimeout))
	gc.ctx, gc.cancel = context.WithCancel(context.Background())
	ge.mu.Lock()
	ge.conns[gc] = struct{}{}
	ge.mu.Unlock()
	if ge.shared.closing.Load() {
		gc.stop(ByEngine, ErrClosed) // Close has not seen it
	}
	return gc
}

func (gc *goroutineConn) unregister() {
	gc.cancel()
	gc.engine.mu.Lock()
	delete(gc.engine.conns, gc)
	gc.engine.mu.Unlock()
	gc.engine.shared.end()
}

func (gc *goroutineConn) RemoteAddr() netip.AddrPort { return addrPort(gc.client.RemoteAddr()) }
func (gc *goroutineConn) LocalAddr() netip.AddrPort  { return addrPort(gc.client.LocalAddr()) }
func (gc *goroutineConn) Close()                     { gc.stop(BySession, nil) }

func (gc *goroutineConn) Resume(s Step) {
	select {
	case gc.resume <- s:
	default:
	}
}

// addrPort is the address as a value, the zero value if it is of another kind.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// stop ends the goroutineConn from any goroutine; the first reason counts. Closing the two
// connections gets its goroutines out of whatever they wait for.
func (gc *goroutineConn) stop(by Party, err error) {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.stopped {
		return
	}
	if gc.failure != nil && by != BySession && by != ByEngine {
		by, err = gc.failedBy, gc.failure
	}
	gc.stopped, gc.by, gc.err = true, by, err
	gc.cancel()
	if gc.reset {
		abort(gc.client)
		abort(gc.backend)
	}
	gc.client.Close()
	if gc.backend != nil {
		gc.backend.Close()
	}
}

// abort is stop with RST.
func (gc *goroutineConn) abort(by Party, err error) {
	gc.mu.Lock()
	gc.reset = true
	gc.mu.Unlock()
	gc.stop(by, err)
}

// abort makes the next Close send RST.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// setBackend gives the goroutineConn its second connection, unless it has been stopped.
func (gc *goroutineConn) setBackend(c net.Conn) bool {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.stopped {
		c.Close()
		return false
	}
	gc.backend = c
	if tcp, ok := c.(*net.TCPConn); ok {
		keepAlive(tcp, gc.engine.shared.settings.keepAlive)
	}
	return true
}

func keepAlive(c *net.TCPConn, d time.Duration) {
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: d > 0, Idle: d, Interval: d})
}

func (gc *goroutineConn) setPhase(p Phase) { gc.phase = p }

// run owns the goroutineConn: body ends with both connections done, and run closes and reports.
func (gc *goroutineConn) run(body func(*goroutineConn)) {
	if tcp, ok := gc.client.(*net.TCPConn); ok {
		keepAlive(tcp, gc.engine.shared.settings.keepAlive)
	}
	body(gc)
	gc.mu.Lock()
	first := gc.firstEnd
	gc.mu.Unlock()
	gc.stop(first, nil)
	gc.session.Done(Result{
		By: gc.by, Phase: gc.phase, Err: gc.err,
		ToBackend: gc.toBackend.Load(), ToClient: gc.toClient.Load(),
		Hello: gc.hello, Dial: gc.dial, Total: time.Since(gc.openedAt),
	})
	gc.unregister()
}

// converse asks the Session what to do until there is nothing left to ask.
func (gc *goroutineConn) serve() {
	step, data := gc.readHello()
	gc.runSteps(step, data)
}

// follow carries out the steps; data is what the client has sent.
func (gc *goroutineConn) runSteps(step Step, data []byte) {
	for {
		switch step.Action {
		case Wait:
			gc.setPhase(PhaseWait)
			select {
			case step = <-gc.resume:
			case <-gc.ctx.Done():
				return
			}
		case Connect:
			gc.setPhase(PhaseDial)
			c, err := gc.connect(step)
			if err == nil {
				if !gc.setBackend(c) {
					return
				}
				if step.IdleTimeout != 0 {
					gc.idle.Store(int64(timeout(step.IdleTimeout, 0)))
				}
				if err = gc.relay(step.Data, data[min(max(step.Skip, 0), len(data)):]); err == nil {
					return
				}
				if _, pair := gc.session.(*pairSession); pair {
					gc.stop(ByBackend, err)
					return
				}
				gc.dropBackend()
				err = dialError(err)
			}
			if gc.ctx.Err() != nil {
				return
			}
			step = gc.session.DialFailed(err)
			if step.Action == More {
				step = Step{Action: Drop, Err: err}
			}
		case Answer:
			gc.answer(step)
			return
		case Reset:
			gc.abort(BySession, step.Err)
			return
		default:
			gc.stop(BySession, step.Err)
			return
		}
	}
}

// listen reads the hello until the Session has decided. It returns what was read, too.
func (gc *goroutineConn) readHello() (Step, []byte) {
	set := &gc.engine.shared.settings
	if set.helloTimeout > 0 {
		gc.client.SetReadDeadline(gc.openedAt.Add(set.helloTimeout))
	}
	var data []byte
	for {
		if len(data) == cap(data) {
			data = append(make([]byte, 0, min(max(2*cap(data), 1024), set.helloLimit)), data...)
		}
		n, err := gc.client.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if gc.ctx.Err() != nil {
			return Step{Action: Drop}, nil
		}
		var step Step
		if n > 0 {
			step = gc.session.Hello(data, nil)
		}
		if step.Action == More && err == nil && len(data) >= set.helloLimit {
			err = ErrHelloTooLong
		}
		if step.Action == More && err != nil {
			step = gc.helloEnded(data, err)
		}
		if step.Action != More {
			gc.hello = time.Since(gc.openedAt)
			gc.client.SetReadDeadline(time.Time{})
			return step, data
		}
	}
}

// noHello asks what to do with a client that says no more. Where the connection has failed
// there is nothing to do, whatever the Session says.
func (gc *goroutineConn) helloEnded(data []byte, err error) Step {
	reason := helloError(err)
	step := gc.session.Hello(data, reason)
	switch {
	case errors.Is(err, io.EOF) && isDefaultStep(step):
		gc.stop(ByClient, nil)
	case errors.Is(err, ErrHelloTooLong) && isDefaultStep(step):
		gc.stop(BySession, reason)
	case isTimeout(err) && isDefaultStep(step):
		gc.stop(ByTimeout, reason)
	case errors.Is(err, io.EOF) || errors.Is(err, ErrHelloTooLong) || isTimeout(err):
		return step
	default:
		gc.stop(ByClient, reason)
	}
	return Step{Action: Drop}
}

// connect makes the connection to the backend.
func (gc *goroutineConn) connect(step Step) (net.Conn, error) {
	if c := gc.givenBackend; c != nil {
		gc.givenBackend = nil
		return c, nil
	}
	start := time.Now() // of the time-out, too
	defer func() { gc.dial = time.Since(start) }()
	d := gc.engine.shared.settings.dialTimeout
	if step.DialTimeout != 0 {
		d = timeout(step.DialTimeout, 0)
	}
	ctx := gc.ctx
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if step.Dial != nil {
		c, err := step.Dial(ctx)
		if c == nil && err == nil {
			err = errNoConn
		}
		return c, dialError(err)
	}
	dialer := net.Dialer{KeepAlive: -1} // setBackend does it
	c, err := dialer.DialContext(ctx, "tcp", step.Addr.String())
	return c, dialError(err)
}

// answer gives the client step.Data and its end, and lets it finish.
func (gc *goroutineConn) answer(step Step) {
	gc.setPhase(PhaseAnswer)
	gc.client.SetDeadline(time.Now().Add(lingerTimeout))
	n, err := gc.client.Write(step.Data)
	gc.toClient.Add(int64(n))
	if err == nil && closeWrite(gc.client) {
		buf := getBuffer()
		for err == nil {
			_, err = gc.client.Read(*buf)
		}
		putBuffer(buf)
	}
	gc.stop(BySession, step.Err)
}

// closeWrite ends the direction to c, and says whether c can.
func closeWrite(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return false
	}
	half.CloseWrite()
	return true
}
