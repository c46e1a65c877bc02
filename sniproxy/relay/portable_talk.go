package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// talk is one connection of the portable implementation. One goroutine, run, owns it; what
// others may touch is behind mu or atomic.
type talk struct {
	g       *goroutines
	client  net.Conn
	session Session
	ctx     context.Context // ends when the talk is to stop
	cancel  context.CancelFunc
	resume  chan Step
	given   net.Conn // the backend, if it is there before it is asked for

	mu      sync.Mutex
	backend net.Conn
	stopped bool
	by      Party
	err     error
	reset   bool  // close with RST
	first   Party // whose direction ended first

	failedBy Party
	failure  error // of writing to failedBy, while the other direction comes to its end

	phase               Phase
	opened              time.Time
	moved               atomic.Int64 // when a byte moved last, since opened
	toBackend, toClient atomic.Int64
	idle                atomic.Int64 // the time-out
	hello, dial         time.Duration
}

// newTalk registers a connection, which has been counted.
func newTalk(g *goroutines, client net.Conn) *talk {
	t := &talk{g: g, client: client, phase: PhaseHello, opened: time.Now(), resume: make(chan Step, 1)}
	t.idle.Store(int64(g.shared.set.idleTimeout))
	t.ctx, t.cancel = context.WithCancel(context.Background())
	g.mu.Lock()
	g.talks[t] = struct{}{}
	g.mu.Unlock()
	if g.shared.closing.Load() {
		t.stop(ByEngine, ErrClosed) // Close has not seen it
	}
	return t
}

func (t *talk) forget() {
	t.cancel()
	t.g.mu.Lock()
	delete(t.g.talks, t)
	t.g.mu.Unlock()
	t.g.shared.end()
}

func (t *talk) RemoteAddr() netip.AddrPort { return addrPort(t.client.RemoteAddr()) }
func (t *talk) LocalAddr() netip.AddrPort  { return addrPort(t.client.LocalAddr()) }
func (t *talk) Close()                     { t.stop(BySession, nil) }

func (t *talk) Resume(s Step) {
	select {
	case t.resume <- s:
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

// stop ends the talk from any goroutine; the first reason counts. Closing the two
// connections gets its goroutines out of whatever they wait for.
func (t *talk) stop(by Party, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if t.failure != nil && by != BySession && by != ByEngine {
		by, err = t.failedBy, t.failure
	}
	t.stopped, t.by, t.err = true, by, err
	t.cancel()
	if t.reset {
		abort(t.client)
		abort(t.backend)
	}
	t.client.Close()
	if t.backend != nil {
		t.backend.Close()
	}
}

// abort is stop with RST.
func (t *talk) abort(by Party, err error) {
	t.mu.Lock()
	t.reset = true
	t.mu.Unlock()
	t.stop(by, err)
}

// abort makes the next Close send RST.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// setBackend gives the talk its second connection, unless it has been stopped.
func (t *talk) setBackend(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		c.Close()
		return false
	}
	t.backend = c
	if tcp, ok := c.(*net.TCPConn); ok {
		keepAlive(tcp, t.g.shared.set.keepAlive)
	}
	return true
}

func keepAlive(c *net.TCPConn, d time.Duration) {
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: d > 0, Idle: d, Interval: d})
}

func (t *talk) enter(p Phase) { t.phase = p }

// run owns the talk: body ends with both connections done, and run closes and reports.
func (t *talk) run(body func(*talk)) {
	if tcp, ok := t.client.(*net.TCPConn); ok {
		keepAlive(tcp, t.g.shared.set.keepAlive)
	}
	body(t)
	t.mu.Lock()
	first := t.first
	t.mu.Unlock()
	t.stop(first, nil)
	t.session.Done(Result{
		By: t.by, Phase: t.phase, Err: t.err,
		ToBackend: t.toBackend.Load(), ToClient: t.toClient.Load(),
		Hello: t.hello, Dial: t.dial, Total: time.Since(t.opened),
	})
	t.forget()
}

// converse asks the Session what to do until there is nothing left to ask.
func (t *talk) converse() {
	step, data := t.listen()
	t.follow(step, data)
}

// follow carries out the steps; data is what the client has sent.
func (t *talk) follow(step Step, data []byte) {
	for {
		switch step.Action {
		case Wait:
			t.enter(PhaseWait)
			select {
			case step = <-t.resume:
			case <-t.ctx.Done():
				return
			}
		case Connect:
			t.enter(PhaseDial)
			c, err := t.connect(step)
			if err == nil {
				if !t.setBackend(c) {
					return
				}
				if step.IdleTimeout != 0 {
					t.idle.Store(int64(timeout(step.IdleTimeout, 0)))
				}
				if err = t.relay(step.Data, data[min(max(step.Skip, 0), len(data)):]); err == nil {
					return
				}
				if _, pair := t.session.(*pairSession); pair {
					t.stop(ByBackend, err)
					return
				}
				t.dropBackend()
				err = dialError(err)
			}
			if t.ctx.Err() != nil {
				return
			}
			step = t.session.DialFailed(err)
			if step.Action == More {
				step = Step{Action: Drop, Err: err}
			}
		case Answer:
			t.answer(step)
			return
		case Reset:
			t.abort(BySession, step.Err)
			return
		default:
			t.stop(BySession, step.Err)
			return
		}
	}
}
