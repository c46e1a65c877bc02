//go:build amd64 || arm64

package relay

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The phases that only a epollConn knows, beside those of Result.
const (
	phaseClosed Phase = 100 + iota
	phaseLinger       // PhaseAnswer, with the answer sent
)

// The two sides of a epollConn.
const (
	clientSide  = 0
	backendSide = 1
)

// interest is what a socket is registered for; EPOLLOUT comes in when a write has not
// taken everything.
const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// epollConn is one client's connection with its backend's: the state machine of README.md.
// Only the loop touches it. It is all that an idle connection costs here, so that what is
// not needed then is elsewhere.
type epollConn struct {
	timer     timer
	loop      *epollLoop
	session   Session
	side      [2]side
	handshake *handshake     // nil from PhaseRelay on
	closing   *closing       // nil until it is needed
	portable  *goroutineConn // what has taken over, with a backend that is not TCP

	remote       netip.AddrPort
	token        int32 // of loop.entries
	phase        Phase
	firstEnd     Party // whose direction ended first
	queued       bool  // in loop.busy
	keepAliveSet bool  // keep-alive is set, or not wanted
	reset        bool  // close with RST

	openedAt, movedAt int64         // when, on the loop's clock
	dialStarted       int64         // when the last Connect began
	idle              time.Duration // the time-out
	hello, dial       time.Duration // of the Result
}

// opening is what a epollConn needs until it relays. A loop lends it.
type handshake struct {
	data        []byte    // what the client has sent, until a backend has taken it
	step        Step      // what is under way: Connect or Answer
	dialCall    *dialCall // a Step.Dial that runs
	earlyResume *Step     // of a Resume that came before its Wait
}

// ending is what a epollConn needs that is told to end.
type closing struct {
	closeAt  int64 // when CloseWithin ends it; 0 is not
	failure  error // of writing to failedBy, while the other direction comes to its end
	failedBy Party
}

func newEpollConn(l *epollLoop, fd int32, remote netip.AddrPort) *epollConn {
	ec := &epollConn{loop: l, remote: remote, phase: PhaseHello, openedAt: l.now, idle: l.engine.shared.settings.idleTimeout, handshake: l.getHandshake()}
	ec.timer.conn = ec
	ec.side[clientSide] = side{fd: fd, readable: true, writable: true}
	ec.side[backendSide] = side{fd: -1}
	l.addConn(ec)
	return ec
}

// accepted begins with a client whose connection is new.
func (ec *epollConn) start(make func(Conn) Session, noDelay bool) {
	ec.side[clientSide].noDelay = noDelay
	if ec.loop.engine.shared.closing.Load() {
		ec.release()
		return
	}
	if ec.session = make(ec); ec.session == nil {
		ec.release()
		return
	}
	ec.setTimer()
	ec.readHello()
}

// adopt begins with two connections that exist.
func (ec *epollConn) startRelay(backend int32, prefix []byte) {
	ec.side[backendSide].fd = backend
	ec.phase = PhaseRelay
	ec.handshake.step = Step{Data: prefix}
	for i := range ec.side {
		ec.side[i].readable, ec.side[i].noDelay = false, true
	}
	if ec.loop.engine.shared.closing.Load() {
		ec.finish(ByEngine, ErrClosed)
		return
	}
	if e := ec.sendFirstBytes(); e != noError {
		ec.finish(ByBackend, writeError(ByBackend, e))
	}
	ec.awaitEvents()
}

// The methods of Conn.

func (ec *epollConn) RemoteAddr() netip.AddrPort { return ec.remote }

func (ec *epollConn) LocalAddr() netip.AddrPort {
	if ec.portable != nil {
		return ec.portable.LocalAddr()
	}
	return sysGetsockname(ec.side[clientSide].fd)
}

func (ec *epollConn) Resume(s Step) {
	ec.loop.post(func() {
		switch {
		case ec.portable != nil:
			ec.portable.Resume(s)
		case ec.phase == PhaseWait:
			ec.runStep(s)
			ec.awaitEvents()
		case ec.handshake != nil && ec.handshake.earlyResume == nil:
			ec.handshake.earlyResume = &s
		}
	})
}

func (ec *epollConn) Close() {
	ec.loop.post(func() {
		if ec.portable != nil {
			ec.portable.Close()
		} else {
			ec.finish(BySession, nil)
		}
	})
}

// event takes note of what epoll says of one side and goes on from there.
func (ec *epollConn) onEvent(i int, bits uint32) {
	s := &ec.side[i]
	if bits&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readable = true
	}
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.peerEnded = true
	}
	if bits&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.writable = true
	}
	switch ec.phase {
	case PhaseRelay:
		ec.copyBoth()
	case PhaseHello:
		ec.readHello()
	case PhaseDial:
		if i == backendSide {
			if err := ec.trySendFirstBytes(); err != nil {
				ec.runStep(ec.dialFailed(err))
			}
			ec.awaitEvents()
			break
		}
		fallthrough
	case PhaseWait:
		if bits&unix.EPOLLERR != 0 {
			e := sysSocketError(s.fd)
			if e == noError {
				e = unix.ECONNRESET
			}
			ec.readFailed(ByClient, e)
		}
	case PhaseAnswer:
		ec.sendAnswer()
	case phaseLinger:
		ec.linger()
	}
}

// decide notes when the Session decided.
func (ec *epollConn) markDecided() {
	if ec.hello == 0 {
		ec.hello = max(time.Duration(ec.loop.now-ec.openedAt), 1)
	}
}

