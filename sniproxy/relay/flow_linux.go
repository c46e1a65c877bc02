//go:build amd64 || arm64

package relay

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The phases that only a flow knows, beside those of Result.
const (
	phaseClosed Phase = 100 + iota
	phaseLinger       // PhaseAnswer, with the answer sent
)

// The two sides of a flow.
const (
	clientSide  = 0
	backendSide = 1
)

// interest is what a socket is registered for; EPOLLOUT comes in when a write has not
// taken everything.
const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)

// flow is one client's connection with its backend's: the state machine of README.md.
// Only the loop touches it.
type flow struct {
	timer timer
	loop  *loop
	side  [2]side

	session Session
	remote  netip.AddrPort
	token   int32
	phase   Phase
	busy    bool  // in loop.busy
	kept    bool  // keep-alive is set on the backend's socket, or not wanted
	reset   bool  // close with RST
	first   Party // whose direction ended first

	failedBy Party // who took no more
	failure  error // of that

	opened, moved int64 // when, on the loop's clock
	doom          int64 // when CloseWithin ends it; 0 is not
	idle          time.Duration
	hello, dial   time.Duration
	dialing       int64 // when the last Connect began

	data  []byte   // what the client has sent, until a backend has taken it
	step  Step     // the last that is under way: Connect or Answer
	dials *dialing // a Step.Dial that runs
	early *Step    // of a Resume that came before its Wait
	heir  *talk    // what has taken over, with a backend that is not TCP
}

func newFlow(l *loop, fd int32, remote netip.AddrPort) *flow {
	f := &flow{loop: l, remote: remote, phase: PhaseHello, opened: l.now, idle: l.ev.shared.set.idleTimeout}
	f.timer.flow = f
	f.side[clientSide] = side{fd: fd, readable: true, writable: true, noDelay: true} // inherited
	f.side[backendSide] = side{fd: -1}
	l.enter(f)
	return f
}

// accepted begins with a client whose connection is new.
func (f *flow) accepted(make func(Conn) Session) {
	if f.loop.ev.shared.closing.Load() {
		f.release()
		return
	}
	if f.session = make(f); f.session == nil {
		f.release()
		return
	}
	f.schedule()
	f.readHello()
}

// adopt begins with two connections that exist.
func (f *flow) adopt(backend int32, prefix []byte) {
	f.side[backendSide].fd = backend
	f.phase = PhaseRelay
	f.step = Step{Data: prefix}
	for i := range f.side {
		f.side[i].readable, f.side[i].noDelay = false, true
	}
	if f.loop.ev.shared.closing.Load() {
		f.finish(ByEngine, ErrClosed)
		return
	}
	if e := f.sendFirst(); e != noError {
		f.finish(ByBackend, writeError(ByBackend, e))
	}
	f.settle()
}

// The methods of Conn.

func (f *flow) RemoteAddr() netip.AddrPort { return f.remote }

func (f *flow) LocalAddr() netip.AddrPort {
	if f.heir != nil {
		return f.heir.LocalAddr()
	}
	return sysGetsockname(f.side[clientSide].fd)
}

func (f *flow) Resume(s Step) {
	f.loop.post(func() {
		switch {
		case f.heir != nil:
			f.heir.Resume(s)
		case f.phase == PhaseWait:
			f.do(s)
			f.settle()
		case f.early == nil && f.phase != phaseClosed:
			f.early = &s
		}
	})
}

func (f *flow) Close() {
	f.loop.post(func() {
		if f.heir != nil {
			f.heir.Close()
		} else {
			f.finish(BySession, nil)
		}
	})
}

// event takes note of what epoll says of one side and goes on from there.
func (f *flow) event(i int, bits uint32) {
	s := &f.side[i]
	if bits&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readable = true
	}
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.ending = true
	}
	if bits&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.writable = true
	}
	switch f.phase {
	case PhaseRelay:
		f.pump()
	case PhaseHello:
		f.readHello()
	case PhaseDial:
		if i == backendSide {
			if err := f.tryFirst(); err != nil {
				f.do(f.dialFailed(err))
			}
			f.settle()
			break
		}
		fallthrough
	case PhaseWait:
		if bits&unix.EPOLLERR != 0 {
			e := sysSocketError(s.fd)
			if e == noError {
				e = unix.ECONNRESET
			}
			f.broken(ByClient, e)
		}
	case PhaseAnswer:
		f.sendAnswer()
	case phaseLinger:
		f.linger()
	}
}

