//go:build amd64 || arm64

package relay

import "golang.org/x/sys/unix"

// side is one of the two sockets of an epollConn. It also holds the bytes that were read from this
// socket and that the other socket has not accepted yet.
type side struct {
	fd int32 // -1 means none

	// The loop registers the socket with epoll once, edge-triggered. An event sets readable or
	// writable. EAGAIN or a short read clears readable, and EAGAIN or a short write clears
	// writable.
	readable, writable bool
	registered         bool
	wantsOut           bool // the socket is registered for EPOLLOUT
	readOn             bool // read again after a short read: the end, or bytes after urgent data, may follow
	finArrived         bool // FIN has arrived, and neither an error nor urgent data: a short read reaches the end
	eof                bool // a read has reached the end or returned an error
	shutdown           bool // the loop has sent FIN on this socket, because the other side has ended
	wrote              bool // bytes were written to the socket
	noDelay            bool // TCP_NODELAY is set
	failed             bool // a read or a write has failed: the socket accepts no more bytes
	noSplice           bool // splice(2) does not work with this socket

	longReads int8   // counts long reads in a row, up to bulkStreak; more with a pipe
	heldSent  int32  // how many bytes of held the other side has accepted
	held      []byte // bytes from this socket that the other side has not accepted
	pipe      *pipe  // like held, but the bytes are in a pipe
	delivered int64  // the number of all bytes that the other side has accepted
}

const (
	// A read of at least longRead bytes counts as long. After bulkStreak long reads in a row, or
	// one read that fills the buffer of the loop, the connection uses splice(2), which is faster
	// for bulk data.
	longRead   = 16 << 10
	bulkStreak = 4
	// If endStreak splices in a row have moved less than longRead bytes each, the connection copies
	// through the buffer again.
	endStreak = 4
)

// The method "hold" stores bytes that the other side did not accept.
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

// releaseBuffers gives the buffer and the pipe of the side back to the loop, for other connections.
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

func (s *side) empty() bool { return s.held == nil && s.pipe == nil }

// copyBoth copies in both directions until both directions have to wait for an event.
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
	case c.failed && b.failed:
		ec.finishBothFailed()
	case (c.failed || b.failed) && ec.settled():
		ec.finishFirstFailure(0, nil)
	case c.eof && b.eof && c.empty() && b.empty():
		ec.finish(ec.firstEnd, nil)
	case more:
		ec.requeue()
	}
}

// requeue makes the loop serve this connection again, but only after the other connections that
// have events.
func (ec *epollConn) requeue() {
	if !ec.queued {
		ec.queued = true
		ec.loop.queue = append(ec.loop.queue, ec)
	}
}

// copyFrom copies from side i to the other side. It returns false if it has to wait for an epoll
// event. It returns true if it stopped because it has moved as many bytes as the constant "quantum"
// allows.
func (ec *epollConn) copyFrom(i int) (more bool) {
	from, to := &ec.side[i], &ec.side[1-i]
	src := Party(i + 1)
	if to.failed {
		return ec.discard(i)
	}
	for moved := 0; moved < quantum && !to.failed; {
		n, ok := ec.flush(from, to, src)
		moved += n
		if !ok {
			return false
		}
		if from.eof {
			ec.shutdownPeer(from, to, src)
			return false
		}
		if !from.readable || !to.writable {
			return false
		}
		if from.longReads >= bulkStreak && ec.spliceIn(from, src) {
			continue
		}
		n, ok = ec.copyOnce(from, to, src)
		moved += n
		if !ok {
			return false
		}
	}
	return !to.failed
}

// copyOnce reads once from the side "from", writes the bytes to the side "to", and stores the rest
// in from.held. n is the number of bytes written. ok is false if the write has failed, or if a
// failed read has ended the connection. If a read fails and the connection does not end, copyOnce
// sets from.eof.
func (ec *epollConn) copyOnce(from, to *side, src Party) (n int, ok bool) {
	l := ec.loop
	n, e := sysRead(from.fd, l.scratch)
	switch {
	case e == unix.EAGAIN:
		from.readable = false
		return 0, true
	case e != noError:
		from.eof = true
		ec.sideFailed(int(src-1), readError(src, e))
		return 0, ec.phase == PhaseRelay
	case n == 0:
		from.eof = true
		return 0, true
	}
	if n < len(l.scratch) {
		from.eof = from.finArrived
		from.readable = from.readOn
	}
	switch {
	case n == len(l.scratch):
		from.longReads = bulkStreak
	case n >= longRead:
		from.longReads = min(from.longReads+1, bulkStreak)
	default:
		from.longReads = 0
	}
	m, ok := ec.write(to, l.scratch[:n], other(src), from.finFollows(to))
	ec.countDelivered(from, m)
	if ok && m < n {
		from.hold(l, l.scratch[m:n])
	}
	return m, ok
}

func other(p Party) Party {
	if p == ByClient {
		return ByBackend
	}
	return ByClient
}

// spliceIn moves bytes from the socket into a pipe. It returns false if splice(2) is not possible
// now. In this case, the caller must copy through the buffer.
func (ec *epollConn) spliceIn(from *side, src Party) bool {
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
	case unix.EINVAL, unix.ENOSYS, unix.EPERM: // EPERM comes from sandboxes that forbid the system call
		from.noSplice = true
		return false
	default:
		from.eof = true
		ec.sideFailed(int(src-1), readError(src, e))
	}
	return true
}

