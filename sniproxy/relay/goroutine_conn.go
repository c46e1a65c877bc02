package relay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// goroutineConn is one connection of the implementation with goroutines. The goroutine that calls
// the method "run" owns the connection. Other goroutines use only the atomic fields and the fields
// that mu guards.
type goroutineConn struct {
	engine       *goroutineEngine
	client       net.Conn
	session      Session
	cancel       context.CancelFunc // the method "stop" calls it
	resume       chan Step
	givenBackend net.Conn // a backend that was connected before Connect; nil after its use

	mu       sync.Mutex
	backend  net.Conn
	stopped  bool
	by       Party // the party that has ended the connection; the method "stop" sets it
	err      error // the error of the connection; the method "stop" sets it
	reset    bool  // close with RST
	firstEnd Party // the side whose direction ended first
	failedBy Party
	failure  error  // the error of failedBy, the party that failed first; the other party still gets its bytes
	unsent   [2]int // the results of unsentBytes for client and backend at the last call of the method progress
	looked   bool   // the method progress has set the field unsent

	done     <-chan struct{} // closed when the method "stop" cancels the context
	settling sync.WaitGroup  // counts the goroutine of the method settle

	phase               Phase
	openedAt            time.Time
	movedAt             atomic.Int64 // when a byte last moved, in nanoseconds since openedAt
	toBackend, toClient atomic.Int64
	idle                atomic.Int64 // the idle time-out in nanoseconds; 0 means none
	hello, dial         time.Duration
}

// newGoroutineConn adds a new connection to the open connections of the engine ge. The caller must
// already have counted the connection with engineState.begin. ctx ends when the connection stops.
func newGoroutineConn(ge *goroutineEngine, client net.Conn) (gc *goroutineConn, ctx context.Context) {
	gc = &goroutineConn{engine: ge, client: client, phase: PhaseHello, openedAt: time.Now(), resume: make(chan Step, 1)}
	gc.idle.Store(int64(ge.shared.settings.idleTimeout))
	ctx, gc.cancel = context.WithCancel(context.Background())
	gc.done = ctx.Done()
	ge.mu.Lock()
	ge.conns[gc] = struct{}{}
	ge.mu.Unlock()
	if ge.shared.closing.Load() {
		gc.stop(ByEngine, ErrClosed) // closeWithin may have run before this connection was registered
	}
	return gc, ctx
}

func (gc *goroutineConn) unregister() {
	gc.cancel()
	gc.engine.mu.Lock()
	delete(gc.engine.conns, gc)
	gc.engine.mu.Unlock()
	gc.engine.shared.end()
}

// The methods of Conn.

func (gc *goroutineConn) RemoteAddr() netip.AddrPort { return addrPort(gc.client.RemoteAddr()) }
func (gc *goroutineConn) LocalAddr() netip.AddrPort  { return addrPort(gc.client.LocalAddr()) }
func (gc *goroutineConn) Close()                     { gc.stop(BySession, nil) }

func (gc *goroutineConn) Idle() time.Duration {
	return time.Since(gc.openedAt) - time.Duration(gc.movedAt.Load())
}

func (gc *goroutineConn) Resume(s Step) {
	select {
	case gc.resume <- s:
	default:
	}
}

// addrPort returns a TCP address as a netip.AddrPort. For a net.Addr of another type, it returns
// the zero value.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// The method "stop" closes the connections to the client and to the backend, which unblocks their
// goroutines. It is safe for concurrent use. The first call sets the reason for the Result.
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
		setResetOnClose(gc.client)
		setResetOnClose(gc.backend)
	} else if gc.backend != nil && (err != nil || by == BySession) {
		// Read and drop the unread bytes of both sockets before Close. If a program closes a socket
		// with unread bytes, the kernel also drops the send queue of this socket, and the peer
		// would lose these bytes.
		discardUnread(gc.client)
		discardUnread(gc.backend)
	}
	gc.client.Close()
	if gc.backend != nil {
		gc.backend.Close()
	}
}

// abort closes the connections to the client and to the backend, as stop does, but with RST.
func (gc *goroutineConn) abort(by Party, err error) {
	gc.mu.Lock()
	gc.reset = true
	gc.mu.Unlock()
	gc.stop(by, err)
}

// setResetOnClose makes Close send an RST if c has a TCP connection.
func setResetOnClose(c net.Conn) {
	if tcp, ok := tcpConn(c); ok {
		tcp.SetLinger(0)
	}
}

// tcpConn returns c as a TCP connection. If c has a method NetConn, as TLS has, tcpConn returns the
// connection below c.
func tcpConn(c net.Conn) (tcp *net.TCPConn, ok bool) {
	if outer, wraps := c.(interface{ NetConn() net.Conn }); wraps {
		c = outer.NetConn()
	}
	tcp, ok = c.(*net.TCPConn)
	return tcp, ok
}

