//go:build !linux

package quicrelay

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

var errFull = errors.New("quicrelay: the send buffer of the backend's socket is full")

type udpSocket struct {
	conn      *net.UDPConn
	connected bool
}

func newSocket(conn *net.UDPConn, connected bool) (socket, error) {
	return &udpSocket{conn, connected}, nil
}

func (s *udpSocket) receive() (*bundle, error) {
	b := newBundle()
	n, from, err := s.conn.ReadFromUDPAddrPort(b.buf[:])
	if err != nil {
		b.release()
		return nil, err
	}
	b.n, b.size, b.from = n, n, from
	return b, nil
}

func (s *udpSocket) send(b []byte, size int, _ netip.Addr, to netip.AddrPort) error {
	for len(b) > 0 {
		var datagram []byte
		datagram, b = cut(b, size)
		var err error
		if s.connected {
			_, err = s.conn.Write(datagram)
		} else {
			_, err = s.conn.WriteToUDPAddrPort(datagram, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *udpSocket) setReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }
func (s *udpSocket) close() error                      { return s.conn.Close() }
