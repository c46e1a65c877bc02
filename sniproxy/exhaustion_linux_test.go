package sniproxy_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
)

// When descriptors run out, the router closes connections whose clients have not named a host, and
// still serves the other connections. It works as before when descriptors are free again.
func TestDescriptorsRunOut(t *testing.T) {
	const limit, crowd = 64, 200
	r := startChild(t, childConfig{Descriptors: limit, Hosts: hosts{"a.example": newEcho(t).addr}})
	hello := hellotest.Hello{Name: "a.example"}.Wire()

	first, err := net.Dial("tcp", r.front)
	require.NoError(t, err)
	defer first.Close()
	echo(t, first, hello) // from now on, the process has all threads and files that it needs
	before := r.ask("")

	var slow []net.Conn
	for range crowd {
		c := dial(t, r.front)
		_, err := c.Write(hello[:10])
		require.NoError(t, err)
		slow = append(slow, c)
	}
	shed := 0
	r.until("they are more than it can hold", func(s childState) bool {
		shed += s.Outcomes["limited"]
		return s.Load.Shed+int64(shed) > 0
	})

	// An open connection stays open, and a client that names a host is still served.
	echo(t, first, []byte("still here"))
	require.Eventually(t, func() bool { return tryEcho(r.front, hello) }, patience, 10*time.Millisecond)
	echo(t, first, []byte("still here"))

	for _, c := range slow {
		c.Close()
	}
	r.until("the other clients end", func(s childState) bool { return s.Load.Conns == 1 })
	for range crowd {
		require.True(t, tryEcho(r.front, hello))
	}
	r.until("connections, descriptors and goroutines end", func(s childState) bool {
		return s.Load.Conns == 1 && s.Descriptors <= before.Descriptors && s.Goroutines <= before.Goroutines
	})
}

// One source opens more silent connections than the process has descriptors, and opens a new one
// each time that the router closes one. The router still serves clients of another source that name
// their host late.
func TestSlowClientsBesideAFloodWithoutDescriptors(t *testing.T) {
	const limit, crowd = 200, 240
	r := startChild(t, childConfig{Descriptors: limit, Hosts: hosts{"a.example": newEcho(t).addr}})
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	var flood sync.WaitGroup
	stop := make(chan struct{})
	defer flood.Wait()
	defer close(stop)
	for range crowd {
		flood.Go(func() {
			for {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(flooder)}}
				c, err := d.Dial("tcp", r.front)
				if err != nil {
					continue // the backlog of the router is full
				}
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					c.Read(make([]byte, 1))
				}()
				select {
				case <-closed:
					c.Close()
				case <-stop:
					c.Close()
					<-closed
					return
				}
			}
		})
	}
	closed := 0
	until := func(what string, n int) {
		closed = 0
		r.until(what, func(s childState) bool {
			closed += s.Outcomes["limited"]
			return closed > n
		})
	}
	until("the flood fills the router", crowd)
	for i := range 6 {
		slow := dialFrom(t, honest, r.front)
		until("the flood has come back, each connection twice", 2*crowd)
		require.True(t, echoes(slow, hello), "slow client %d", i)
		slow.Close()
	}
}

// tryEcho reports whether a client reaches an echo server through the router.
func tryEcho(front string, b []byte) bool {
	c, err := net.Dial("tcp", front)
	if err != nil {
		return false
	}
	defer c.Close()
	return echoes(c, b)
}

// echoes reports whether the other end of a connection echoes the bytes.
func echoes(c net.Conn, b []byte) bool {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		return false
	}
	got := make([]byte, len(b))
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == string(b)
}
