package freeport

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Hold reserves a TCP port on an IPv4 address, and returns its number. The function "release" ends
// the reservation. Port 0 means any free port, and host "" all addresses. A port in use is an error.
//
// While Hold reserves the port, the kernel does not choose it for another program. A program that
// asks for this port by its number can listen on it, if it sets SO_REUSEADDR, as servers do. Hold
// sets SO_REUSEADDR only after the bind, so that the bind fails if another program uses the port.
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
	return bound.(*unix.SockaddrInet4).Port, nil // bound has the same type as addr
}
