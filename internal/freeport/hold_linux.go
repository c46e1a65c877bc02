package freeport

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Hold returns a port that nobody has, 0 being any, on an IPv4 address, "" being all
// of them. Until release is called nobody else gets it who asks for any port, or who
// holds it in the same way; but a program that names it and sets SO_REUSEADDR, as
// servers do, can listen on it.
//
// The port is bound and not listened on. Linux lets sockets share an address while
// both have SO_REUSEADDR and neither listens, and then one of them listen. The option
// is set only after the bind, so that the bind itself finds everybody else.
func Hold(host string, port int) (held int, release func(), err error) {
	addr := unix.SockaddrInet4{Port: port}
	if host != "" {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is4() {
			return 0, nil, fmt.Errorf("freeport: %q is no IPv4 address", host)
		}
		addr.Addr = ip.As4()
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("freeport: socket: %w", err)
	}
	release = func() { _ = unix.Close(fd) }
	held, err = bind(fd, &addr)
	if err != nil {
		release()
		return 0, nil, fmt.Errorf("freeport: port %d of %q: %w", port, host, err)
	}
	return held, release, nil
}

func bind(fd int, addr *unix.SockaddrInet4) (int, error) {
	if err := unix.Bind(fd, addr); err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return bound.(*unix.SockaddrInet4).Port, nil // the family that was bound
}