// do carries out a step. A step that ends at once and asks for another, such as a dial that
// is refused, does not nest: the loop here takes the next.
func (ec *epollConn) runStep(step Step) {
	for again := true; again; {
		if step.Action != More {
			ec.markDecided()
		}
		again = false
		switch step.Action {
		case More:
			if ec.phase != PhaseHello {
				ec.finish(BySession, step.Err)
			}
		case Wait:
			ec.phase = PhaseWait
			ec.setTimer()
			if o := ec.handshake; o.earlyResume != nil {
				step, o.earlyResume, again = *o.earlyResume, nil, true
			}
		case Connect:
			ec.handshake.step = step
			if err := ec.connect(); err != nil {
				step, again = ec.dialFailed(err), true
			}
		case Answer:
			ec.handshake.step, ec.handshake.data = step, nil
			ec.phase, ec.movedAt = PhaseAnswer, ec.loop.now
			ec.setTimer()
			ec.sendAnswer()
		case Reset:
			ec.reset = true
			ec.finish(BySession, step.Err)
		default:
			ec.finish(BySession, step.Err)
		}
	}
}

// settle prepares the epollConn for waiting, when it is known that it has to: it registers the
// sockets that are not, and keeps what lies in the loop's buffer.
func (ec *epollConn) awaitEvents() {
	ec.saveHello()
	for i := range ec.side {
		s := &ec.side[i]
		if s.fd < 0 || s.registered {
			continue
		}
		s.registered = true
		events := uint32(interest)
		if !s.writable {
			s.wantsOut = true
			events |= unix.EPOLLOUT
		}
		l := ec.loop
		if e := sysEpollCtl(l.ep, unix.EPOLL_CTL_ADD, s.fd, events, ec.token<<1|int32(i), l.entries[ec.token].gen); e != noError {
			ec.finish(ByEngine, fmt.Errorf("relay: epoll_ctl: %w", e))
			return
		}
	}
}

// schedule sets the timer for the phase.
func (ec *epollConn) setTimer() {
	set := &ec.loop.engine.shared.settings
	var at int64 // 0 is never
	switch ec.phase {
	case PhaseHello:
		at = after(ec.openedAt, set.helloTimeout)
	case PhaseDial:
		at = after(ec.dialStarted, pick(ec.handshake.step.DialTimeout, set.dialTimeout))
	case PhaseRelay:
		at = after(ec.movedAt, ec.idle)
		if !ec.keepAliveSet {
			at = earliest(at, after(ec.openedAt, set.keepAlive))
		}
	case PhaseAnswer, phaseLinger:
		at = after(ec.movedAt, lingerTimeout)
	}
	if ec.closing != nil {
		at = earliest(at, ec.closing.closeAt)
	}
	if at == 0 {
		ec.loop.wheel.stop(&ec.timer)
		return
	}
	ec.loop.wheel.set(&ec.timer, at)
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
func (ec *epollConn) onTimer() {
	now := ec.loop.now
	if e := ec.closing; e != nil && e.closeAt != 0 && now >= e.closeAt {
		ec.finish(ByEngine, ErrClosed)
		return
	}
	set := &ec.loop.engine.shared.settings
	switch ec.phase {
	case PhaseHello:
		ec.helloEnded(ByTimeout, os.ErrDeadlineExceeded)
		return
	case PhaseDial:
		ec.runStep(ec.dialFailed(dialError(os.ErrDeadlineExceeded)))
		ec.awaitEvents()
		return
	case PhaseRelay:
		if ec.idle > 0 && now >= ec.movedAt+int64(ec.idle) {
			ec.finishFirstFailure(ByTimeout, errIdle)
			return
		}
		if !ec.keepAliveSet && now >= ec.openedAt+int64(set.keepAlive) {
			ec.keepAliveSet = true
			for i := range ec.side {
				setKeepAlive(ec.side[i].fd, set.keepAlive)
			}
		}
	case PhaseAnswer, phaseLinger:
		ec.finish(BySession, ec.handshake.step.Err)
		return
	}
	ec.setTimer()
}

// finish closes everything and reports. Only the first call has an effect.
func (ec *epollConn) finish(by Party, err error) {
	if ec.phase == phaseClosed {
		return
	}
	r := Result{
		By: by, Phase: ec.phase, Err: err,
		ToBackend: max(ec.side[clientSide].delivered, 0), ToClient: max(ec.side[backendSide].delivered, 0),
		Hello: ec.hello, Dial: ec.dial, Total: time.Duration(ec.loop.now - ec.openedAt),
	}
	if ec.phase == phaseLinger {
		r.Phase = PhaseAnswer
	}
	session := ec.session
	ec.release()
	session.Done(r)
	ec.loop.engine.shared.end()
}

// release gives back everything that the epollConn holds.
func (ec *epollConn) release() {
	if ec.phase == phaseClosed {
		return
	}
	ec.phase = phaseClosed
	l := ec.loop
	ec.stopDialing()
	for i := range ec.side {
		ec.closeSide(i)
	}
	l.wheel.stop(&ec.timer)
	l.removeConn(ec)
	l.load.Add(-1)
	ec.putHandshake()
	if ec.session == nil {
		l.engine.shared.end()
	}
	ec.session = nil
}

func (ec *epollConn) closeSide(i int) {
	s := &ec.side[i]
	s.releaseBuffers(ec.loop)
	if s.fd < 0 {
		return
	}
	if ec.reset {
		sysSetLinger(s.fd)
	}
	sysClose(s.fd)
	*s = side{fd: -1, delivered: s.delivered}
}