// setBackend stores the connection to the backend. If stop was called before, setBackend closes c
// and returns false.
func (gc *goroutineConn) setBackend(c net.Conn) bool {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.stopped {
		c.Close()
		return false
	}
	gc.backend = c
	gc.setKeepAlive(c)
	return true
}

func (gc *goroutineConn) setKeepAlive(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		d := gc.engine.shared.settings.keepAlive
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: d > 0, Idle: d, Interval: d})
	}
}

// closeBackend closes the connection to a backend that has failed before it accepted a byte, so
// that the Session can choose another backend.
func (gc *goroutineConn) closeBackend() {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.backend != nil {
		gc.backend.Close()
		gc.backend = nil
	}
}

// run calls the function "body", which serves the connection until its end. After that, run closes
// the sockets of the client and of the backend, and reports the Result.
func (gc *goroutineConn) run(body func()) {
	gc.setKeepAlive(gc.client)
	body()
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

// readHello reads from the client until the Session returns a Step other than More. It returns this
// Step, and all bytes that it has read.
func (gc *goroutineConn) readHello(ctx context.Context) (Step, []byte) {
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
		if ctx.Err() != nil {
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
			gc.hello = elapsed(gc.openedAt)
			gc.client.SetReadDeadline(time.Time{})
			return step, data
		}
	}
}

// elapsed returns the time that has passed since the time in the argument "start". It returns at
// least 1 ns, because 0 in a Result means that the phase did not end. On a system with a coarse
// clock, the measured time can be 0.
func elapsed(start time.Time) time.Duration { return max(time.Since(start), 1) }

// helloEnded runs when no more bytes of the hello (the first bytes of the client) will arrive,
// because of io.EOF, the time-out, the limit, or a read error. It returns the decision of
// Session.Hello with err. After a read error, the connection ends in any case.
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

// runSteps carries out a Step of the Session, and the Steps that follow it. The argument "data"
// holds the bytes that the client has sent so far.
func (gc *goroutineConn) runSteps(ctx context.Context, step Step, data []byte) {
	for {
		switch step.Action {
		case Wait:
			gc.phase = PhaseWait
			select {
			case step = <-gc.resume:
			case <-ctx.Done():
				return
			}
		case Connect:
			gc.phase = PhaseDial
			c, err := gc.connect(ctx, step)
			if err == nil {
				if !gc.setBackend(c) {
					return
				}
				if step.IdleTimeout != 0 {
					gc.idle.Store(int64(max(step.IdleTimeout, 0)))
				}
				if err = gc.relay(step.Data, data[min(max(step.Skip, 0), len(data)):]); err == nil {
					return
				}
				if _, pair := gc.session.(*pairSession); pair {
					gc.stop(ByBackend, err)
					return
				}
				gc.closeBackend()
				err = dialError(err)
			}
			if ctx.Err() != nil {
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

// connect returns the connection to the backend.
func (gc *goroutineConn) connect(ctx context.Context, step Step) (net.Conn, error) {
	if c := gc.givenBackend; c != nil {
		gc.givenBackend = nil
		return c, nil
	}
	start := time.Now()
	defer func() { gc.dial = elapsed(start) }()
	if d := max(cmp.Or(step.DialTimeout, gc.engine.shared.settings.dialTimeout), 0); d > 0 {
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
	dialer := net.Dialer{KeepAlive: -1} // setBackend sets KeepAlive
	c, err := dialer.DialContext(ctx, "tcp", step.Addr.String())
	return c, dialError(err)
}

// The method "answer" sends step.Data to the client and then a FIN. Then it drops the client's
// bytes until the client sends a FIN too. It gives up if the client acknowledges no byte for
// lingerTimeout, or when HalfCloseTimeout has passed since accept.
func (gc *goroutineConn) answer(step Step) {
	gc.phase = PhaseAnswer
	gc.client.SetDeadline(time.Now().Add(lingerTimeout))
	halfClose := gc.engine.shared.settings.halfClose
	moreTime := func(err error) bool {
		if !isTimeout(err) || halfClose > 0 && time.Since(gc.openedAt) >= halfClose || gc.progress(lingerTimeout) == 0 {
			return false
		}
		gc.client.SetDeadline(time.Now().Add(lingerTimeout))
		return true
	}
	n, err := gc.client.Write(step.Data)
	for sent := n; moreTime(err); sent += n {
		gc.toClient.Add(int64(n))
		n, err = gc.client.Write(step.Data[sent:])
	}
	gc.toClient.Add(int64(n))
	if err == nil && closeWrite(gc.client) {
		buf := getBuffer()
		for err == nil || moreTime(err) {
			_, err = gc.client.Read(*buf)
		}
		putBuffer(buf)
	}
	gc.stop(BySession, step.Err)
}

// closeWrite ends the direction to the peer of c; over TCP, it sends FIN. It returns false if c has
// no CloseWrite method.
func closeWrite(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return false
	}
	half.CloseWrite()
	return true
}
