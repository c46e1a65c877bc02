package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStalled is what a phase ends with when no byte has moved for Stall.
var ErrStalled = errors.New("load: nothing moves any more")

// Stall is how long a phase waits for anything to happen.
const Stall = 5 * time.Second

// Loop runs clients and backends. One goroutine at a time may use it.
type Loop struct {
	epoll     int
	files     []file // by descriptor
	backends  []*listener
	events    [256]unix.EpollEvent
	buf       [256 << 10]byte
	progress  uint64 // changes whenever a byte moves
	failure   error  // the first one
	held      []*echoClient
	nextHeld  int
	nextHost  uint64
	hello     *Hello
	lastHello string
}

// file is what has a descriptor in the loop. Its ready may be called without need: an
// event of a closed descriptor may reach the file that has the same number now.
type file interface{ ready(l *Loop) }

// New starts backends on ports of their own at 127.0.0.1. Host names are all as long as
// the given one.
func New(backends int, host string) (*Loop, error) {
	hello, err := NewHello(host)
	if err != nil {
		return nil, err
	}
	l := &Loop{hello: hello}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("load: epoll: %w", err)
	}
	for id := range backends {
		b, err := listen(byte('0' + id))
		if err == nil {
			err = l.add(b.fd, b, unix.EPOLLIN)
		}
		if err != nil {
			l.Close()
			return nil, err
		}
		l.backends = append(l.backends, b)
	}
	return l, nil
}

// Backends are the addresses at which the backends listen.
func (l *Loop) Backends() []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(l.backends))
	for _, b := range l.backends {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// HelloSize is how long a hello is.
func (l *Loop) HelloSize() int { return l.hello.Len() }

// Reset closes every connection and leaves the backends listening.
func (l *Loop) Reset() {
	for fd, f := range l.files {
		if f == nil {
			continue
		}
		if _, ok := f.(*listener); !ok {
			l.close(fd)
		}
	}
	l.held, l.nextHeld, l.failure = nil, 0, nil
}

// Close closes everything.
func (l *Loop) Close() {
	for fd, f := range l.files {
		if f != nil {
			l.close(fd)
		}
	}
	if l.epoll >= 0 {
		_ = unix.Close(l.epoll)
		l.epoll = -1
	}
}

// run handles events until done says so. It ends early with the first failure, when
// nothing has moved for Stall, and when ctx ends.
func (l *Loop) run(ctx context.Context, done func() bool) error {
	last, since := l.progress, time.Now()
	for !done() {
		n, err := unix.EpollWait(l.epoll, l.events[:], 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("load: epoll: %w", err)
		}
		for _, e := range l.events[:max(n, 0)] {
			if f := l.files[e.Fd]; f != nil {
				f.ready(l)
			}
		}
		if l.failure != nil {
			return l.failure
		}
		if l.progress != last {
			last, since = l.progress, time.Now()
		} else if n <= 0 && time.Since(since) > Stall {
			return ErrStalled
		}
		if n < len(l.events) && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// Idle handles events for a while, such as closes of the router.
func (l *Loop) Idle(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	if err := l.run(ctx, func() bool { l.progress++; return !time.Now().Before(end) }); err != nil {
		return err
	}
	return nil
}

func (l *Loop) add(fd int, f file, events uint32) error {
	for len(l.files) <= fd {
		l.files = append(l.files, nil)
	}
	l.files[fd] = f
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("load: epoll: %w", err)
	}
	return nil
}

func (l *Loop) watch(fd int, events uint32) {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &e); err != nil {
		l.fail(fmt.Errorf("load: epoll: %w", err))
	}
}

// close forgets a descriptor; closing takes it out of the epoll.
func (l *Loop) close(fd int) {
	if fd < len(l.files) {
		l.files[fd] = nil
	}
	_ = unix.Close(fd)
}

func (l *Loop) fail(err error) {
	if l.failure == nil {
		l.failure = err
	}
}

// again tells an error that only says "not now" from a failure.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
