//go:build amd64 || arm64

package relay

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readHello reads the first bytes of the client, and passes them to Session.Hello, until the
// Session returns a Step other than More.
func (ec *epollConn) readHello() {
	s, h, limit := &ec.side[clientSide], ec.handshake, ec.loop.engine.shared.settings.helloLimit
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
		if n < len(buf) && !s.readOn {
			s.readable = false
		}
		if len(h.data) == 0 {
			h.data = buf[:n]
		} else {
			h.data = h.data[:len(h.data)+n]
		}
		step := ec.session.Hello(h.data, nil)
		if step.Action == More && len(h.data) >= limit {
			ec.helloEnded(BySession, ErrHelloTooLong)
			return
		}
		ec.runStep(step)
	}
	ec.awaitEvents()
}

// helloBuffer returns the buffer for the next bytes of the hello, which is the beginning of the
// client's bytes that the Session needs for its decision. The first read uses the buffer of the
// loop, because most hellos arrive in one piece and need no buffer later. Further reads use a
// buffer of the connection, which grows to at most limit bytes.
func (ec *epollConn) helloBuffer(limit int) []byte {
	h := ec.handshake
	switch len(h.data) {
	case 0:
		return ec.loop.scratch[:min(limit, scratchSize)]
	case cap(h.data):
		h.data = append(make([]byte, 0, min(2*len(h.data), limit)), h.data...)
	}
	return h.data[len(h.data):cap(h.data)]
}

// saveHello copies the hello from the buffer of the loop to a buffer of the connection, before
// other connections use the buffer of the loop.
func (ec *epollConn) saveHello() {
	h, scratch := ec.handshake, ec.loop.scratch
	if h != nil && len(h.data) > 0 && &h.data[0] == &scratch[0] {
		h.data = append(make([]byte, 0, max(len(h.data), 512)), h.data...)
	}
}

// helloEnded runs when no more bytes of the hello (the first bytes of the client) will arrive. "by"
// is the party that ended the hello. err is the reason, and helloEnded passes it to Session.Hello.
//
// The connection ends after a read error, or if Hello returns a default step (see isDefaultStep).
// The Result then contains "by" and err, but a nil error if err is io.EOF.
func (ec *epollConn) helloEnded(by Party, err error) {
	reason := helloError(err)
	step := ec.session.Hello(ec.handshake.data, reason)
	if ec.hello == 0 {
		ec.hello = ec.since(ec.openedAt)
	}
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

// connect starts to dial the backend that the Step in ec.handshake.step names. It returns an error
// if the dial fails immediately. Otherwise the dial may still be running when connect returns.
func (ec *epollConn) connect() error {
	ec.phase, ec.handshake.dialStarted = PhaseDial, ec.loop.clock()
	step := &ec.handshake.step
	if step.IdleTimeout != 0 {
		ec.idle = max(step.IdleTimeout, 0)
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
		return nil // EPOLLOUT reports the end of the connect
	}
	return ec.trySendFirstBytes()
}

// trySendFirstBytes writes to a socket that may still be connecting. The error EAGAIN means that
// the connect is not complete. Any other error means that the connect has failed. If the backend is
// on this machine, the connect is complete when connect(2) returns, so the first write succeeds.
func (ec *epollConn) trySendFirstBytes() error {
	if e := ec.sendFirstBytes(); e != noError && e != unix.EAGAIN {
		return dialError(e)
	}
	return nil
}

// firstBytes returns the bytes that the backend gets first, in two parts: Step.Data, and then the
// bytes that the client has sent so far, without the first Step.Skip bytes.
func (h *handshake) firstBytes() (header, data []byte) {
	return h.step.Data, h.data[min(max(h.step.Skip, 0), len(h.data)):]
}

// sendFirstBytes sends Step.Data and the client's bytes to the backend in one system call. When the
// backend has accepted a byte, the connection enters PhaseRelay.
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
	if started := ec.handshake.dialStarted; started != 0 {
		ec.dial = ec.since(started)
	}
	l.putHandshake(ec)
	ec.phase = PhaseRelay
	ec.movedAt.Store(l.now)
	ec.keepAliveSet = l.engine.shared.settings.keepAlive <= 0
	ec.setTimer()
	ec.copyBoth()
	return noError
}

