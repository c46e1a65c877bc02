package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentBytes returns how many bytes in the send queue of a socket the peer has not acknowledged. An
// end that was sent counts as one byte. known is false if c is not a TCP connection, or TLS over a
// TCP connection.
func unsentBytes(c net.Conn) (n int, known bool) {
	if outer, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = outer.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, err == nil && cerr == nil
}
