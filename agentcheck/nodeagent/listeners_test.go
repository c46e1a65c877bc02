package nodeagent_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/freeport"
)

// network replaces the addresses of a node. It opens a free loopback port for each address.
type network struct {
	addrs map[string]string
	fail  map[string]bool
	// If unhurried is true, a check lasts until the client closes its connection.
	unhurried bool
}

func (n *network) listen(_, address string) (net.Listener, error) {
	if n.fail[address] {
		return nil, errors.New("listen " + address + ": address already in use")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		n.addrs[address] = l.Addr().String()
	}
	if err == nil && n.unhurried {
		l = unhurriedListener{l}
	}
	return l, err
}

// unhurriedListener accepts connections without deadlines.
type unhurriedListener struct{ net.Listener }

type unhurriedConn struct{ *net.TCPConn }

func (l unhurriedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return unhurriedConn{c.(*net.TCPConn)}, nil
}

func (unhurriedConn) SetDeadline(time.Time) error     { return nil }
func (unhurriedConn) SetReadDeadline(time.Time) error { return nil }

func ask(t *testing.T, addr string) string {
	t.Helper()
	reply, err := (&agentcheck.Client{Timeout: patience}).Check(t.Context(), addr)
	require.NoError(t, err)
	return reply.String()
}

func answer(port uint16, service string, percent int) nodeagent.Answer {
	return nodeagent.Answer{Port: port, Service: service, Reply: agentcheck.Reply{State: agentcheck.Up, Weight: agentcheck.Percent(percent)}}
}

func TestListenersFollowTheState(t *testing.T) {
	n := &network{addrs: map[string]string{}, fail: map[string]bool{"10.0.0.1:9802": true}}
	var checks atomic.Int64
	l := &nodeagent.Listeners{Host: "10.0.0.1", Listen: n.listen, Finished: func(service string, x agentcheck.Exchange) {
		if service != "" && x.Err == nil {
			checks.Add(1)
		}
	}}

	err := l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9707, "", 1), answer(9801, "media/a", 2), answer(9802, "media/b", 3)}})
	require.ErrorContains(t, err, "media/b")
	require.ErrorContains(t, err, "address already in use")
	require.Equal(t, "up 1%", ask(t, n.addrs["10.0.0.1:9707"]))
	require.Equal(t, "up 2%", ask(t, n.addrs["10.0.0.1:9801"]))

	// The next Update opens the failed port, changes one answer on the same socket, and closes a
	// port.
	before := n.addrs["10.0.0.1:9801"]
	n.fail = nil
	require.NoError(t, l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9801, "media/a", 20), answer(9802, "media/b", 3)}}))
	require.Equal(t, before, n.addrs["10.0.0.1:9801"])
	require.Equal(t, "up 20%", ask(t, before))
	require.Equal(t, "up 3%", ask(t, n.addrs["10.0.0.1:9802"]))
	_, err = net.Dial("tcp", n.addrs["10.0.0.1:9707"])
	require.Error(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, l.Shutdown(ctx))
	require.EqualValues(t, 3, checks.Load(), "Shutdown waits for running checks")
	_, err = net.Dial("tcp", before)
	require.Error(t, err)
	require.ErrorIs(t, l.Update(nodeagent.State{}), nodeagent.ErrClosed)
	l.Close()
}

func TestListenersCloseTakesNoTime(t *testing.T) {
	n := &network{addrs: map[string]string{}}
	l := &nodeagent.Listeners{Listen: n.listen}
	require.NoError(t, l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9707, "", 1)}}))
	l.Close()
	_, err := net.Dial("tcp", n.addrs[":9707"])
	require.Error(t, err)
}

// A closed port is free when Update returns, even if its server has not begun to serve yet. The
// next state may open the same port.
func TestListenersFreePortsAtOnce(t *testing.T) {
	l := &nodeagent.Listeners{Host: "127.0.0.1"}
	defer l.Close()
	port, release, err := freeport.Hold("127.0.0.1", 0)
	require.NoError(t, err)
	defer release()
	for i := range 500 {
		require.NoError(t, l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(uint16(port), "media/a", 1)}}), "round %d", i)
		require.NoError(t, l.Update(nodeagent.State{}), "round %d", i)
	}
}

// If a client never closes its connection, Shutdown waits until its context ends, and then closes
// the connection.
func TestListenersShutdownIsBounded(t *testing.T) {
	n := &network{addrs: map[string]string{}, unhurried: true}
	var finished atomic.Int64
	l := &nodeagent.Listeners{Listen: n.listen, Finished: func(string, agentcheck.Exchange) { finished.Add(1) }}
	require.NoError(t, l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9707, "", 1), answer(9801, "media/a", 2)}}))
	for _, addr := range n.addrs {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Read(make([]byte, 64)) // the client has its answer and keeps the connection
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
	require.EqualValues(t, 2, finished.Load(), "Shutdown cuts off the checks and waits for their end")
}

// Finished may call methods of the Listeners, even while Shutdown or Close waits for the check.
func TestFinishedMayCallListenersWhileTheyEnd(t *testing.T) {
	for name, end := range map[string]func(*nodeagent.Listeners, context.Context){
		"shutdown": func(l *nodeagent.Listeners, ctx context.Context) { _ = l.Shutdown(ctx) },
		"close":    func(l *nodeagent.Listeners, _ context.Context) { l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			n := &network{addrs: map[string]string{}}
			var l *nodeagent.Listeners
			begun, ended := make(chan struct{}), make(chan struct{})
			l = &nodeagent.Listeners{Listen: n.listen, Finished: func(string, agentcheck.Exchange) {
				close(begun)
				for !errors.Is(l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9707, "", 1)}}), nodeagent.ErrClosed) {
					runtime.Gosched() // Shutdown or Close has not begun yet
				}
				l.OpenPorts()
			}}
			require.NoError(t, l.Update(nodeagent.State{Answers: []nodeagent.Answer{answer(9707, "", 1)}}))
			require.Equal(t, "up 1%", ask(t, n.addrs[":9707"]))
			<-begun
			go func() {
				defer close(ended)
				end(l, t.Context())
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("Shutdown or Close does not return")
			}
		})
	}
}