// dialFailed closes the socket of the backend, and calls Session.DialFailed for the next step.
func (ec *epollConn) dialFailed(err error) Step {
	ec.dial = ec.since(ec.handshake.dialStarted)
	ec.cancelDial()
	ec.closeSide(backendSide)
	ec.side[clientSide].delivered = 0
	ec.handshake.step = Step{}
	step := ec.session.DialFailed(err)
	if step.Action == More {
		return Step{Action: Drop, Err: err}
	}
	return step
}

// dialCall is a running call of Step.Dial. Its address identifies the call.
type dialCall struct{ cancel context.CancelFunc }

func (ec *epollConn) cancelDial() {
	if ec.handshake != nil && ec.handshake.dialCall != nil {
		ec.handshake.dialCall.cancel()
		ec.handshake.dialCall = nil
	}
}

// callDial calls Step.Dial in a goroutine.
func (ec *epollConn) callDial() {
	ctx, cancel := context.Background(), context.CancelFunc(nil)
	if d := cmp.Or(ec.handshake.step.DialTimeout, ec.loop.engine.shared.settings.dialTimeout); d > 0 {
		ctx, cancel = context.WithTimeout(ctx, d)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	call := &dialCall{cancel}
	ec.handshake.dialCall = call
	dial := ec.handshake.step.Dial
	ec.loop.engine.dials.Go(func() {
		c, err := dial(ctx)
		if c == nil && err == nil {
			err = errNoConn
		}
		ec.loop.post(func() { ec.dialReturned(call, c, err) })
	})
}

// dialReturned handles the result of Step.Dial. If ec cancelled the call before Step.Dial returned,
// dialReturned closes the connection that Step.Dial made.
func (ec *epollConn) dialReturned(call *dialCall, c net.Conn, err error) {
	call.cancel()
	if ec.handshake == nil || ec.handshake.dialCall != call {
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

// handOver gives the client's connection to the implementation with goroutines. The loop must do
// this if Step.Dial returns a backend that is not a TCP connection.
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
	gc, ctx := newGoroutineConn(ge, client)
	gc.openedAt, gc.hello = l.engine.base.Add(time.Duration(ec.openedAt)), ec.hello
	gc.dial = ec.since(ec.handshake.dialStarted)
	gc.idle.Store(int64(ec.idle))
	gc.markMoved()
	ec.portable.Store(gc)
	if ec.closing != nil && ec.closing.closeAt != 0 {
		time.AfterFunc(time.Duration(ec.closing.closeAt-l.now), func() { gc.stop(ByEngine, ErrClosed) })
	}
	ge.startRelay(ctx, gc, backend, ec.handshake.step, ec.handshake.data, ec.session)
	ec.release()
}

// maxLingerReads is how many times in a row the loop reads from one connection and drops the bytes.
// After that, the loop serves other connections first.
const maxLingerReads = 16

// sendAnswer writes Step.Data to the client, and ends the direction to the client.
func (ec *epollConn) sendAnswer() {
	s, step := &ec.side[clientSide], &ec.handshake.step
	if len(step.Data) > 0 {
		n, e := sysWrite(s.fd, step.Data)
		if e != noError && e != unix.EAGAIN {
			ec.finish(BySession, step.Err)
			return
		}
		if n > 0 {
			ec.side[backendSide].delivered += int64(n)
			ec.movedAt.Store(ec.loop.now)
		}
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

// linger waits until a client that got an Answer has sent the end of its stream.
func (ec *epollConn) linger() {
	more := ec.discard(clientSide)
	switch {
	case ec.side[clientSide].eof:
		ec.finish(BySession, ec.handshake.step.Err)
	case more:
		ec.requeue()
	}
}

// discard reads and drops the bytes that side i sends. If the loop closed a socket with unread
// bytes, the kernel would send RST, and the peer could lose bytes that it has not read yet. The
// result "more" is true if the socket may have further bytes to read now.
func (ec *epollConn) discard(i int) (more bool) {
	s := &ec.side[i]
	for range maxLingerReads {
		if s.eof {
			return false
		}
		n, e := sysRead(s.fd, ec.loop.scratch)
		if e == unix.EAGAIN {
			return false
		}
		s.eof, s.failed = e != noError || n == 0, e != noError
	}
	return true
}
