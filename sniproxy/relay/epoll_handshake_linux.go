//go:build amd64 || arm64

package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// connect begins a Connect. An error means that there will be no connection.
func (ec *epollConn) connect() error {
	ec.phase, ec.dialStarted = PhaseDial, ec.loop.now
	step := &ec.handshake.step
	if step.IdleTimeout != 0 {
		ec.idle = timeout(step.IdleTimeout, 0)
	}
	ec.setTimer()
	if step.Dial != nil {
		ec.callDial()
		return nil
	}
	domain := unix.AF_INET6
	if ip := step.Addr.Addr(); ip.Is4() || ip.Is4In6() {
		domain = unix.AF_INET
	}
	fd, e := sysSocket(domain)
	if e != noError {
		return dialError(e)
	}
	ec.side[backendSide] = side{fd: fd}
	if e = sysConnect(fd, step.Addr); e != noError && e != unix.EINPROGRESS {
		return dialError(e)
	}
	if header, data := ec.handshake.firstBytes(); len(header)+len(data) == 0 {
		return nil // nothing to try with: EPOLLOUT will tell
	}
	return ec.trySendFirstBytes()
}

// tryFirst sends the first bytes to the backend, which finds out whether the connection is
// there: a socket that is still connecting answers EAGAIN, one that has failed with the
// reason. On a connection within one machine it is there when connect(2) returns.
func (ec *epollConn) trySendFirstBytes() error {
	e := ec.sendFirstBytes()
	if e == unix.EAGAIN {
		return nil
	}
	if e != noError {
		return dialError(e)
	}
	return nil
}

// first is what goes to a backend first.
func (o *handshake) firstBytes() (header, data []byte) {
	return o.step.Data, o.data[min(max(o.step.Skip, 0), len(o.data)):]
}

// sendFirst sends Step.Data and the client's bytes so far, in one call. When the backend has
// taken a byte the epollConn relays.
func (ec *epollConn) sendFirstBytes() errno {
	l, to := ec.loop, &ec.side[backendSide]
	header, data := ec.handshake.firstBytes()
	var n int
	var e errno
	switch {
	case len(header) == 0 && len(data) > 0:
		n, e = sysWrite(to.fd, data)
	case len(header) > 0:
		n, e = sysWrite2(to.fd, &l.vectors, header, data)
	case ec.phase == PhaseDial:
		e = sysSocketError(to.fd)
	}
	if e != noError {
		return e
	}
	to.writable, to.wrote = n == len(header)+len(data), true
	from := &ec.side[clientSide]
	from.delivered = int64(n - len(header))
	if !to.writable {
		rest := header[min(n, len(header)):]
		from.hold(l, rest, data[max(n-len(header), 0):])
	}
	if ec.dialStarted != 0 {
		ec.dial = max(time.Duration(l.now-ec.dialStarted), 1)
	}
	ec.putHandshake()
	ec.phase, ec.movedAt = PhaseRelay, l.now
	ec.keepAliveSet = l.engine.shared.settings.keepAlive <= 0
	ec.setTimer()
	ec.copyBoth()
	return noError
}

// dialFailed gives up a backend and asks what next.
func (ec *epollConn) dialFailed(err error) Step {
	ec.dial = max(time.Duration(ec.loop.now-ec.dialStarted), 1)
	ec.stopDialing()
	ec.closeSide(backendSide)
	ec.side[clientSide].delivered = 0
	ec.handshake.step = Step{}
	step := ec.session.DialFailed(err)
	if step.Action == More {
		return Step{Action: Drop, Err: err}
	}
	return step
}

// dialing is a Step.Dial that runs.
type dialCall struct{ cancel context.CancelFunc }

func (ec *epollConn) stopDialing() {
	if ec.handshake != nil && ec.handshake.dialCall != nil {
		ec.handshake.dialCall.cancel()
		ec.handshake.dialCall = nil
	}
}

// dialElsewhere runs Step.Dial in a goroutine.
func (ec *epollConn) callDial() {
	ctx, cancel := context.WithCancel(context.Background())
	if d := pick(ec.handshake.step.DialTimeout, ec.loop.engine.shared.settings.dialTimeout); d > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), d)
	}
	d := &dialCall{cancel}
	ec.handshake.dialCall = d
	dial := ec.handshake.step.Dial
	ec.loop.engine.dials.Go(func() {
		c, err := dial(ctx)
		if c == nil && err == nil {
			err = errNoConn
		}
		ec.loop.post(func() { ec.dialReturned(d, c, err) })
	})
}

// dialed takes what Step.Dial has returned.
func (ec *epollConn) dialReturned(d *dialCall, c net.Conn, err error) {
	d.cancel()
	if ec.handshake == nil || ec.handshake.dialCall != d {
		if c != nil {
			c.Close()
		}
		return
	}
	ec.handshake.dialCall = nil
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		fd, derr := detach(tcp)
		tcp.Close()
		if err = derr; err == nil {
			ec.side[backendSide] = side{fd: fd, noDelay: true}
			err = ec.trySendFirstBytes()
		}
	} else if err == nil {
		ec.handOver(c)
		return
	}
	if err != nil {
		ec.runStep(ec.dialFailed(dialError(err)))
	}
	ec.awaitEvents()
}

