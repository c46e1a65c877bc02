//go:build amd64 || arm64

package relay

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// These phases are internal: no Result contains one of them.
const (
	phaseClosed Phase = 100 + iota
	phaseLinger       // the part of PhaseAnswer after the Engine has sent the answer
)

// The indexes of epollConn.side.
const (
	clientSide  = 0
	backendSide = 1
)

// interest is the set of epoll events that every socket is registered for. After a short write, the
// loop registers the socket for EPOLLOUT too.
const interest = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET

// epollConn is the connection of a client together with the connection to its backend; README.md
// describes its states. Only the goroutine of its loop uses it. Other goroutines use only the
// atomic fields.
//
// Idle connections are small, because fields that an idle connection does not need are in the
// structs to which the fields "handshake" and "closing" point.
type epollConn struct {
	timer     timer
	loop      *epollLoop
	session   Session
	side      [2]side
	handshake *handshake                    // nil from PhaseRelay on
	closing   *closing                      // nil for most connections
	portable  atomic.Pointer[goroutineConn] // set by handOver: the successor of this connection

	remoteIP     netip.Addr
	remotePort   uint16 // not in a netip.AddrPort with remoteIP, because of its padding
	token        int32  // the index in epollLoop.entries
	phase        Phase
	firstEnd     Party // the side whose direction ended first
	queued       bool  // the connection is in epollLoop.queue
	keepAliveSet bool  // the socket option is set, or KeepAlive is off
	reset        bool  // close with RST

	openedAt    int64         // when the connection was accepted; see epollLoop.clock
	movedAt     atomic.Int64  // when a byte last moved; see epollLoop.now
	idle        time.Duration // the idle time-out; 0 means none
	hello, dial time.Duration // for the Result
}

// handshake is the state that a connection needs only before it relays. The loop lends a handshake
// to each new connection and reuses it later.
type handshake struct {
	data        []byte    // all bytes that the client has sent
	step        Step      // the running Connect or Answer
	dialCall    *dialCall // the running Step.Dial; nil if there is none
	dialStarted int64     // when the last Connect began; see epollLoop.clock
	earlyResume *Step     // the argument of a Resume that came before its Wait
}

// closing holds the state that a connection needs only near its end: when one party (client or
// backend) has failed, or when CloseWithin has set a time limit. Most connections never allocate
// it.
type closing struct {
	closeAt  int64 // when CloseWithin ends the connection; 0 means never
	failure  error // the error of failedBy, the party that failed first; the other party still gets its bytes
	failedBy Party
	unsent   [2]int // the results of sysUnsent for both sides at the last call of the method progress
	looked   bool   // the method progress has stored unsent
}

// ensureClosing returns ec.closing. It allocates ec.closing at the first call.
func (ec *epollConn) ensureClosing() *closing {
	if ec.closing == nil {
		ec.closing = new(closing)
	}
	return ec.closing
}

func newEpollConn(l *epollLoop, fd int32, remote netip.AddrPort) *epollConn {
	ec := &epollConn{
		loop: l, remoteIP: remote.Addr(), remotePort: remote.Port(), phase: PhaseHello, openedAt: l.clock(),
		idle: l.engine.shared.settings.idleTimeout, handshake: l.getHandshake(),
	}
	ec.movedAt.Store(ec.openedAt)
	ec.timer.conn = ec
	ec.side[clientSide] = side{fd: fd, readable: true, writable: true}
	ec.side[backendSide] = side{fd: -1}
	l.addConn(ec)
	return ec
}

// start begins to serve a connection that the loop has just accepted.
func (ec *epollConn) start(newSession func(Conn) Session, noDelay bool) {
	ec.side[clientSide].noDelay = noDelay
	if ec.loop.engine.shared.closing.Load() {
		ec.release()
		return
	}
	if ec.session = newSession(ec); ec.session == nil {
		ec.release()
		return
	}
	ec.setTimer()
	ec.readHello()
}

// startRelay starts to relay between the client and a backend that is connected already. The Engine
// sends the bytes in the argument "prefix" to the backend first.
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

func (ec *epollConn) RemoteAddr() netip.AddrPort {
	return netip.AddrPortFrom(ec.remoteIP, ec.remotePort)
}

func (ec *epollConn) LocalAddr() netip.AddrPort {
	if p := ec.portable.Load(); p != nil {
		return p.LocalAddr()
	}
	return sysGetsockname(ec.side[clientSide].fd)
}

