package hellos

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

// TestClients captures the hello of each client. make installs all of them except Java.
func TestClients(t *testing.T) {
	clients, missing := Clients()
	if missing != "" {
		require.Equal(t, "default-jre-headless", missing)
	}
	var hosts []string
	for _, c := range clients {
		hosts = append(hosts, HostOf(c.Name))
	}
	certs, err := NewCertificates(t.TempDir(), hosts)
	require.NoError(t, err)
	for i, c := range clients {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			require.Regexp(t, `^[0-9]+\.[0-9]`, c.Version)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			hello, err := c.Capture(ctx, certs)
			require.NoError(t, err)
			seen, err := peek.ParseClientHello(hello)
			require.NoError(t, err)
			require.Equal(t, hosts[i], seen.ServerName)
			require.Len(t, hello, seen.Len)
			if c.Name == ResumedGo {
				require.Greater(t, len(hello), 4096, "some routers have a buffer of 4 KiB")
			}
			if c.Name == Chromium || c.Name == Go {
				require.True(t, seen.PostQuantum())
			}
		})
	}
}

// A client fails if the server has another name, so a handshake with the wrong server does not count.
func TestClientOfAnotherHost(t *testing.T) {
	certs, err := NewCertificates(t.TempDir(), []string{"other.example"})
	require.NoError(t, err)
	b, err := NewBackend(certs)
	require.NoError(t, err)
	defer b.Close()
	clients, _ := Clients()
	for _, c := range clients {
		if c.Name == Chromium || c.Name == Java {
			continue // these clients do not check certificates
		}
		t.Run(c.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.Error(t, c.Connect(ctx, b.Addr, certs))
			require.False(t, b.Completed("other.example"))
		})
	}
}

func TestBackend(t *testing.T) {
	certs, err := NewCertificates(t.TempDir(), []string{host})
	require.NoError(t, err)
	b, err := NewBackend(certs)
	require.NoError(t, err)
	hello := capture(t)
	for i, way := range Ways {
		stamped, err := Stamp(hello, uint64(i))
		require.NoError(t, err)
		pieces, err := way.Cut(stamped, host)
		require.NoError(t, err)
		wire := bytes.Join(pieces, nil)
		require.False(t, b.Saw(wire), way.Name)
		require.NoError(t, Send(t.Context(), b.Addr, pieces, patience), way.Name)
		require.True(t, b.Saw(wire), way.Name)
	}
	require.False(t, b.Completed(host), "the handshakes are not complete")
	// A client that sends something else than a hello, and one that sends nothing.
	require.Error(t, Send(t.Context(), b.Addr, [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, patience))
	silent, err := net.Dial("tcp", b.Addr.String())
	require.NoError(t, err)
	defer silent.Close()
	b.Close()
	require.Error(t, Send(t.Context(), b.Addr, [][]byte{hello}, patience))
}

// Send ends if the router does not answer, or if the run ends.
func TestSendToASilentRouter(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	x := [][]byte{[]byte("x")}
	require.Error(t, Send(t.Context(), addr, x, time.Millisecond))
	conn, err := ln.Accept()
	require.NoError(t, err)
	defer conn.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Send(ctx, addr, x, time.Hour) }()
	conn, err = ln.Accept()
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err)
	cancel()
	require.Error(t, <-ended)
	require.ErrorIs(t, Send(ctx, addr, x, time.Hour), context.Canceled)
}
