package sniproxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/internal/hellotest"
)

// Without descriptors, the router sheds connections that have not named a host, and serves the
// others. It recovers when there are descriptors again.
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
		return s.Load.Conns == 1 && s.Descriptors == before.Descriptors && s.Goroutines == before.Goroutines
	})
}

// tryEcho reports whether a client reaches an echo server through the router.
func tryEcho(front string, b []byte) bool {
	c, err := net.Dial("tcp", front)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		return false
	}
	got := make([]byte, len(b))
	_, err = io.ReadFull(c, got)
	return err == nil && string(got) == string(b)
}
