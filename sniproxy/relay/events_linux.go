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

// events is the implementation with event loops. Every flow belongs to one loop.
type events struct {
	shared *shared
	base   time.Time // of the loops' clocks
	loops  []*loop
	last   atomic.Uint32 // for taking loops in turn
	wg     sync.WaitGroup
	dials  sync.WaitGroup // every Step.Dial
	once   sync.Once      // of stop
}

// newEvents starts the loops; it returns nil where that is not possible.
func newEvents(s *shared) *events {
	ev := &events{shared: s, base: time.Now()}
	for range s.set.loops {
		l, err := newLoop(ev)
		if err != nil {
			ev.stop()
			return nil
		}
		ev.loops = append(ev.loops, l)
		ev.wg.Go(l.run)
	}
	return ev
}

// stop ends the loops, which have no flow any more, and waits for them.
func (ev *events) stop() {
	ev.once.Do(func() {
		ev.dials.Wait() // the loops have to close what they return
		for _, l := range ev.loops {
			l.post(func() { l.stopped = true })
		}
	})
	ev.wg.Wait()
}

func (ev *events) pipes() int64 {
	var n int64
	for _, l := range ev.loops {
		n += l.pipesMade.Load()
	}
	return n
}

// next is the loop whose turn it is.
func (ev *events) next() *loop {
	return ev.loops[int(ev.last.Add(1))%len(ev.loops)]
}

// spread returns l, or a loop with so much less to do that the way there is worth it: one
// that has far fewer connections, or no more of them and nothing to do while l has.
func (ev *events) spread(l *loop) *loop {
	const far, several = 8, 3
	least := l
	for _, other := range ev.loops {
		load, than := other.load.Load(), least.load.Load()
		if load+far < than || l.events > several && load < than && other.parked.Load() {
			least = other
		}
	}
	return least
}

// serve takes the listener's socket out of Go's poller and into that of a loop.
func (ev *events) serve(l *net.TCPListener, accept func(Conn) Session) error {
	fd, err := detach(l)
	l.Close()
	if err != nil {
		return err
	}
	// Sockets of connections that come from now on inherit it, which saves a call for each.
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	a := &acceptor{loop: ev.next(), fd: fd, make: accept, done: make(chan error, 1), index: -1}
	running := ev.shared.listen(func() { a.loop.post(func() { a.close(ErrClosed) }) })
	if running == nil {
		sysClose(fd)
		return ErrClosed
	}
	defer ev.shared.unlisten(running)
	a.loop.post(a.open)
	return <-a.done
}

// relay takes both connections out of Go's poller.
func (ev *events) relay(client, backend *net.TCPConn, prefix []byte, session Session) {
	remote := addrPort(client.RemoteAddr())
	c, err := detach(client)
	client.Close()
	b, err2 := detach(backend)
	backend.Close()
	if err = errors.Join(err, err2); err == nil && !ev.shared.begin() {
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
	l := ev.next()
	l.load.Add(1)
	l.post(func() {
		f := newFlow(l, c, remote)
		f.session = session
		f.adopt(b, prefix)
	})
}

func (ev *events) closeWithin(d time.Duration) {
	for _, l := range ev.loops {
		l.post(func() {
			for _, e := range l.entries {
				switch f := e.flow; {
				case f == nil:
				case d <= 0:
					f.finish(ByEngine, ErrClosed)
				default:
					if f.ending == nil {
						f.ending = &ending{}
					}
					f.ending.doom = l.now + 1 + int64(rand.N(d))
					f.schedule()
				}
			}
		})
	}
}

// detach makes a descriptor of a connection's or listener's socket that Go does not know
// of. It is -1 if that fails. Its owner then closes c, which takes the socket out of
// Go's poller.
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

// setKeepAlive makes TCP probe the peer after a silence of d.
func setKeepAlive(fd int32, d time.Duration) {
	if d <= 0 {
		return
	}
	seconds := int(max((d+time.Second-1)/time.Second, 1))
	sysSetsockopt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	sysSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds)
}

// zoneIndex is the index of the interface that an IPv6 zone names.
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
