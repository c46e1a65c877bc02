//go:build amd64 || arm64

package relay

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// epollEngine is the implementation with event loops. Each connection belongs to one loop.
type epollEngine struct {
	shared   *engineState
	base     time.Time // the zero of epollLoop.clock
	loops    []*epollLoop
	lastLoop atomic.Uint32 // the number of calls of nextLoop
	wg       sync.WaitGroup
	dials    sync.WaitGroup // running calls of Step.Dial
	once     sync.Once      // for the method "stop"
}

// newEpollEngine starts the event loops. It returns nil if the system cannot make the descriptors
// of a loop.
func newEpollEngine(s *engineState) *epollEngine {
	ee := &epollEngine{shared: s, base: time.Now()}
	for range s.settings.loops {
		l, err := newEpollLoop(ee)
		if err != nil {
			ee.stop()
			return nil
		}
		ee.loops = append(ee.loops, l)
		ee.wg.Go(l.run)
	}
	return ee
}

// stop ends the event loops and waits until their goroutines have returned. Call it only when no
// connection is open.
func (ee *epollEngine) stop() {
	ee.once.Do(func() {
		ee.dials.Wait() // the loops close the connections that these calls return
		for _, l := range ee.loops {
			l.post(func() { l.stopped = true })
		}
	})
	ee.wg.Wait()
}

func (ee *epollEngine) pipes() int64 {
	var n int64
	for _, l := range ee.loops {
		n += l.pipesMade.Load()
	}
	return n
}

// nextLoop returns the loops one after another, one at each call, and begins again after the last
// one.
func (ee *epollEngine) nextLoop() *epollLoop {
	return ee.loops[int(ee.lastLoop.Add(1))%len(ee.loops)]
}

// chooseLoop returns the loop for a connection that l has accepted. It prefers l, because a move to
// another loop costs a task and a wake-up. It returns another loop in two cases:
//
//   - l has at least 9 connections more than the other loop.
//   - l is busy, and the other loop is parked and has fewer connections.
func (ee *epollEngine) chooseLoop(l *epollLoop) *epollLoop {
	const farFewer, busyEvents = 8, 3
	least := l
	for _, other := range ee.loops {
		load, leastLoad := other.load.Load(), least.load.Load()
		if load+farFewer < leastLoad || l.lastEvents > busyEvents && load < leastLoad && other.parked.Load() {
			least = other
		}
	}
	return least
}

// serve moves the socket of a listener from Go's poller to a loop.
func (ee *epollEngine) serve(l *net.TCPListener, accept func(Conn) Session) error {
	fd, err := detach(l)
	l.Close()
	if err != nil {
		return err
	}
	// The sockets of later connections inherit TCP_NODELAY from the listener. This saves one system
	// call for each connection.
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	a := &acceptor{loop: ee.nextLoop(), fd: fd, newSession: accept, done: make(chan error, 1), index: -1}
	running := ee.shared.listen(func() { a.loop.post(func() { a.close(ErrClosed) }) })
	if running == nil {
		sysClose(fd)
		return ErrClosed
	}
	defer ee.shared.unlisten(running)
	a.loop.post(a.open)
	return <-a.done
}

// relay moves the sockets of the client and of the backend from Go's poller to a loop.
func (ee *epollEngine) relay(client, backend *net.TCPConn, prefix []byte, session Session) {
	remote := addrPort(client.RemoteAddr())
	c, err := detach(client)
	client.Close()
	b, err2 := detach(backend)
	backend.Close()
	if err = errors.Join(err, err2); err == nil && !ee.shared.begin() {
		err = ErrClosed
	}
	if err != nil {
		for _, fd := range []int32{c, b} {
			if fd >= 0 {
				sysClose(fd)
			}
		}
		session.Done(Result{By: ByEngine, Phase: PhaseRelay, Err: err})
		return
	}
	l := ee.nextLoop()
	l.load.Add(1)
	l.post(func() {
		ec := newEpollConn(l, c, remote)
		ec.session = session
		ec.startRelay(b, prefix)
	})
}

func (ee *epollEngine) closeWithin(d time.Duration) {
	for _, l := range ee.loops {
		l.post(func() {
			for _, e := range l.entries {
				switch ec := e.conn; {
				case ec == nil:
				case d <= 0:
					ec.finish(ByEngine, ErrClosed)
				default:
					if ec.closing == nil {
						ec.closing = &closing{}
					}
					ec.closing.closeAt = l.now + 1 + int64(rand.N(d))
					ec.setTimer()
				}
			}
		})
	}
}

// ping sends an event to each loop, and returns one channel for each loop. A loop closes its
// channel when it handles the event.
func (ee *epollEngine) ping() (answered []chan struct{}) {
	for _, l := range ee.loops {
		c := make(chan struct{})
		answered = append(answered, c)
		l.post(func() { close(c) })
	}
	return answered
}

// detach duplicates the descriptor of a connection or listener outside Go's poller. The caller must
// close c, so that the original leaves Go's poller too. After an error, the descriptor is -1.
func detach(c syscall.Conn) (int32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			fd = -1
			return
		}
		err = unix.SetNonblock(fd, true)
	}); cerr != nil {
		err = cerr
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	return int32(fd), err
}

// setKeepAlive makes TCP send a keep-alive probe when the peer has sent nothing for the time d, and
// again after each further d.
func setKeepAlive(fd int32, d time.Duration) {
	if d <= 0 {
		return
	}
	seconds := int(max((d+time.Second-1)/time.Second, 1))
	sysSetsockopt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds)
}

// zoneIndex returns the index of the network interface that an IPv6 zone names, or 0 for an unknown
// name.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}