// readHello reads what the client says first, until the Session has decided.
func (f *flow) readHello() {
	s := &f.side[clientSide]
	limit := f.loop.ev.shared.set.helloLimit
	for f.phase == PhaseHello && s.readable {
		buf := f.helloBuffer(limit)
		n, e := sysRead(s.fd, buf)
		switch {
		case e == unix.EAGAIN:
			s.readable = false
			continue
		case e != noError:
			f.noHello(ByClient, e)
			return
		case n == 0:
			s.eof = true
			f.noHello(ByClient, io.EOF)
			return
		}
		if n < len(buf) && !s.ending {
			s.readable = false
		}
		if len(f.data) == 0 {
			f.data = buf[:n] // of the scratch buffer, or its own
		} else {
			f.data = f.data[:len(f.data)+n]
		}
		step := f.session.Hello(f.data, nil)
		if step.Action == More && len(f.data) >= limit {
			f.noHello(BySession, ErrHelloTooLong)
			return
		}
		f.do(step)
		f.keep()
	}
	f.settle()
}

// helloBuffer is where the next bytes of the hello go: the scratch buffer at first, since
// most hellos come whole, then a buffer that grows with them.
func (f *flow) helloBuffer(limit int) []byte {
	if len(f.data) == 0 {
		return f.loop.scratch[:min(limit, scratchSize)]
	}
	if len(f.data) == cap(f.data) {
		f.data = append(make([]byte, 0, min(2*len(f.data), limit)), f.data...)
	}
	return f.data[len(f.data):cap(f.data)]
}

// keep takes the hello out of the scratch buffer, if it is there and still needed.
func (f *flow) keep() {
	if len(f.data) > 0 && &f.data[0] == &f.loop.scratch[0] {
		f.data = append(make([]byte, 0, max(len(f.data), 512)), f.data...)
	}
}

// noHello asks what to do with a client that says no more.
func (f *flow) noHello(by Party, err error) {
	reason := helloError(err)
	step := f.session.Hello(f.data, reason)
	switch {
	case err == io.EOF && undecided(step):
		f.finish(ByClient, nil)
	case err == io.EOF || by != ByClient:
		if undecided(step) {
			step = Step{Action: Drop, Err: reason}
			if by == ByTimeout {
				f.decide()
				f.finish(ByTimeout, reason)
				return
			}
		}
		f.do(step)
		f.keep()
		f.settle()
	default:
		f.finish(ByClient, reason)
	}
}

// decide notes when the Session decided.
func (f *flow) decide() {
	if f.hello == 0 {
		f.hello = max(time.Duration(f.loop.now-f.opened), 1)
	}
}

// do carries out a step. A step that ends at once and asks for another, such as a dial that
// is refused, does not nest: the loop here takes the next.
func (f *flow) do(step Step) {
	for again := true; again; {
		if step.Action != More {
			f.decide()
		}
		again = false
		switch step.Action {
		case More:
			if f.phase != PhaseHello {
				f.finish(BySession, step.Err)
			}
		case Wait:
			f.phase = PhaseWait
			f.schedule()
			if f.early != nil {
				step, f.early, again = *f.early, nil, true
			}
		case Connect:
			f.step = step
			if err := f.connect(); err != nil {
				step, again = f.dialFailed(err), true
			}
		case Answer:
			f.step, f.phase, f.data = step, PhaseAnswer, nil
			f.schedule()
			f.sendAnswer()
		case Reset:
			f.reset = true
			f.finish(BySession, step.Err)
		default:
			f.finish(BySession, step.Err)
		}
	}
}