// sideFailed handles an error of the socket of side i. If the other side has failed before, the
// connection ends. Otherwise the loop still writes the bytes that the kernel received on side i to
// the other side, and drops the bytes that the other side sends. "settled" decides when the
// connection ends.
func (ec *epollConn) sideFailed(i int, err error) {
	s, other := &ec.side[i], &ec.side[1-i]
	s.failed, s.readable = true, true
	other.releaseBuffers(ec.loop)
	if c := ec.ensureClosing(); c.failure == nil {
		c.failedBy, c.failure = Party(i+1), err
	}
	if other.failed {
		ec.finishBothFailed()
		return
	}
	ec.reset = i == clientSide
	ec.keepAliveSet = true
	ec.movedAt.Store(ec.loop.now) // because the last byte may have moved longer ago than lingerTimeout
	ec.setTimer()
	ec.requeue()
}

// The method "settled" reports whether the connection can end after one of the two sides has
// failed.
//
// After a failure of the client, the backend must have acknowledged all bytes, because it then gets
// a RST, which destroys all other bytes.
//
// After a failure of the backend, the client must get all bytes and FIN. Then the client has time
// to read, until it ends its direction, or until lingerTimeout after its last acknowledgement.
func (ec *epollConn) settled() bool {
	c, b := &ec.side[clientSide], &ec.side[backendSide]
	if c.failed {
		return c.eof && sysUnsent(b.fd) == 0
	}
	return b.eof && (c.eof || ec.loop.now >= ec.movedAt.Load()+int64(lingerTimeout) && sysUnsent(c.fd) == 0)
}

// finishFirstFailure ends the connection. If a side has failed before, the Result names this side
// and its error. Otherwise the Result has the arguments "by" and "err".
func (ec *epollConn) finishFirstFailure(by Party, err error) {
	if c := ec.closing; c != nil && c.failure != nil {
		by, err = c.failedBy, c.failure
	}
	ec.finish(by, err)
}

// finishBothFailed ends a connection when neither side accepts bytes any more.
func (ec *epollConn) finishBothFailed() {
	ec.reset = true
	ec.finishFirstFailure(0, nil)
}

// flush writes the bytes in from.held or from.pipe to the other side. The result "moved" is the
// number of bytes written. The result "ok" is false if some bytes are left.
func (ec *epollConn) flush(from, to *side, src Party) (moved int, ok bool) {
	if from.empty() {
		return 0, true
	}
	if !to.writable {
		return 0, false
	}
	if from.held != nil {
		n, ok := ec.write(to, from.held[from.heldSent:], other(src), from.finFollows(to))
		ec.countDelivered(from, n)
		if from.heldSent += int32(n); !ok || int(from.heldSent) < len(from.held) {
			return n, false
		}
		from.releaseBuffers(ec.loop)
		return n, true
	}
	for from.pipe.n > 0 {
		ec.beforeWrite(to)
		n, e := sysSplice(from.pipe.r, to.fd, from.pipe.n)
		if e == unix.EAGAIN {
			ec.awaitWritable(to)
			return moved, false
		}
		if e != noError {
			ec.sideFailed(int(2-src), writeError(other(src), e))
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

// write writes as many bytes of b as the socket accepts. The result "n" is the number of bytes
// written, which may be 0. The result "ok" is false if the write has failed.
//
// If finFollows is true, the caller sends FIN right after the last byte of b. So the kernel waits
// for FIN (MSG_MORE), and sends the end of b and FIN in one segment.
func (ec *epollConn) write(to *side, b []byte, dst Party, finFollows bool) (n int, ok bool) {
	ec.beforeWrite(to)
	flags := 0
	if finFollows {
		flags = unix.MSG_MORE
	}
	n, e := sysSend(to.fd, b, flags)
	if e != noError && e != unix.EAGAIN {
		ec.sideFailed(int(dst-1), writeError(dst, e))
		return 0, false
	}
	if n < len(b) {
		ec.awaitWritable(to)
	}
	return n, true
}

// beforeWrite turns Nagle's algorithm off before the second write to a socket. The algorithm never
// delays the first write. So a connection with only one write to the backend does not need this
// system call.
func (ec *epollConn) beforeWrite(to *side) {
	if to.noDelay {
		return
	}
	if to.wrote {
		sysSetsockopt(to.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		to.noDelay = true
	}
	to.wrote = true
}

// awaitWritable marks the socket as not writable and registers it for EPOLLOUT. The loop does not
// register sockets for EPOLLOUT from the start, because few sockets need this event.
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

func (ec *epollConn) countDelivered(from *side, n int) {
	if n > 0 {
		from.delivered += int64(n)
		ec.movedAt.Store(ec.loop.now)
	}
}

// finFollows reports whether shutdownPeer will send FIN to the side "to" as soon as it has all bytes
// of the side s.
func (s *side) finFollows(to *side) bool { return s.eof && !s.failed && !to.eof }

// shutdownPeer runs when no more bytes from one side can follow. It sends FIN to the other side,
// except in two cases. If the other side has already sent FIN, the loop closes both sockets. If the
// client has failed, the backend gets a RST later.
func (ec *epollConn) shutdownPeer(from, to *side, src Party) {
	if ec.firstEnd == 0 {
		ec.firstEnd = src
	}
	if to.shutdown || from.failed && src == ByClient {
		return
	}
	to.shutdown = true
	ec.movedAt.Store(ec.loop.now)
	if !to.eof {
		sysShutdown(to.fd)
		ec.setTimer() // because HalfCloseTimeout now applies
	}
}
