//go:build amd64 || arm64

package relay

import "golang.org/x/sys/unix"

// side is one of the two sockets of a epollConn, and what came from it and is on its way to the
// other.
type side struct {
	fd int32 // -1 is none

	// What is known of the socket. It is registered once, edge-triggered: readable and
	// writable hold from the event that says so to the EAGAIN, or the short read, that
	// says otherwise.
	readable, writable bool
	registered         bool
	wantsOut           bool // registered for EPOLLOUT too
	peerEnded          bool // EPOLLRDHUP was seen: a short read does not mean that there is no more
	eof                bool // its end was read
	shutdown           bool // its peer's end was passed on to it
	wrote, noDelay     bool

	failed   bool // writing to it has failed
	noSplice bool // it is not a socket that can

	longReads int8   // grows with long reads; from bulkStreak on it is bulk
	heldSent  int32  // how much of held the other has taken
	held      []byte // read from it, not yet written to the other
	pipe      *pipe  // likewise, in the kernel
	delivered int64  // bytes of it that the other has taken
}

const (
	// A read of at least longRead bytes is a sign of bulk, and bulkStreak of them in a
	// row, or one that fills the buffer, the proof: then splice(2) is worth its pipe.
	longRead   = 16 << 10
	bulkStreak = 4
	// So many reads through a pipe that are not long end it.
	endStreak = 4
)

// hold keeps what the other side has not taken.
func (s *side) hold(l *epollLoop, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	s.held, s.heldSent = l.getBuffer(n)[:0], 0
	for _, p := range parts {
		s.held = append(s.held, p...)
	}
}

// drop gives back what hold and splice have taken.
func (s *side) releaseBuffers(l *epollLoop) {
	if s.held != nil {
		l.putBuffer(s.held)
		s.held = nil
	}
	if s.pipe != nil {
		l.putPipe(s.pipe)
		s.pipe = nil
	}
}

// pump moves what can be moved, both ways.
func (ec *epollConn) copyBoth() {
	more := false
	for i := range ec.side {
		if ec.phase != PhaseRelay {
			return
		}
		if ec.copyFrom(i) {
			more = true
		}
	}
	if ec.phase != PhaseRelay {
		return
	}
	c, b := &ec.side[clientSide], &ec.side[backendSide]
	switch {
	case c.failed && c.eof || b.failed && b.eof && c.eof:
		ec.finishFirstFailure(0, nil)
	case c.eof && b.eof && c.empty() && b.empty():
		ec.finish(ec.firstEnd, nil)
	case more:
		ec.requeue()
	}
}

// again gives the epollConn another turn, after those of others.
func (ec *epollConn) requeue() {
	if !ec.queued {
		ec.queued = true
		ec.loop.queue = append(ec.loop.queue, ec)
	}
}

func (s *side) empty() bool { return s.held == nil && s.pipe == nil }

// move moves bytes from side i to the other until one of them has to be waited for, then
// returns false, or the turn is over, then true.
func (ec *epollConn) copyFrom(i int) bool {
	from, to := &ec.side[i], &ec.side[1-i]
	if to.failed && i == clientSide {
		return ec.discard()
	}
	for moved := 0; moved < quantum && !to.failed; {
		n, ok := ec.flush(from, to, Party(i+1))
		moved += n
		if !ok {
			return false
		}
		if from.eof {
			ec.shutdownPeer(from, to, Party(i+1))
			return false
		}
		if !from.readable || !to.writable {
			return false
		}
		if from.longReads >= bulkStreak && ec.spliceIn(from, Party(i+1)) {
			continue
		}
		n, ok = ec.copyOnce(from, to, Party(i+1))
		moved += n
		if !ok {
			return false
		}
	}
	return !to.failed
}

// copy reads into the loop's buffer and writes from there. What is not taken is held.
func (ec *epollConn) copyOnce(from, to *side, by Party) (n int, ok bool) {
	l := ec.loop
	n, e := sysRead(from.fd, l.scratch)
	switch {
	case e == unix.EAGAIN:
		from.readable = false
		return 0, true
	case e != noError:
		ec.readFailed(by, e)
		return 0, false
	case n == 0:
		from.eof = true
		return 0, true
	}
	if n < len(l.scratch) && !from.peerEnded {
		from.readable = false
	}
	switch {
	case n == len(l.scratch):
		from.longReads = bulkStreak
	case n >= longRead:
		from.longReads = min(from.longReads+1, bulkStreak)
	default:
		from.longReads = 0
	}
	m, ok := ec.write(from, to, l.scratch[:n], 3-by)
	ec.countDelivered(from, m)
	if ok && m < n {
		from.hold(l, l.scratch[m:n])
	}
	return m, ok
}

