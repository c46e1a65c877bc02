//go:build amd64 || arm64

package relay

import (
	"golang.org/x/sys/unix"
)

// side is one of the two sockets of a flow, and what came from it and is on its way to the
// other.
type side struct {
	fd int32 // -1 is none

	// What is known of the socket. It is registered once, edge-triggered: readable and
	// writable hold from the event that says so to the EAGAIN, or the short read, that
	// says otherwise.
	readable, writable bool
	registered         bool
	wantsOut           bool // registered for EPOLLOUT too
	ending             bool // EPOLLRDHUP was seen: a short read does not mean that there is no more
	eof                bool // its end was read
	shut               bool // its peer's end was passed on to it
	wrote, noDelay     bool

	failed   bool // writing to it has failed
	noSplice bool // it is not a socket that can

	streak int8   // grows with long reads; from bulkStreak on it is bulk
	at     int32  // how much of held the other has taken
	held   []byte // read from it, not yet written to the other
	pipe   *pipe  // likewise, in the kernel
	taken  int64  // bytes of it that the other has taken
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
func (s *side) hold(l *loop, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	s.held, s.at = l.takeBuffer(n)[:0], 0
	for _, p := range parts {
		s.held = append(s.held, p...)
	}
}

// drop gives back what hold and splice have taken.
func (s *side) drop(l *loop) {
	if s.held != nil {
		l.giveBuffer(s.held)
		s.held = nil
	}
	if s.pipe != nil {
		l.givePipe(s.pipe)
		s.pipe = nil
	}
}

// pump moves what can be moved, both ways.
func (f *flow) pump() {
	more := false
	for i := range f.side {
		if f.phase != PhaseRelay {
			return
		}
		if f.move(i) {
			more = true
		}
	}
	if f.phase != PhaseRelay {
		return
	}
	c, b := &f.side[clientSide], &f.side[backendSide]
	switch {
	case c.failed && c.eof || b.failed && b.eof && c.eof:
		f.finishFailed(0, nil)
	case c.eof && b.eof && c.empty() && b.empty():
		f.finish(f.first, nil)
	case more:
		f.again()
	}
}

// again gives the flow another turn, after those of others.
func (f *flow) again() {
	if !f.busy {
		f.busy = true
		f.loop.busy = append(f.loop.busy, f)
	}
}

func (s *side) empty() bool { return s.held == nil && s.pipe == nil }

// move moves bytes from side i to the other until one of them has to be waited for, then
// returns false, or the turn is over, then true.
func (f *flow) move(i int) bool {
	from, to := &f.side[i], &f.side[1-i]
	if to.failed && i == clientSide {
		return f.discard()
	}
	for moved := 0; moved < turn && !to.failed; {
		n, ok := f.flush(from, to, Party(i+1))
		moved += n
		if !ok {
			return false
		}
		if from.eof {
			f.passEnd(from, to, Party(i+1))
			return false
		}
		if !from.readable || !to.writable {
			return false
		}
		if from.streak >= bulkStreak && f.fill(from, Party(i+1)) {
			continue
		}
		n, ok = f.copy(from, to, Party(i+1))
		moved += n
		if !ok {
			return false
		}
	}
	return !to.failed
}

// copy reads into the loop's buffer and writes from there. What is not taken is held.
func (f *flow) copy(from, to *side, by Party) (n int, ok bool) {
	l := f.loop
	n, e := sysRead(from.fd, l.scratch)
	switch {
	case e == unix.EAGAIN:
		from.readable = false
		return 0, true
	case e != noError:
		f.broken(by, e)
		return 0, false
	case n == 0:
		from.eof = true
		return 0, true
	}
	if n < len(l.scratch) && !from.ending {
		from.readable = false
	}
	switch {
	case n == len(l.scratch):
		from.streak = bulkStreak
	case n >= longRead:
		from.streak = min(from.streak+1, bulkStreak)
	default:
		from.streak = 0
	}
	m, ok := f.write(from, to, l.scratch[:n], 3-by)
	f.took(from, m)
	if ok && m < n {
		from.hold(l, l.scratch[m:n])
	}
	return m, ok
}

// fill moves bytes of the source into a pipe. It returns false if copying has to do.
func (f *flow) fill(from *side, by Party) bool {
	if from.noSplice {
		return false
	}
	l := f.loop
	p := l.takePipe()
	if p == nil {
		return false
	}
	n, e := sysSplice(from.fd, p.w, p.size)
	if n > 0 {
		p.n, from.pipe = n, p
		if n >= longRead {
			from.streak = bulkStreak + endStreak
		} else {
			from.streak--
		}
		return true
	}
	l.givePipe(p)
	switch e {
	case noError:
		from.eof = true
	case unix.EAGAIN:
		from.readable = false
	case unix.EINVAL, unix.ENOSYS, unix.EPERM: // the last is how sandboxes say that there is no such call
		from.noSplice = true
		return false
	default:
		f.broken(by, e)
	}
	return true
}

// broken ends a flow of which one side cannot be read any more. The other learns it in the
// same way, by RST.
func (f *flow) broken(by Party, e errno) {
	f.reset = true
	f.finishFailed(by, readError(by, e))
}

// refused takes note that a side takes no more. What it has sent before may still be on its
// way to the other: a server may answer and close before it has read all of a request.
// What is left of that is there already, so that the wait for it is short. Until then, and
// until the client has had time to take it, what the client sends is read and forgotten. A
// client that takes no more has no such claim: what its backend sends stays unread.
func (f *flow) refused(from, to *side, party Party, e errno) {
	to.failed = true
	from.drop(f.loop)
	if f.ending == nil {
		f.ending = &ending{}
	}
	if f.ending.failure == nil {
		f.ending.failedBy, f.ending.failure = party, writeError(party, e)
	}
	to.readable = true
	f.idle, f.kept = lingerTimeout, true
	f.moved = f.loop.now // nothing may have moved for longer than that
	f.schedule()
	if from.failed {
		f.reset = true
		f.finishFailed(0, nil)
		return
	}
	f.again()
}

// finishFailed finishes with the failure that came first, if there was one, else as given.
func (f *flow) finishFailed(by Party, err error) {
	if e := f.ending; e != nil && e.failure != nil {
		by, err = e.failedBy, e.failure
	}
	f.finish(by, err)
}

// flush moves what is held, or in the pipe, to the other side. It returns false if there is
// some left.
func (f *flow) flush(from, to *side, by Party) (moved int, ok bool) {
	if from.empty() {
		return 0, true
	}
	if !to.writable {
		return 0, false
	}
	if from.held != nil {
		n, ok := f.write(from, to, from.held[from.at:], 3-by)
		f.took(from, n)
		if from.at += int32(n); !ok || int(from.at) < len(from.held) {
			return n, false
		}
		from.drop(f.loop)
		return n, true
	}
	for from.pipe.n > 0 {
		f.beforeWrite(to)
		n, e := sysSplice(from.pipe.r, to.fd, from.pipe.n)
		if e == unix.EAGAIN {
			f.blocked(to)
			return moved, false
		}
		if e != noError {
			f.refused(from, to, 3-by, e)
			return moved, false
		}
		from.pipe.n -= n
		moved += n
		f.took(from, n)
	}
	f.loop.givePipe(from.pipe)
	from.pipe = nil
	return moved, true
}

// write writes what the socket takes. It returns false if it takes nothing any more.
func (f *flow) write(from, to *side, b []byte, party Party) (int, bool) {
	f.beforeWrite(to)
	n, e := sysWrite(to.fd, b)
	if e != noError && e != unix.EAGAIN {
		f.refused(from, to, party, e)
		return 0, false
	}
	if n < len(b) {
		f.blocked(to)
	}
	return n, true
}

// beforeWrite turns Nagle's algorithm off where it could begin to have an effect, which is
// with the second write: a connection with one request does not pay for it.
func (f *flow) beforeWrite(to *side) {
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
func (f *flow) blocked(to *side) {
	to.writable = false
	if !to.registered || to.wantsOut {
		return
	}
	to.wantsOut = true
	l := f.loop
	i := clientSide
	if to == &f.side[backendSide] {
		i = backendSide
	}
	sysEpollCtl(l.ep, unix.EPOLL_CTL_MOD, to.fd, interest|unix.EPOLLOUT, f.token<<1|int32(i), l.entries[f.token].gen)
}

// took counts.
func (f *flow) took(from *side, n int) {
	if n > 0 {
		from.taken += int64(n)
		f.moved = f.loop.now
	}
}

// passEnd ends the direction to the other side, once all before the end was taken. If the
// other has ended as well, closing says so to both.
func (f *flow) passEnd(from, to *side, by Party) {
	if f.first == 0 {
		f.first = by
	}
	if to.shut {
		return
	}
	to.shut = true
	f.moved = f.loop.now
	if !to.eof {
		sysShutdown(to.fd)
	}
}
