package haproxytest

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPortsAreClaimed(t *testing.T) {
	var port int
	t.Run("while the test runs", func(t *testing.T) {
		port = Ports(t, 1)[0]
		require.False(t, claim(t, port))
		for _, address := range []string{"127.0.0.1", "127.0.0.2"} { // a test can listen there
			l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
			require.NoError(t, err)
			require.NoError(t, l.Close())
		}
	})
	require.True(t, claim(t, port), "the port is free after the test")
}

func TestPortsInUseAreNotReturned(t *testing.T) {
	var port int
	t.Run("find one", func(t *testing.T) { port = Ports(t, 1)[0] })
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(port)))
	require.NoError(t, err)
	defer l.Close()
	require.False(t, claim(t, port))
}
