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
	next      *bundle     // the result of the next receive, or nil
	anyLocal  bool        // the socket receives the datagrams for all addresses of this machine
	noSegment atomic.Bool // the kernel cannot split bundles
}

// newSocket prepares a socket. On an error, the caller must close conn.
func newSocket(conn *net.UDPConn, connected bool) (socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	local, _ := conn.LocalAddr().(*net.UDPAddr)
	anyLocal := !connected && local != nil && local.IP.IsUnspecified()
	err = raw.Control(func(fd uintptr) {
		// Kernels before 5.0 lack UDP_GRO: then each bundle has one datagram.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		// The kernel must not cut large datagrams into fragments: the endpoints send such datagrams to
		// find out how large a datagram may be (RFC 9000 section 14.3). One of the two calls fails,
		// depending on the family of the socket.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		if anyLocal {
			// Receive the destination address of each datagram. The answers need this address as
			// their source, because a client ignores answers from another address.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return &udpSocket{conn: conn, raw: raw, connected: connected, anyLocal: anyLocal}, err
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
		b.n, b.from = n, from
		b.readControl(oobn)
		return b, nil
	}
	if b := s.next; b != nil {
		s.next = nil
		return b, nil
	}
	var b *bundle
	var failure error
	err := s.raw.Read(func(fd uintptr) bool {
		b = newBundle()
		if failure = b.receive(int(fd), b.buf[:]); failure == nil {
			if b.size == b.n {
				s.next = b.join(int(fd))
			}
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
	return b, nil
}

// receive receives datagrams from a connected socket without waiting. The datagrams fill buffers, and
// the fields of b describe them.
func (b *bundle) receive(fd int, buffers ...[]byte) error {
	for {
		n, oobn, _, _, err := unix.RecvmsgBuffers(fd, buffers, b.oob[:], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			b.n, b.from = n, netip.AddrPort{}
			b.readControl(oobn)
		}
		return err
	}
}

// maxJoined is the largest number of datagrams that the method "join" puts into a bundle.
const maxJoined = 32

// The bundle b has one datagram. The method "join" appends the datagrams that have arrived already,
// so that the Relay sends all of them with one system call.
//
// In a bundle, all datagrams have the same size, except that the last one can be shorter. If the
// next datagram does not fit this rule, it becomes the next bundle, together with the datagrams
// that the kernel has joined to it.
//
// Where the kernel itself joins no datagrams (on loopback), this method halves the processor time
// of the Relay (internal/benchmarks/README.md).
func (b *bundle) join(fd int) (next *bundle) {
	size := b.n
	next = newBundle()
	for count := 1; count < maxJoined && b.n+size <= len(b.buf); count++ {
		rest := b.buf[b.n : b.n+size]
		switch err := next.receive(fd, rest, next.buf[:]); {
		case err != nil: // mostly EAGAIN; the Relay ignores an error after a datagram
			next.release()
			return nil
		case next.n <= size && next.size == next.n:
			b.n += next.n
			if next.n < size {
				next.release()
				return nil
			}
		default:
			copy(next.buf[size:], next.buf[:max(next.n-size, 0)])
			copy(next.buf[:], rest)
			return next
		}
	}
	next.release()
	return nil
}

// readControl sets the fields "size" and "to". It finds their values in the first n bytes of b.oob.
// Without the control message UDP_GRO, the bundle is one datagram.
func (b *bundle) readControl(n int) {
	b.size, b.to = b.n, netip.Addr{}
	for oob := b.oob[:n]; len(oob) >= unix.CmsgLen(0); {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			if size := int(binary.NativeEndian.Uint32(data)); size > 0 {
				b.size = size
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			b.to = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			b.to = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		oob = rest
	}
}

// sourceMessage returns the control message for the source address of datagrams, or nil if the system
// chooses the address.
func sourceMessage(from netip.Addr) []byte {
	switch {
	case from.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	case from.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
	return nil
}

// appendSegmentMessage appends the control message UDP_SEGMENT.
func appendSegmentMessage(oob []byte, size int) []byte {
	at := len(oob)
	oob = append(oob, make([]byte, unix.CmsgSpace(2))...)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[at]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(oob[at+unix.CmsgLen(0):], uint16(size))
	return oob
}

func (s *udpSocket) send(b []byte, size int, from netip.Addr, to netip.AddrPort) error {
	source := sourceMessage(from)
	if len(b) > size && !s.noSegment.Load() {
		err := s.sendOne(b, appendSegmentMessage(source, size), to)
		switch {
		case err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, errFull) || errors.Is(err, unix.ECONNREFUSED):
			return err
		case errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOPROTOOPT):
			s.noSegment.Store(true) // the network device or the kernel cannot split
		}
		// The kernel has refused the whole bundle, with EINVAL or EMSGSIZE: its datagrams are too
		// large for the network path, or too many. Send the datagrams one by one.
	}
	var first error
	for len(b) > 0 {
		var datagram []byte
		datagram, b = cut(b, size)
		if err := s.sendOne(datagram, source, to); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// sendOne sends the datagrams in b with one system call.
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