// bequeath leaves the rest to the portable implementation, since the backend is no TCP
// connection.
func (ec *epollConn) handOver(backend net.Conn) {
	l, s := ec.loop, &ec.side[clientSide]
	if s.registered {
		sysEpollCtl(l.ep, unix.EPOLL_CTL_DEL, s.fd, 0, 0, 0)
	}
	file := os.NewFile(uintptr(s.fd), "client")
	client, err := net.FileConn(file)
	s.fd = -1
	file.Close()
	if err != nil {
		backend.Close()
		ec.finish(ByEngine, fmt.Errorf("relay: handing over: %w", err))
		return
	}
	ge := &l.engine.shared.goroutines
	gc := newGoroutineConn(ge, client)
	gc.openedAt, gc.hello = l.engine.base.Add(time.Duration(ec.openedAt)), ec.hello
	gc.dial = max(time.Duration(l.now-ec.dialStarted), 1)
	gc.idle.Store(int64(ec.idle))
	gc.markMoved()
	ec.portable = gc
	if ec.closing != nil && ec.closing.closeAt != 0 {
		time.AfterFunc(time.Duration(ec.closing.closeAt-l.now), func() { gc.stop(ByEngine, ErrClosed) })
	}
	ge.startRelay(gc, backend, ec.handshake.step, ec.handshake.data, ec.session)
	ec.release()
}

// maxLingerReads bounds how much a client that was answered may still send before others
// have a turn. For how long it may go on is bounded by lingerTimeout.
const maxLingerReads = 16

// sendAnswer writes Step.Data to the client and ends that direction.
func (ec *epollConn) sendAnswer() {
	s, step := &ec.side[clientSide], &ec.handshake.step
	if len(step.Data) > 0 {
		n, e := sysWrite(s.fd, step.Data)
		if e != noError && e != unix.EAGAIN {
			ec.finish(BySession, step.Err)
			return
		}
		ec.side[backendSide].delivered += int64(n)
		step.Data = step.Data[n:]
		if len(step.Data) > 0 {
			ec.awaitWritable(s)
			return
		}
	}
	sysShutdown(s.fd)
	ec.phase = phaseLinger
	ec.linger()
}

// linger waits for the end of a client that was answered.
func (ec *epollConn) linger() {
	more := ec.discard()
	switch {
	case ec.side[clientSide].eof:
		ec.finish(BySession, ec.handshake.step.Err)
	case more:
		ec.requeue()
	}
}

// discard reads and forgets what the client still sends: closing a socket with unread bytes
// would send RST, and the client might lose the answer. It returns true if there may be
// more by now.
func (ec *epollConn) discard() (more bool) {
	s := &ec.side[clientSide]
	for range maxLingerReads {
		if s.eof {
			return false
		}
		n, e := sysRead(s.fd, ec.loop.scratch)
		if e == unix.EAGAIN {
			return false
		}
		s.eof = e != noError || n == 0
	}
	return true
}

// readHello reads what the client says first, until the Session has decided.
func (ec *epollConn) readHello() {
	s, o, limit := &ec.side[clientSide], ec.handshake, ec.loop.engine.shared.settings.helloLimit
	for ec.phase == PhaseHello && s.readable {
		buf := ec.helloBuffer(limit)
		n, e := sysRead(s.fd, buf)
		switch {
		case e == unix.EAGAIN:
			s.readable = false
			continue
		case e != noError:
			ec.helloEnded(ByClient, e)
			return
		case n == 0:
			s.eof = true
			ec.helloEnded(ByClient, io.EOF)
			return
		}
		if n < len(buf) && !s.peerEnded {
			s.readable = false
		}
		if len(o.data) == 0 {
			o.data = buf[:n]
		} else {
			o.data = o.data[:len(o.data)+n]
		}
		step := ec.session.Hello(o.data, nil)
		if step.Action == More && len(o.data) >= limit {
			ec.helloEnded(BySession, ErrHelloTooLong)
			return
		}
		ec.runStep(step)
	}
	ec.awaitEvents()
}

// helloBuffer is where the next bytes of the hello go: the loop's buffer at first, since
// most hellos come whole, then a buffer that grows with them.
func (ec *epollConn) helloBuffer(limit int) []byte {
	o := ec.handshake
	switch len(o.data) {
	case 0:
		return ec.loop.scratch[:min(limit, scratchSize)]
	case cap(o.data):
		o.data = append(make([]byte, 0, min(2*len(o.data), limit)), o.data...)
	}
	return o.data[len(o.data):cap(o.data)]
}

// keepHello takes what the client has said out of the loop's buffer, if it is there and
// still needed.
func (ec *epollConn) saveHello() {
	o, scratch := ec.handshake, ec.loop.scratch
	if o != nil && len(o.data) > 0 && &o.data[0] == &scratch[0] {
		o.data = append(make([]byte, 0, max(len(o.data), 512)), o.data...)
	}
}

// noHello asks what to do with a client that says no more, if there is anything that can
// be done. by is who ends the connection if the Session has nothing to say to it.
func (ec *epollConn) helloEnded(by Party, err error) {
	reason := helloError(err)
	step := ec.session.Hello(ec.handshake.data, reason)
	ec.markDecided()
	switch {
	case err == io.EOF && isDefaultStep(step):
		ec.finish(ByClient, nil)
	case by == ByClient && err != io.EOF:
		ec.finish(ByClient, reason)
	case isDefaultStep(step):
		ec.finish(by, reason)
	default:
		ec.runStep(step)
		ec.awaitEvents()
	}
}
