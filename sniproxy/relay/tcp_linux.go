package relay

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// unsentBytes returns the number n of bytes in the send queue of c that the peer has not
// acknowledged. A FIN that is not acknowledged counts as one byte. The result "known" is false, and
// n has no meaning, if c is neither a TCP connection nor TLS over a TCP connection.
func unsentBytes(c net.Conn) (n int, known bool) {
	err := controlTCP(c, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n, err == nil
}

// discardUnread reads and drops the bytes in the receive queue of c. If c is neither a TCP
// connection nor TLS over a TCP connection, discardUnread does nothing.
func discardUnread(c net.Conn) {
	buf := getBuffer()
	defer putBuffer(buf)
	_ = controlTCP(c, func(fd int) error { // ignore errors, because the caller closes c next
		for range maxUnread / largeBuffer {
			if n, _, err := unix.Recvfrom(fd, *buf, unix.MSG_DONTWAIT); n <= 0 || err != nil {
				return err
			}
		}
		return nil
	})
}

var errNotTCP = errors.New("not TCP")

// controlTCP calls f with the descriptor of a TCP connection, or of the TCP connection below TLS.
func controlTCP(c net.Conn, f func(fd int) error) error {
	tcp, ok := tcpConn(c)
	if !ok {
		return errNotTCP
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
