package freeport

import (
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func listen(t *testing.T, host string, port int) (net.Listener, error) {
	t.Helper()
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

func TestHold(t *testing.T) {
	port, release, err := Hold("", 0)
	require.NoError(t, err)
	require.NotZero(t, port)
	_, _, err = Hold("", port)
	require.ErrorContains(t, err, "in use")
	_, _, err = Hold("127.0.0.2", port)
	require.ErrorContains(t, err, "in use")
	for _, host := range []string{"127.0.0.1", "127.0.0.2", ""} { // a server can listen on a held port, more than once
		for range 2 {
			l, err := listen(t, host, port)
			require.NoError(t, err)
			require.NoError(t, l.Close())
		}
	}
	release()
	_, release, err = Hold("", port)
	require.NoError(t, err)
	release()
}

func TestHoldOfAPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	require.NoError(t, err)
	defer l.Close()
	_, _, err = Hold("", l.Addr().(*net.TCPAddr).Port)
	require.ErrorContains(t, err, "in use")
}

func TestHoldOfAnInvalidAddress(t *testing.T) {
	for _, host := range []string{"localhost", "::1", "127.0.0.1:80"} {
		_, _, err := Hold(host, 0)
		require.ErrorContains(t, err, "no IPv4 address")
	}
}

// TestProcessesThatStartTakeNoPort holds ports while other processes start. If Hold only listened
// on the port and closed the listener, the test would fail: between fork and exec, a child has
// every socket of its parent.
func TestProcessesThatStartTakeNoPort(t *testing.T) {
	var children sync.WaitGroup
	defer children.Wait()
	done := make(chan struct{})
	defer close(done)
	for range 4 {
		children.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	for range 300 {
		port, release, err := Hold("", 0)
		require.NoError(t, err)
		l, err := listen(t, "127.0.0.1", port)
		require.NoError(t, err)
		require.NoError(t, l.Close())
		release()
	}
}