func (ec *epollConn) Resume(s Step) {
	ec.loop.post(func() {
		p := ec.portable.Load()
		switch {
		case p != nil:
			p.Resume(s)
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
		if p := ec.portable.Load(); p != nil {
			p.Close()
		} else {
			ec.finish(BySession, nil)
		}
	})
}

func (ec *epollConn) Idle() time.Duration {
	if p := ec.portable.Load(); p != nil {
		return p.Idle()
	}
	return time.Duration(ec.loop.clock() - ec.movedAt.Load())
}

// onEvent handles the epoll events of one socket. i is clientSide or backendSide.
func (ec *epollConn) onEvent(i int, events uint32) {
	s := &ec.side[i]
	if events&(unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readable = true
	}
	if events&(unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readOn = true
	}
	s.finArrived = events&unix.EPOLLRDHUP != 0 && events&(unix.EPOLLPRI|unix.EPOLLERR) == 0
	if events&unix.EPOLLPRI != 0 {
		s.noSplice = true // at urgent data, each splice(2) returns EAGAIN
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.writable = true
	}
	switch ec.phase {
	case PhaseRelay:
		if events&unix.EPOLLERR != 0 && s.eof && !s.failed {
			// The peer has already sent FIN, and the loop has read it. So the loop does not read
			// from this socket again, and gets an error of the socket only here. If a peer sends
			// FIN and then RST, Linux reports EPIPE.
			e := sysSocketError(s.fd)
			if e == unix.EPIPE || e == noError {
				e = unix.ECONNRESET
			}
			ec.sideFailed(i, readError(Party(i+1), e))
			if ec.phase != PhaseRelay {
				return
			}
		}
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
		if events&unix.EPOLLERR != 0 {
			e := sysSocketError(s.fd)
			if e == noError {
				e = unix.ECONNRESET
			}
			ec.reset = true
			ec.finish(ByClient, readError(ByClient, e))
		}
	case PhaseAnswer:
		ec.sendAnswer()
	case phaseLinger:
		ec.linger()
	}
}

// runStep carries out a Step of the Session. A Step may fail immediately, for example because the
// backend refuses the dial. In this case, the Session returns another Step, and runStep carries out
// that Step in the same for loop, without recursion.
func (ec *epollConn) runStep(step Step) {
	for again := true; again; {
		if step.Action != More && ec.hello == 0 {
			ec.hello = ec.since(ec.openedAt)
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
			if h := ec.handshake; h.earlyResume != nil {
				step, h.earlyResume, again = *h.earlyResume, nil, true
			}
		case Connect:
			ec.handshake.step = step
			if err := ec.connect(); err != nil {
				step, again = ec.dialFailed(err), true
			}
		case Answer:
			ec.handshake.step, ec.handshake.data = step, nil
			ec.phase = PhaseAnswer
			ec.movedAt.Store(ec.loop.now)
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

// The method "since" returns the time that has passed since the time in the argument "start". It
// returns at least 1 ns, because 0 in a Result means that the phase did not end.
func (ec *epollConn) since(start int64) time.Duration {
	return time.Duration(max(ec.loop.clock()-start, 1))
}

// awaitEvents prepares the connection to wait for epoll events. It registers the sockets that are
// not registered yet. It also copies the hello (the first bytes of the client) out of the buffer of
// the loop, because other connections use this buffer while the connection waits.
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

// setTimer sets the timer for the current phase.
func (ec *epollConn) setTimer() {
	set := &ec.loop.engine.shared.settings
	var at int64 // 0 means never
	switch ec.phase {
	case PhaseHello:
		at = after(ec.openedAt, set.helloTimeout)
	case PhaseDial:
		at = after(ec.handshake.dialStarted, cmp.Or(ec.handshake.step.DialTimeout, set.dialTimeout))
	case PhaseRelay:
		at = after(ec.movedAt.Load(), ec.silence())
		if ec.closing != nil && ec.closing.failure != nil {
			at = ec.loop.now + int64(settleInterval)
		} else if !ec.keepAliveSet {
			at = earliest(at, after(ec.openedAt, set.keepAlive))
		}
	case PhaseAnswer, phaseLinger:
		at = after(ec.movedAt.Load(), lingerTimeout)
	}
	if ec.closing != nil {
		at = earliest(at, ec.closing.closeAt)
	}
	if at == 0 {
		ec.loop.timers.stop(&ec.timer)
		return
	}
	ec.loop.timers.set(&ec.timer, at)
}

// The method "silence" returns the idle time-out of a connection in PhaseRelay: the connection ends
// if no byte moves for this time. 0 means that there is no idle time-out.
func (ec *epollConn) silence() time.Duration {
	if ec.firstEnd != 0 || ec.closing != nil && ec.closing.failure != nil {
		return shorter(ec.idle, ec.loop.engine.shared.settings.halfClose)
	}
	return ec.idle
}

// progress finds out whether a slow peer still receives bytes. The send queue of a socket holds up
// to some MB, so a peer may receive bytes for a long time after the last write.
//
// progress returns how much longer the connection may stay open:
//
//   - At the first call, if the peers have acknowledged all bytes: 0.
//   - At the first call, otherwise: the shorter one of ackTime and the argument "silence".
//   - At a later call, if the client or the backend has acknowledged bytes since the last call: the
//     argument "silence".
//   - At a later call, otherwise: 0.
func (ec *epollConn) progress(silence time.Duration) (more time.Duration) {
	for i := range ec.side {
		if s := &ec.side[i]; s.fd >= 0 && !s.failed {
			if n := sysUnsent(s.fd); n > 0 || ec.closing != nil {
				c := ec.ensureClosing()
				if n != c.unsent[i] {
					more = silence
				}
				c.unsent[i] = n
			}
		}
	}
	if c := ec.closing; c != nil && !c.looked {
		c.looked = true
		more = min(more, ackTime)
	}
	return more
}

// The function "after" returns the time start+d. If d is not positive, it returns 0, which means
// never.
func after(start int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return start + int64(d)
}

// earliest returns the earlier of two times. A time of 0 means never.
func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// onTimer runs when the timer is due. In PhaseRelay, a byte that moves does not change the timer.
// So onTimer first computes whether the time-out has really expired.
func (ec *epollConn) onTimer() {
	now := ec.loop.now
	if c := ec.closing; c != nil && c.closeAt != 0 && now >= c.closeAt {
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
		failed := ec.closing != nil && ec.closing.failure != nil
		silence := ec.silence()
		expired := silence > 0 && now >= ec.movedAt.Load()+int64(silence)
		if failed || expired {
			if more := ec.progress(silence); more > 0 {
				ec.movedAt.Store(max(ec.movedAt.Load(), now-int64(silence-more)))
				expired = false
			}
		}
		if expired {
			ec.finishFirstFailure(ByTimeout, errIdle)
			return
		}
		if failed && ec.settled() {
			ec.finishFirstFailure(0, nil)
			return
		}
		if !ec.keepAliveSet && now >= ec.openedAt+int64(set.keepAlive) {
			ec.keepAliveSet = true
			for i := range ec.side {
				setKeepAlive(ec.side[i].fd, set.keepAlive)
			}
		}
	case PhaseAnswer, phaseLinger:
		if now < ec.movedAt.Load()+int64(lingerTimeout) {
			break
		}
		// A slow client may need a long time to receive the answer. So the connection stays open
		// while the client receives bytes. It ends if the client has received nothing for
		// lingerTimeout, or, at the latest, when HalfCloseTimeout has passed since accept.
		if last := after(ec.openedAt, set.halfClose); ec.progress(lingerTimeout) == 0 || last != 0 && now >= last {
			ec.finish(BySession, ec.handshake.step.Err)
			return
		}
		ec.movedAt.Store(now)
	}
	ec.setTimer()
}

// finish closes the connections to the client and to the backend, and reports the Result. Only the
// first call has an effect.
func (ec *epollConn) finish(by Party, err error) {
	if ec.phase == phaseClosed {
		return
	}
	r := Result{
		By: by, Phase: ec.phase, Err: err,
		ToBackend: max(ec.side[clientSide].delivered, 0), ToClient: max(ec.side[backendSide].delivered, 0),
		Hello: ec.hello, Dial: ec.dial, Total: ec.since(ec.openedAt),
	}
	if ec.phase == phaseLinger {
		r.Phase = PhaseAnswer
	}
	if ec.phase == PhaseRelay && !ec.reset {
		// The connection can end while its sockets have unread bytes, for example after a time-out.
		// Read and drop these bytes first: if a program closes a socket with unread bytes, the
		// kernel drops the send queue of the socket.
		for i := range ec.side {
			s := &ec.side[i]
			for n := 0; n < maxUnread && s.fd >= 0 && !s.eof; n += maxLingerReads * scratchSize {
				if !ec.discard(i) {
					break
				}
			}
		}
	}
	session := ec.session
	ec.release()
	session.Done(r)
	ec.loop.engine.shared.end()
}

// release frees everything that the connection holds.
func (ec *epollConn) release() {
	if ec.phase == phaseClosed {
		return
	}
	ec.phase = phaseClosed
	l := ec.loop
	ec.cancelDial()
	for i := range ec.side {
		ec.closeSide(i)
	}
	l.timers.stop(&ec.timer)
	l.removeConn(ec)
	l.load.Add(-1)
	l.putHandshake(ec)
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
