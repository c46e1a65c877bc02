package load

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// listener accepts the connections of one backend.
type listener struct {
	fd   int
	id   byte
	addr netip.AddrPort
}

func listen(id byte) (*listener, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("load: backend: %w", err)
	}
	addr, err := bind(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("load: backend: %w", err)
	}
	return &listener{fd: fd, id: id, addr: addr}, nil
}

func bind(fd int) (netip.AddrPort, error) {
	loopback := [4]byte{127, 0, 0, 1}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		return netip.AddrPort{}, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return netip.AddrPort{}, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(sa.(*unix.SockaddrInet4).Port)), nil
}

func (b *listener) ready(l *Loop) {
	for {
		fd, _, err := unix.Accept4(b.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			if err := l.add(fd, &served{fd: fd, id: b.id}, unix.EPOLLIN); err != nil {
				l.fail(err)
			}
			l.progress++
		case errors.Is(err, unix.ECONNABORTED):
		case again(err):
			return
		default:
			l.fail(fmt.Errorf("load: backend accepts: %w", err))
			return
		}
	}
}

// served is the connection of a backend.
type served struct {
	fd      int
	id      byte
	want    want   // 0 until the hello is complete
	partial []byte // the part of the hello that has arrived
	left    int64  // bytes of bulk to send
}

func (s *served) ready(l *Loop) {
	if s.want == wantBulk {
		s.send(l)
		return
	}
	n, err := unix.Read(s.fd, l.buf[:64<<10])
	switch {
	case again(err):
		return
	case err != nil || n == 0: // the router has closed the connection
		l.close(s.fd)
		return
	}
	l.progress++
	if s.want == wantEcho {
		s.write(l, l.buf[:n])
		return
	}
	s.greet(l, l.buf[:n])
}

// greet collects bytes until the ClientHello is complete. Then it starts the action that the load
// generator has encoded in the hello.
func (s *served) greet(l *Loop, b []byte) {
	if s.partial != nil || helloSize(b) != len(b) {
		s.partial = append(s.partial, b...)
		b = s.partial
	}
	if size := helloSize(b); size == 0 || len(b) < size && size <= largestHello {
		return
	} else if size != len(b) || len(b) < randomAt+randomSize {
		l.fail(fmt.Errorf("load: the backend received %d bytes instead of a hello of %d", len(b), size))
		return
	}
	w, size, err := order(b)
	if err != nil {
		l.fail(err)
		return
	}
	s.want, s.left, s.partial = w, size, nil
	switch w {
	case wantEcho:
		s.write(l, []byte{s.id})
	case wantBulk:
		l.watch(s.fd, unix.EPOLLOUT)
	default:
		answer := l.buf[:AnswerSize]
		answer[0] = s.id
		s.write(l, answer)
		l.close(s.fd)
	}
}

// write writes b, which always fits into the socket buffer. A short write counts as a failure.
func (s *served) write(l *Loop, b []byte) {
	n, err := unix.Write(s.fd, b)
	switch {
	case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		l.close(s.fd)
	case err != nil || n != len(b):
		l.fail(fmt.Errorf("load: backend writes %d of %d bytes: %w", n, len(b), err))
	}
}

func (s *served) send(l *Loop) {
	n, err := unix.Write(s.fd, l.buf[:min(int64(len(l.buf)), s.left)])
	switch {
	case again(err):
		return
	case err != nil:
		l.fail(fmt.Errorf("load: backend sends: %w", err))
		return
	}
	l.progress++
	if s.left -= int64(n); s.left == 0 {
		l.close(s.fd)
	}
}
