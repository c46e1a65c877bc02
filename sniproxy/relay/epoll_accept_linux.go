//go:build amd64 || arm64

package relay

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// acceptor is one listener of a loop.
type acceptor struct {
	loop       *epollLoop
	fd         int32
	newSession func(Conn) Session
	done       chan error // what Serve returns
	index      int        // in loop.acceptors; -1 is not yet
	spare      int32      // a descriptor to give up when there are no others; -1 is none
	batch      int        // how many connections to try to accept in a round
	round      int64      // of the loop, in which it last accepted all of a batch
	drained    bool       // the backlog has been: what comes now has the listener's options
	pause      timer      // while it runs nothing is accepted
	backoff    int64      // its length
}

// maxAccepts bounds how many connections are accepted before those that exist have a turn.
const maxAccepts = 32

// open puts the listener into the loop, level-triggered: what is left in the backlog
// is told of again.
func (a *acceptor) open() {
	if a.fd < 0 {
		return // closed before it was open
	}
	l := a.loop
	a.index, a.batch, a.spare = len(l.acceptors), maxAccepts, -1
	l.acceptors = append(l.acceptors, a)
	a.refill()
	if e := a.control(unix.EPOLL_CTL_ADD, unix.EPOLLIN); e != noError {
		a.close(fmt.Errorf("relay: listening: %w", e))
	}
}

func (a *acceptor) control(op int, events uint32) errno {
	return sysEpollCtl(a.loop.ep, op, a.fd, events, acceptorToken-int32(a.index), 0)
}

// close ends Serve. Only the first call has an effect.
func (a *acceptor) close(err error) {
	if a.fd < 0 {
		return
	}
	l := a.loop
	sysClose(a.fd)
	a.fd = -1
	if a.index >= 0 {
		if a.spare >= 0 {
			sysClose(a.spare)
		}
		l.wheel.stop(&a.pause)
		l.acceptors[a.index] = nil
	}
	a.done <- err
}

// refill gets the spare descriptor, for which any kind is good.
func (a *acceptor) refill() {
	if a.spare < 0 {
		if fd, err := unix.FcntlInt(uintptr(a.loop.wake), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			a.spare = int32(fd)
		}
	}
}

// accept takes connections from the backlog: one where one comes at a time, more when they
// come faster, so that neither is a call wasted to learn that there is none nor a round for
// each.
func (a *acceptor) accept() {
	for i := 0; i < a.batch; i++ {
		fd, remote, e := sysAccept(a.fd)
		switch e {
		case noError:
			a.backoff = 0
			a.refill() // what was given up may have gone to a dial
			a.startConn(fd, remote)
			if a.fd < 0 {
				return
			}
		case unix.EAGAIN:
			a.batch, a.drained = max(i, 1), true
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			a.loop.pollAgain = true
			a.acceptFailed(e)
			return
		}
	}
	a.loop.pollAgain = true
	if a.round == a.loop.rounds-1 {
		a.batch = min(2*a.batch, maxAccepts)
	}
	a.round = a.loop.rounds
}

// took begins the epollConn of a new connection, in this loop or in one that has less to do.
func (a *acceptor) startConn(fd int32, remote netip.AddrPort) {
	s := a.loop.engine.shared
	if !s.begin() {
		sysClose(fd)
		return
	}
	s.accepted.Add(1)
	l := a.loop.engine.chooseLoop(a.loop)
	l.load.Add(1)
	if l == a.loop {
		newEpollConn(l, fd, remote).start(a.newSession, a.drained)
		return
	}
	inherits := a.drained
	l.post(func() { newEpollConn(l, fd, remote).start(a.newSession, inherits) })
}

// failed sheds a connection if descriptors have run out, so that its client may go
// elsewhere and the backlog does not keep the loop awake for nothing. Otherwise, and if
// that is not possible, it pauses.
func (a *acceptor) acceptFailed(e errno) {
	a.loop.engine.shared.settings.acceptError(fmt.Errorf("relay: accept: %w", e))
	if a.fd < 0 {
		return
	}
	if e == unix.EMFILE || e == unix.ENFILE {
		if a.refill(); a.spare >= 0 {
			sysClose(a.spare)
			a.spare = -1
			fd, _, e := sysAccept(a.fd)
			if e == noError {
				sysClose(fd)
				a.loop.engine.shared.shed.Add(1)
			}
			a.refill()
			return
		}
	}
	a.backoff = min(max(2*a.backoff, int64(minPause)), int64(maxPause))
	a.control(unix.EPOLL_CTL_MOD, 0)
	a.loop.wheel.set(&a.pause, a.loop.now+a.backoff)
}

// resume ends the pause.
func (a *acceptor) resume() { a.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN) }
