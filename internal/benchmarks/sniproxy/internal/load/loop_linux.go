package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStalled means that no byte has moved for Loop.Stall.
var ErrStalled = errors.New("load: no byte moved for too long")

// Loop runs clients and backends. One goroutine at a time may use it.
type Loop struct {
	// Stall is how long a phase goes on without progress: if no byte moves in this time, the phase
	// fails with ErrStalled. New sets Stall to 5 s.
	Stall time.Duration

	epoll    int
	files    []file // by descriptor
	backends []*listener
	events   [256]unix.EpollEvent
	buf      [256 << 10]byte
	hello    *Hello
	nextHost uint64
	progress uint64 // changes whenever a byte moves
	failure  error  // the first failure
	held     []*echoClient
	nextHeld int
	wait     int // time in ms after which the method run calls the function done, even without an event
}

// longestWait is the longest time, in ms, that the method "run" waits for events. When the context
// ends, run notices this within longestWait.
const longestWait = 100

// file is the owner of a descriptor in the loop, which calls ready when epoll reports an event.
// ready must tolerate a call without an event: a new file may have the number of a closed
// descriptor whose event arrives late.
type file interface{ ready(l *Loop) }

// New starts backends on free ports of 127.0.0.1. The clients of the Loop send a TLS hello with the
// argument "host" as the server name. For another server name, a client replaces the bytes of this
// name in the hello, so all names must be as long as host.
func New(backends int, host string) (*Loop, error) {
	hello, err := NewHello(host)
	if err != nil {
		return nil, err
	}
	l := &Loop{hello: hello, Stall: 5 * time.Second, wait: longestWait}
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

// Backends returns the addresses of the backends.
func (l *Loop) Backends() []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(l.backends))
	for _, b := range l.backends {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// HelloSize returns the size of a hello in bytes.
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

// run handles events until the function "done" returns true. It ends early after a failure, when no
// byte has moved for the duration Stall, and when ctx ends.
func (l *Loop) run(ctx context.Context, done func() bool) error {
	last, since := l.progress, time.Now()
	for !done() {
		n, err := unix.EpollWait(l.epoll, l.events[:], l.wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("load: epoll: %w", err)
		}
		for _, e := range l.events[:max(n, 0)] {
			if f := l.files[e.Fd]; f != nil {
				f.ready(l)
			}
		}
		switch {
		case l.progress != last:
			last, since = l.progress, time.Now()
		case time.Since(since) > l.Stall:
			return ErrStalled
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return l.failure
}

// Idle starts nothing. For the duration d, it only handles events, for example when a router closes
// connections.
func (l *Loop) Idle(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	defer func() { l.wait = longestWait }()
	return l.phase(ctx, func() bool {
		left := time.Until(end)
		l.wait = min(longestWait, int(left/time.Millisecond)+1)
		return left <= 0
	})
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

// close closes a descriptor. The kernel then also removes the descriptor from the epoll instance.
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

// again reports whether err is not a failure: the caller only has to repeat the system call later.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
