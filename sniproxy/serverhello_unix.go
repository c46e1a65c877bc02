//go:build unix

package sniproxy

import (
	"net"
	"syscall"
)

// peekAnswer waits for the first bytes of a backend, and returns their kind. The bytes stay in the
// socket. If the backend ends its direction first, the result is helloOther.
func peekAnswer(c *net.TCPConn) (serverAnswer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return helloUnknown, err
	}
	var b [answerLen]byte
	var n int
	if werr := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	}); werr != nil {
		return helloUnknown, werr // the deadline
	}
	switch {
	case err != nil:
		return helloUnknown, err
	case n == 0:
		return helloOther, nil
	}
	// If these are too few bytes, do not wait for more: an end of the stream would not wake this
	// goroutine again, because the bytes before it stay in the socket. The result is then
	// helloUnknown, and an echConn reads on.
	return answerOf(b[:n]), nil
}
