//go:build amd64 || arm64

package relay

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/internal/netserve"
)

// acceptor is one listener of an event loop, which calls accept4(2) itself. After a failure, it
// does the same as netserve.Loop: if the process has no free descriptor, it accepts one connection
// with its spare descriptor. After another error, it pauses.
type acceptor struct {
	loop       *epollLoop
	fd         int32 // -1 after a call of the method close
	newSession func(Conn) Session
	done       chan error // receives the result of Serve
	index      int        // the index of this acceptor in epollLoop.acceptors; -1 before a call of the method open
	spare      netserve.Spare
	backoff    netserve.Backoff
	pause      timer // while this timer is set, the acceptor does not accept
	batch      int   // the most connections to accept in one round
	round      int64 // the last round of the loop in which the acceptor accepted a full batch
	drained    bool  // the backlog was empty once, so all further sockets inherit the listener's options
	exhausted  bool  // the last accept found no free descriptor
}

// maxAccepts bounds how many connections an acceptor accepts before the loop serves the existing
// connections.
const maxAccepts = 32

// open registers the listener with epoll. The registration is level-triggered: if the acceptor does
// not empty the backlog, the next poll reports the listener again.
func (a *acceptor) open() {
	if a.fd < 0 {
		return // the method close ran before the method open
	}
	l := a.loop
	a.index, a.batch = len(l.acceptors), maxAccepts
	l.acceptors = append(l.acceptors, a)
	a.spare.Fill()
	if e := a.control(unix.EPOLL_CTL_ADD, unix.EPOLLIN); e != noError {
		a.close(fmt.Errorf("relay: listening: %w", e))
	}
}

func (a *acceptor) control(op int, events uint32) errno {
	return sysEpollCtl(a.loop.ep, op, a.fd, events, acceptorToken-int32(a.index), 0)
}

// close makes Serve return err. Only the first call has an effect.
func (a *acceptor) close(err error) {
	if a.fd < 0 {
		return
	}
	l := a.loop
	if a.index >= 0 {
		// Closing the descriptor ends the registration only if no other descriptor of this socket
		// is open (epoll(7)). systemd and a new instance of the program may have a descriptor of
		// this socket. The registration would then report each of their clients to this loop.
		a.control(unix.EPOLL_CTL_DEL, 0)
	}
	sysClose(a.fd)
	a.fd = -1
	if a.index >= 0 {
		a.spare.Close()
		l.timers.stop(&a.pause)
		l.acceptors[a.index] = nil
	}
	a.done <- err
}

// The method "accept" accepts up to a.batch connections. If the backlog is smaller, a.batch becomes
// the size of the backlog. After two full batches in a row, a.batch doubles. So the method seldom
// calls accept4(2) in vain (EAGAIN), and accepts many connections in each round when many arrive.
func (a *acceptor) accept() {
	a.spare.Fill() // before accept4(2) uses the descriptors that have become free
	for i := 0; i < a.batch; i++ {
		fd, remote, e := sysAccept(a.fd)
		switch e {
		case noError:
			a.backoff.Reset()
			a.exhausted = false
			a.start(fd, remote)
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

// start gives a new connection to the loop of this acceptor, or to a loop that has far less to do.
func (a *acceptor) start(fd int32, remote netip.AddrPort) {
	s := a.loop.engine.shared
	s.beginAccepted()
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

// acceptFailed handles a failed accept. If there is no free descriptor, the acceptor tries again in
// the next round, because Engine.AcceptError can close connections.
//
// If this fails too, the acceptor accepts one connection with the spare descriptor, so that the
// backlog does not keep the loop busy. It closes this connection, unless Engine.MakeRoom has closed
// another connection.
//
// After any other error, the acceptor pauses.
func (a *acceptor) acceptFailed(e errno) {
	a.loop.engine.shared.settings.acceptError(fmt.Errorf("relay: accept: %w", e))
	if a.fd < 0 {
		return
	}
	if netserve.IsOutOfDescriptors(e) && a.spare.Fill() {
		if !a.exhausted {
			a.exhausted = true
			return
		}
		a.exhausted = false
		a.spare.Close()
		switch fd, remote, e := sysAccept(a.fd); {
		case e != noError:
		case a.loop.engine.shared.settings.makeRoom(remote):
			a.start(fd, remote)
		default:
			// Count before the close, so that the connection is already counted when the client
			// notices the close.
			a.loop.engine.shared.shed.Add(1)
			sysClose(fd)
		}
		return
	}
	a.control(unix.EPOLL_CTL_MOD, 0)
	a.loop.timers.set(&a.pause, a.loop.now+int64(a.backoff.Next()))
}

// resume ends the pause.
func (a *acceptor) resume() { a.control(unix.EPOLL_CTL_MOD, unix.EPOLLIN) }