// settle registers the sockets that the flow will have to wait for, when it is known that
// it does: a connection that is decided at once costs no call more than it must.
func (f *flow) settle() {
	for i := range f.side {
		s := &f.side[i]
		if s.fd < 0 || s.registered {
			continue
		}
		s.registered = true
		events := uint32(interest)
		if !s.writable {
			s.wantsOut = true
			events |= unix.EPOLLOUT
		}
		l := f.loop
		if e := sysEpollCtl(l.ep, unix.EPOLL_CTL_ADD, s.fd, events, f.token<<1|int32(i), l.entries[f.token].gen); e != noError {
			f.finish(ByEngine, fmt.Errorf("relay: epoll_ctl: %w", e))
			return
		}
	}
}

// schedule sets the timer for the phase.
func (f *flow) schedule() {
	set := &f.loop.ev.shared.set
	var at int64 // 0 is never
	switch f.phase {
	case PhaseHello:
		at = after(f.opened, set.helloTimeout)
	case PhaseDial:
		at = after(f.dialing, pick(f.step.DialTimeout, set.dialTimeout))
	case PhaseRelay:
		at = after(f.moved, f.idle)
		if !f.kept {
			at = earliest(at, after(f.opened, set.keepAlive))
		}
	case PhaseAnswer, phaseLinger:
		at = after(f.moved, lingerTimeout)
	}
	if at = earliest(at, f.doom); at == 0 {
		f.loop.wheel.stop(&f.timer)
		return
	}
	f.loop.wheel.set(&f.timer, at)
}

func after(start int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return start + int64(d)
}

// earliest is the earlier of two times, of which 0 is never.
func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// pick is a Step's time-out, if it has one.
func pick(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return timeout(d, 0)
}

// expire is called when the timer was due; something may have moved since it was set.
func (f *flow) expire() {
	now := f.loop.now
	if f.doom != 0 && now >= f.doom {
		f.finish(ByEngine, ErrClosed)
		return
	}
	set := &f.loop.ev.shared.set
	switch f.phase {
	case PhaseHello:
		f.noHello(ByTimeout, os.ErrDeadlineExceeded)
		return
	case PhaseDial:
		f.do(f.dialFailed(dialError(os.ErrDeadlineExceeded)))
		f.settle()
		return
	case PhaseRelay:
		if f.idle > 0 && now >= f.moved+int64(f.idle) {
			if f.failure != nil {
				f.finish(f.failedBy, f.failure)
				return
			}
			f.finish(ByTimeout, errIdle)
			return
		}
		if !f.kept && now >= f.opened+int64(set.keepAlive) {
			f.kept = true
			setKeepAlive(f.side[backendSide].fd, set.keepAlive)
		}
	case PhaseAnswer, phaseLinger:
		f.finish(BySession, f.step.Err)
		return
	}
	f.schedule()
}

// finish closes everything and reports. Only the first call has an effect.
func (f *flow) finish(by Party, err error) {
	if f.phase == phaseClosed {
		return
	}
	r := Result{
		By: by, Phase: f.phase, Err: err,
		ToBackend: max(f.side[clientSide].taken, 0), ToClient: max(f.side[backendSide].taken, 0),
		Hello: f.hello, Dial: f.dial, Total: time.Duration(f.loop.now - f.opened),
	}
	if f.phase == phaseLinger {
		r.Phase = PhaseAnswer
	}
	session := f.session
	f.release()
	session.Done(r)
	f.loop.ev.shared.end()
}

// release gives back everything that the flow holds.
func (f *flow) release() {
	if f.phase == phaseClosed {
		return
	}
	f.phase = phaseClosed
	l := f.loop
	f.stopDialing()
	for i := range f.side {
		f.closeSide(i)
	}
	l.wheel.stop(&f.timer)
	l.leave(f)
	l.load.Add(-1)
	f.data, f.step, f.early = nil, Step{}, nil
	if f.session == nil {
		l.ev.shared.end()
	}
	f.session = nil
}

func (f *flow) closeSide(i int) {
	s := &f.side[i]
	s.drop(f.loop)
	if s.fd < 0 {
		return
	}
	if f.reset {
		sysSetLinger(s.fd)
	}
	sysClose(s.fd)
	*s = side{fd: -1, taken: s.taken}
}
