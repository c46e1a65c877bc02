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
	// If n bytes are too few, the result is helloUnknown, and an echConn reads the rest. Do not wait
	// for more bytes here: the n bytes stay in the socket, so this goroutine would never notice that
	// the stream ends after them.
	return answerOf(b[:n]), nil
}
