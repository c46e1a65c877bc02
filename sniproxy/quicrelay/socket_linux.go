package quicrelay

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errFull means that the send buffer of a backend's socket is full.
var errFull error = unix.EAGAIN

// udpSocket is a socket that uses UDP_GRO and UDP_SEGMENT.
type udpSocket struct {
	conn      *net.UDPConn
	raw       syscall.RawConn
	connected bool
	noSegment atomic.Bool // the kernel cannot split bundles
}

// newSocket prepares a socket. On an error, the caller must close conn.
func newSocket(conn *net.UDPConn, connected bool) (socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) {
		// Kernels before 5.0 lack UDP_GRO: then each bundle has one datagram.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		// The kernel must not cut large datagrams into fragments: the endpoints send such datagrams to
		// find out how large a datagram may be (RFC 9000 section 14.3). One of the two calls fails,
		// depending on the family of the socket.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
	return &udpSocket{conn: conn, raw: raw, connected: connected}, err
}

// receive waits for a bundle. If the socket is connected, receive has no buffer while it waits.
func (s *udpSocket) receive() (*bundle, error) {
	if !s.connected {
		b := newBundle()
		n, oobn, _, from, err := s.conn.ReadMsgUDPAddrPort(b.buf[:], b.oob[:])
		if err != nil {
			b.release()
			return nil, err
		}
		b.n, b.from, b.size = n, from, segmentSize(b.oob[:oobn], n)
		return b, nil
	}
	var b *bundle
	var n, oobn int
	var failure error
	err := s.raw.Read(func(fd uintptr) bool {
		b = newBundle()
		for {
			n, oobn, _, _, failure = unix.Recvmsg(int(fd), b.buf[:], b.oob[:], unix.MSG_DONTWAIT)
			if failure != unix.EINTR {
				break
			}
		}
		if failure == nil {
			return true
		}
		b.release()
		return failure != unix.EAGAIN
	})
	switch {
	case err != nil:
		return nil, err
	case failure != nil:
		return nil, os.NewSyscallError("recvmsg", failure)
	}
	b.n, b.from, b.size = n, netip.AddrPort{}, segmentSize(b.oob[:oobn], n)
	return b, nil
}

// segmentSize returns the size of the datagrams in a bundle of n bytes, from the control message
// UDP_GRO. Without this message, the bundle is one datagram.
func segmentSize(oob []byte, n int) int {
	for len(oob) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			if size := int(binary.NativeEndian.Uint32(data)); size > 0 {
				return size
			}
		}
		oob = rest
	}
	return n
}

// segmentMessage returns the control message UDP_SEGMENT.
func segmentMessage(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}

func (s *udpSocket) send(b []byte, size int, to netip.AddrPort) error {
	if len(b) > size && !s.noSegment.Load() {
		err := s.sendOne(b, segmentMessage(size), to)
		switch {
		case err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, errFull) || errors.Is(err, unix.ECONNREFUSED):
			return err
		case errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOPROTOOPT):
			s.noSegment.Store(true) // the network device or the kernel cannot split
		}
		// The kernel has refused the whole bundle, with EINVAL or EMSGSIZE if the datagrams are too
		// large for the network path, or if the bundle has too many. Send the datagrams one by one.
	}
	var first error
	for len(b) > 0 {
		var datagram []byte
		datagram, b = cut(b, size)
		if err := s.sendOne(datagram, nil, to); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// sendOne makes one system call.
func (s *udpSocket) sendOne(b, oob []byte, to netip.AddrPort) error {
	if !s.connected {
		_, _, err := s.conn.WriteMsgUDPAddrPort(b, oob, to)
		return err
	}
	var failure error
	err := s.raw.Write(func(fd uintptr) bool {
		for {
			_, failure = unix.SendmsgN(int(fd), b, oob, nil, unix.MSG_DONTWAIT)
			if failure != unix.EINTR {
				return true // also after EAGAIN: the caller must not wait for one backend
			}
		}
	})
	if err != nil {
		return err
	}
	return failure
}

func (s *udpSocket) setReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }
func (s *udpSocket) close() error                      { return s.conn.Close() }