// fill moves bytes of the source into a pipe. It returns false if copying has to do.
func (ec *epollConn) spliceIn(from *side, by Party) bool {
	if from.noSplice {
		return false
	}
	l := ec.loop
	p := l.getPipe()
	if p == nil {
		return false
	}
	n, e := sysSplice(from.fd, p.w, p.size)
	if n > 0 {
		p.n, from.pipe = n, p
		if n >= longRead {
			from.longReads = bulkStreak + endStreak
		} else {
			from.longReads--
		}
		return true
	}
	l.putPipe(p)
	switch e {
	case noError:
		from.eof = true
	case unix.EAGAIN:
		from.readable = false
	case unix.EINVAL, unix.ENOSYS, unix.EPERM: // the last is how sandboxes say that there is no such call
		from.noSplice = true
		return false
	default:
		ec.readFailed(by, e)
	}
	return true
}

// broken ends a epollConn of which one side cannot be read any more. The other learns it in the
// same way, by RST.
func (ec *epollConn) readFailed(by Party, e errno) {
	ec.reset = true
	ec.finishFirstFailure(by, readError(by, e))
}

// refused takes note that a side takes no more. What it has sent before may still be on its
// way to the other: a server may answer and close before it has read all of a request.
// What is left of that is there already, so that the wait for it is short. Until then, and
// until the client has had time to take it, what the client sends is read and forgotten. A
// client that takes no more has no such claim: what its backend sends stays unread.
func (ec *epollConn) writeFailed(from, to *side, party Party, e errno) {
	to.failed = true
	from.releaseBuffers(ec.loop)
	if ec.closing == nil {
		ec.closing = &closing{}
	}
	if ec.closing.failure == nil {
		ec.closing.failedBy, ec.closing.failure = party, writeError(party, e)
	}
	to.readable = true
	ec.idle, ec.keepAliveSet = lingerTimeout, true
	ec.movedAt = ec.loop.now // nothing may have moved for longer than that
	ec.setTimer()
	if from.failed {
		ec.reset = true
		ec.finishFirstFailure(0, nil)
		return
	}
	ec.requeue()
}

// finishFailed finishes with the failure that came first, if there was one, else as given.
func (ec *epollConn) finishFirstFailure(by Party, err error) {
	if e := ec.closing; e != nil && e.failure != nil {
		by, err = e.failedBy, e.failure
	}
	ec.finish(by, err)
}

// flush moves what is held, or in the pipe, to the other side. It returns false if there is
// some left.
func (ec *epollConn) flush(from, to *side, by Party) (moved int, ok bool) {
	if from.empty() {
		return 0, true
	}
	if !to.writable {
		return 0, false
	}
	if from.held != nil {
		n, ok := ec.write(from, to, from.held[from.heldSent:], 3-by)
		ec.countDelivered(from, n)
		if from.heldSent += int32(n); !ok || int(from.heldSent) < len(from.held) {
			return n, false
		}
		from.releaseBuffers(ec.loop)
		return n, true
	}
	for from.pipe.n > 0 {
		ec.setNoDelay(to)
		n, e := sysSplice(from.pipe.r, to.fd, from.pipe.n)
		if e == unix.EAGAIN {
			ec.awaitWritable(to)
			return moved, false
		}
		if e != noError {
			ec.writeFailed(from, to, 3-by, e)
			return moved, false
		}
		from.pipe.n -= n
		moved += n
		ec.countDelivered(from, n)
	}
	ec.loop.putPipe(from.pipe)
	from.pipe = nil
	return moved, true
}

// write writes what the socket takes. It returns false if it takes nothing any more.
func (ec *epollConn) write(from, to *side, b []byte, party Party) (int, bool) {
	ec.setNoDelay(to)
	n, e := sysWrite(to.fd, b)
	if e != noError && e != unix.EAGAIN {
		ec.writeFailed(from, to, party, e)
		return 0, false
	}
	if n < len(b) {
		ec.awaitWritable(to)
	}
	return n, true
}

// beforeWrite turns Nagle's algorithm off where it could begin to have an effect, which is
// with the second write: a connection with one request does not pay for it.
func (ec *epollConn) setNoDelay(to *side) {
	if to.noDelay {
		return
	}
	if to.wrote {
		sysSetsockopt(to.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		to.noDelay = true
	}
	to.wrote = true
}

// blocked waits for EPOLLOUT, for which few sockets ever have to be registered.
func (ec *epollConn) awaitWritable(to *side) {
	to.writable = false
	if !to.registered || to.wantsOut {
		return
	}
	to.wantsOut = true
	l := ec.loop
	i := clientSide
	if to == &ec.side[backendSide] {
		i = backendSide
	}
	sysEpollCtl(l.ep, unix.EPOLL_CTL_MOD, to.fd, interest|unix.EPOLLOUT, ec.token<<1|int32(i), l.entries[ec.token].gen)
}

// took counts.
func (ec *epollConn) countDelivered(from *side, n int) {
	if n > 0 {
		from.delivered += int64(n)
		ec.movedAt = ec.loop.now
	}
}

// passEnd ends the direction to the other side, once all before the end was taken. If the
// other has ended as well, closing says so to both.
func (ec *epollConn) shutdownPeer(from, to *side, by Party) {
	if ec.firstEnd == 0 {
		ec.firstEnd = by
	}
	if to.shutdown {
		return
	}
	to.shutdown = true
	ec.movedAt = ec.loop.now
	if !to.eof {
		sysShutdown(to.fd)
	}
}
