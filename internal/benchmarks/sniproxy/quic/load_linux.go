package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	quicgo "github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

const (
	datagramSize = 1200
	bundleSize   = 16                    // datagrams
	streams      = 4                     // connections of the bulk transfer
	patience     = 10 * time.Second      // for one datagram
	retry        = 20 * time.Millisecond // until the router listens
)

// load contains the clients and the backend. One goroutine uses it.
type load struct {
	hello       [][]byte // the datagrams of a hello
	backend     *net.UDPConn
	backendAddr netip.AddrPort
	buf         [1 << 16]byte
	ids         uint64 // connection IDs that the backend has chosen
}

func newLoad(ctx context.Context) (*load, error) {
	hello, err := captureHello(ctx)
	if err != nil {
		return nil, err
	}
	backend, err := listen()
	if err != nil {
		return nil, err
	}
	return &load{hello: hello, backend: backend, backendAddr: backend.LocalAddr().(*net.UDPAddr).AddrPort()}, nil
}

func (l *load) close() { l.backend.Close() }

func listen() (*net.UDPConn, error) {
	return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

// captureHello returns the first datagrams that a client of quic-go sends. They contain its
// ClientHello.
func captureHello(ctx context.Context) (datagrams [][]byte, err error) {
	server, err := listen()
	if err != nil {
		return nil, err
	}
	defer server.Close()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config := &tls.Config{ServerName: host, NextProtos: []string{"h3"}, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}
		_, _ = quicgo.DialAddr(ctx, server.LocalAddr().String(), config, nil) // until cancel
	}()
	defer func() { cancel(); <-ended }()
	if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var r quic.Reader
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return nil, err
		}
		datagrams = append(datagrams, slices.Clone(buf[:n]))
		if _, err = r.Read(buf[:n]); !errors.Is(err, peek.ErrNeedMore) {
			return datagrams, err
		}
	}
}

// conn is a connection through the router.
type conn struct {
	client *net.UDPConn
	router netip.AddrPort // the address that the backend sees
	id     []byte         // the connection ID that the backend has chosen
}

// ready sends hellos until the router relays one of them to the backend.
func (l *load) ready(router netip.AddrPort) error {
	for deadline := time.Now().Add(patience); ; {
		client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(router))
		if err != nil {
			return err
		}
		for _, d := range l.hello {
			_, _ = client.Write(d) // it fails until the router listens
		}
		_ = l.backend.SetReadDeadline(time.Now().Add(retry))
		_, err = l.backend.Read(l.buf[:])
		client.Close()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the router is not ready: %w", err)
		}
	}
	// The other datagrams of these hellos may still arrive. Read and drop them, until no datagram
	// has arrived for ten times the duration "retry".
	for {
		_ = l.backend.SetReadDeadline(time.Now().Add(10 * retry))
		if _, err := l.backend.Read(l.buf[:]); err != nil {
			return nil
		}
	}
}

// open makes a connection.
func (l *load) open(router netip.AddrPort) (c conn, err error) {
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(router))
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			client.Close()
		}
	}()
	c.client = client
	if err := errors.Join(client.SetReadDeadline(time.Now().Add(patience)), l.backend.SetReadDeadline(time.Now().Add(patience))); err != nil {
		return c, err
	}
	for _, d := range l.hello {
		if _, err := client.Write(d); err != nil {
			return c, err
		}
	}
	for range l.hello {
		if _, c.router, err = l.backend.ReadFromUDPAddrPort(l.buf[:]); err != nil {
			return c, fmt.Errorf("hello: %w", err)
		}
	}
	l.ids++
	c.id = binary.BigEndian.AppendUint64(nil, l.ids)
	answer := slices.Concat([]byte{0xe0, 0, 0, 0, 1, 0, 8}, c.id, []byte{0x44, 0x9f}) // Handshake, 1,183 bytes follow
	answer = append(answer, make([]byte, datagramSize-len(answer))...)
	for range 3 {
		if _, err = l.backend.WriteToUDPAddrPort(answer, c.router); err != nil {
			return c, err
		}
	}
	for range 3 {
		if _, err = client.Read(l.buf[:]); err != nil {
			return c, fmt.Errorf("answer: %w", err)
		}
	}
	if _, err = client.Write(c.packet(60)); err != nil {
		return c, err
	}
	_, err = l.backend.Read(l.buf[:])
	return c, err
}

// packet returns a packet of the client with a short header.
func (c conn) packet(size int) []byte {
	return append(append([]byte{0x40}, c.id...), make([]byte, size-1-len(c.id))...)
}

func (l *load) handshakes(router netip.AddrPort, n int) error {
	for range n {
		c, err := l.open(router)
		if err != nil {
			return err
		}
		c.client.Close()
	}
	return nil
}

func (l *load) pings(router netip.AddrPort, n int) (times []time.Duration, err error) {
	c, err := l.open(router)
	if err != nil {
		return nil, err
	}
	defer c.client.Close()
	packet := c.packet(64)
	for range n {
		deadline := time.Now().Add(patience)
		if err := errors.Join(c.client.SetReadDeadline(deadline), l.backend.SetReadDeadline(deadline)); err != nil {
			return nil, err
		}
		begin := time.Now()
		if _, err := c.client.Write(packet); err != nil {
			return nil, err
		}
		size, err := l.backend.Read(l.buf[:])
		if err != nil {
			return nil, err
		}
		if _, err := l.backend.WriteToUDPAddrPort(l.buf[:size], c.router); err != nil {
			return nil, err
		}
		if _, err := c.client.Read(l.buf[:]); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
	}
	return times, nil
}

// bulk sends size bytes from the backend to the client.
func (l *load) bulk(router netip.AddrPort, size int, bundles bool) error {
	var conns []conn
	for range streams {
		c, err := l.open(router)
		if err != nil {
			return err
		}
		defer c.client.Close()
		if err := joinDatagrams(c.client); err != nil {
			return err
		}
		conns = append(conns, c)
	}
	data := make([]byte, bundleSize*datagramSize)
	for at := 0; at < len(data); at += datagramSize {
		data[at] = 0x40
	}
	oob := segmentMessage(datagramSize)
	for sent := 0; sent < size; sent += streams * len(data) {
		for _, c := range conns {
			if bundles {
				if _, _, err := l.backend.WriteMsgUDPAddrPort(data, oob, c.router); err != nil {
					return err
				}
				continue
			}
			for at := 0; at < len(data); at += datagramSize {
				if _, err := l.backend.WriteToUDPAddrPort(data[at:at+datagramSize], c.router); err != nil {
					return err
				}
			}
		}
		for _, c := range conns {
			_ = c.client.SetReadDeadline(time.Now().Add(patience))
			for got := 0; got < len(data); {
				n, err := c.client.Read(l.buf[:])
				if err != nil {
					return fmt.Errorf("%d of %d bytes, then: %w", got, len(data), err)
				}
				got += n
			}
		}
	}
	return nil
}

// joinDatagrams makes the kernel join datagrams that arrive together, so that the load needs less
// processor time.
func joinDatagrams(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	return errors.Join(err, failure)
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
