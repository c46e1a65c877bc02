//go:build amd64 || arm64

package relay

import (
	"fmt"
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
const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// flow is one client's connection with its backend's: the state machine of README.md.
// Only the loop touches it. It is all that an idle connection costs here, so that what is
// not needed then is elsewhere.
type flow struct {
	timer   timer
	loop    *loop
	session Session
	side    [2]side
	opening *opening // nil from PhaseRelay on
	ending  *ending  // nil until it is needed
	heir    *talk    // what has taken over, with a backend that is not TCP

	remote netip.AddrPort
	token  int32 // of loop.entries
	phase  Phase
	first  Party // whose direction ended first
	busy   bool  // in loop.busy
	kept   bool  // keep-alive is set, or not wanted
	reset  bool  // close with RST

	opened, moved int64         // when, on the loop's clock
	dialing       int64         // when the last Connect began
	idle          time.Duration // the time-out
	hello, dial   time.Duration // of the Result
}

// opening is what a flow needs until it relays. A loop lends it.
type opening struct {
	data  []byte   // what the client has sent, until a backend has taken it
	step  Step     // what is under way: Connect or Answer
	dials *dialing // a Step.Dial that runs
	early *Step    // of a Resume that came before its Wait
}

// ending is what a flow needs that is told to end.
type ending struct {
	doom     int64 // when CloseWithin ends it; 0 is not
	failure  error // of writing to failedBy, while the other direction comes to its end
	failedBy Party
}

func newFlow(l *loop, fd int32, remote netip.AddrPort) *flow {
	f := &flow{loop: l, remote: remote, phase: PhaseHello, opened: l.now, idle: l.ev.shared.set.idleTimeout, opening: l.takeOpening()}
	f.timer.flow = f
	f.side[clientSide] = side{fd: fd, readable: true, writable: true}
	f.side[backendSide] = side{fd: -1}
	l.enter(f)
	return f
}

// accepted begins with a client whose connection is new.
func (f *flow) accepted(make func(Conn) Session, noDelay bool) {
	f.side[clientSide].noDelay = noDelay
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
	f.opening.step = Step{Data: prefix}
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
		case f.opening != nil && f.opening.early == nil:
			f.opening.early = &s
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
			if o := f.opening; o.early != nil {
				step, o.early, again = *o.early, nil, true
			}
		case Connect:
			f.opening.step = step
			if err := f.connect(); err != nil {
				step, again = f.dialFailed(err), true
			}
		case Answer:
			f.opening.step, f.opening.data = step, nil
			f.phase, f.moved = PhaseAnswer, f.loop.now
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

// settle prepares the flow for waiting, when it is known that it has to: it registers the
// sockets that are not, and keeps what lies in the loop's buffer.
func (f *flow) settle() {
	f.keepHello()
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
		at = after(f.dialing, pick(f.opening.step.DialTimeout, set.dialTimeout))
	case PhaseRelay:
		at = after(f.moved, f.idle)
		if !f.kept {
			at = earliest(at, after(f.opened, set.keepAlive))
		}
	case PhaseAnswer, phaseLinger:
		at = after(f.moved, lingerTimeout)
	}
	if f.ending != nil {
		at = earliest(at, f.ending.doom)
	}
	if at == 0 {
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
	if e := f.ending; e != nil && e.doom != 0 && now >= e.doom {
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
			f.finishFailed(ByTimeout, errIdle)
			return
		}
		if !f.kept && now >= f.opened+int64(set.keepAlive) {
			f.kept = true
			for i := range f.side {
				setKeepAlive(f.side[i].fd, set.keepAlive)
			}
		}
	case PhaseAnswer, phaseLinger:
		f.finish(BySession, f.opening.step.Err)
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
	f.giveOpening()
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
