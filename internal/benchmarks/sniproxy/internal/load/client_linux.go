package load

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Target is a router under test.
type Target struct {
	Addr  netip.AddrPort
	Hosts []string // host i belongs to backend i modulo the number of backends
}

// client is the part that all kinds of clients embed: the connection, and what the client expects
// on it.
type client struct {
	fd     int
	id     byte // number of the expected backend
	host   string
	want   want
	size   int64
	sent   bool // the hello is sent
	queued bool // the hello waits for room in the socket buffer
}

// dial opens a connection for the next host. Consecutive hosts are far apart in t.Hosts, so that no
// router gains from their order.
func (l *Loop) dial(t Target, w want, size int64, kind func(client) file) error {
	// The index i of the next host is nextHost modulo the number of hosts. The increment is a prime
	// number greater than the number of hosts, so i visits all hosts before it visits one again.
	l.nextHost += 2_147_483_647
	i := int(l.nextHost % uint64(len(t.Hosts)))
	c := client{id: byte('0' + i%len(l.backends)), host: t.Hosts[i], want: w, size: size}
	var err error
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("load: client: %w", err)
	}
	sa := &unix.SockaddrInet4{Addr: t.Addr.Addr().As4(), Port: int(t.Addr.Port())}
	if err := unix.Connect(c.fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(c.fd)
		return fmt.Errorf("load: client connects: %w", err)
	}
	if err := c.greet(l); err != nil {
		_ = unix.Close(c.fd)
		return err
	}
	events := uint32(unix.EPOLLIN)
	if !c.sent {
		c.queued = true
		events |= unix.EPOLLOUT
	}
	return l.add(c.fd, kind(c), events)
}

// greet sends the ClientHello when the connection is established.
func (c *client) greet(l *Loop) error {
	hello := l.hello.For(c.host, c.want, c.size)
	n, err := unix.Write(c.fd, hello)
	switch {
	case again(err):
		return nil
	case err != nil || n != len(hello):
		return fmt.Errorf("load: client sends %d of %d bytes: %w", n, len(hello), err)
	}
	c.sent = true
	if c.queued {
		l.watch(c.fd, unix.EPOLLIN)
	}
	return nil
}

// receive reads the bytes that have arrived, and returns their number and true. If the backend has
// ended the connection, it returns 0 and true. If no byte has arrived yet, or if reading fails, it
// returns false.
func (c *client) receive(l *Loop, buf []byte) (n int, ok bool) {
	if !c.sent {
		if err := c.greet(l); err != nil {
			l.fail(err)
		}
		return 0, false
	}
	n, err := unix.Read(c.fd, buf)
	switch {
	case again(err):
		return 0, false
	case err != nil:
		l.fail(fmt.Errorf("load: client receives: %w", err))
		return 0, false
	}
	l.progress++
	return n, true
}

// The method "right" reports whether id is the number of the expected backend.
func (c *client) right(l *Loop, id byte) bool {
	if id == c.id {
		return true
	}
	l.fail(fmt.Errorf("load: %s reached backend %q instead of %q", c.host, id, c.id))
	return false
}

// answerClient reads an answer until its end.
type answerClient struct {
	client
	got  int
	done func()
}

func (a *answerClient) ready(l *Loop) {
	n, ok := a.receive(l, l.buf[:64<<10])
	switch {
	case !ok:
	case n > 0:
		if a.got == 0 && !a.right(l, l.buf[0]) {
			return
		}
		a.got += n
	case a.got != AnswerSize:
		l.fail(fmt.Errorf("load: the answer ended after %d of %d bytes", a.got, AnswerSize))
	default:
		l.close(a.fd)
		a.done()
	}
}

// bulkClient counts the bytes that it reads.
type bulkClient struct {
	client
	got  int64
	done func()
}

func (b *bulkClient) ready(l *Loop) {
	n, ok := b.receive(l, l.buf[:])
	switch {
	case !ok:
	case n > 0:
		b.got += int64(n)
	case b.got != b.size:
		l.fail(fmt.Errorf("load: bulk ended after %d of %d bytes", b.got, b.size))
	default:
		l.close(b.fd)
		b.done()
	}
}

// echoClient keeps its connection open. The first byte from the backend confirms the connection.
// After that, each ping sends bytes to the backend and waits until the same bytes come back.
type echoClient struct {
	client
	opened func()
	waits  int
	ponged func()
}

func (e *echoClient) ready(l *Loop) {
	n, ok := e.receive(l, l.buf[:4096])
	switch {
	case !ok:
	case n == 0:
		l.fail(errors.New("load: the router closed a connection that must stay open"))
	case e.opened != nil:
		if n != 1 || !e.right(l, l.buf[0]) {
			l.fail(fmt.Errorf("load: a connection began with %d bytes", n))
			return
		}
		opened := e.opened
		e.opened = nil
		opened()
	case n > e.waits:
		l.fail(fmt.Errorf("load: %d bytes came back instead of %d", n, e.waits))
	default:
		if e.waits -= n; e.waits == 0 {
			e.ponged()
		}
	}
}

func (e *echoClient) ping(l *Loop, b []byte, ponged func()) {
	e.waits, e.ponged = len(b), ponged
	if n, err := unix.Write(e.fd, b); err != nil || n != len(b) {
		l.fail(fmt.Errorf("load: client pings %d of %d bytes: %w", n, len(b), err))
	}
}
