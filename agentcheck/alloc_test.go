package agentcheck_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

// readyConn is a connection in memory: HAProxy has sent its text and has closed its side. Its
// methods do not allocate, so all allocations of a check are those of the Server.
type readyConn struct {
	text   string
	unread string
	answer [128]byte
	n      int
	closed chan struct{}
}

var loopbackAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

func (c *readyConn) Read(b []byte) (int, error) {
	if c.unread == "" {
		return 0, io.EOF
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *readyConn) Write(b []byte) (int, error) {
	c.n += copy(c.answer[c.n:], b)
	return len(b), nil
}

// Close reports that the exchange has ended. It does not block, because Server.Close closes the
// connection again if the server has not forgotten it yet.
func (c *readyConn) Close() error {
	select {
	case c.closed <- struct{}{}:
	default:
	}
	return nil
}

func (*readyConn) CloseWrite() error                  { return nil }
func (*readyConn) LocalAddr() net.Addr                { return loopbackAddr }
func (*readyConn) RemoteAddr() net.Addr               { return loopbackAddr }
func (*readyConn) SetDeadline(time.Time) error        { return nil }
func (*readyConn) SetReadDeadline(time.Time) error    { return nil }
func (*readyConn) SetWriteDeadline(t time.Time) error { return nil }

// TestAllocationsPerAnswer limits the allocations of the Server for one check. Most of them are for
// the context of the handler, its timer and the goroutine of the connection.
func TestAllocationsPerAnswer(t *testing.T) {
	for text, limit := range map[string]float64{"": 16, "media/tracks\n": 17} {
		t.Run("agent-send="+text, func(t *testing.T) {
			l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
			startOn(t, &agentcheck.Server{Handler: full, ReadName: text != ""}, l)
			c := &readyConn{text: text, closed: make(chan struct{}, 1)}
			allocs := testing.AllocsPerRun(200, func() {
				c.unread, c.n = c.text, 0
				l.conns <- c
				<-c.closed
			})
			require.Equal(t, full.String()+"\n", string(c.answer[:c.n]))
			t.Logf("%v allocations", allocs)
			require.LessOrEqual(t, allocs, limit)
		})
	}
}
