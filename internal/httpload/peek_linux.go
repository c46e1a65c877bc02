package httpload

import "golang.org/x/sys/unix"

// endOfInput reports whether the peer of a socket has closed its direction of the connection. It
// consumes no data.
func endOfInput(fd uintptr) bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
}
