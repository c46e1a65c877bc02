package haproxycfg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
)

// fakeSocket answers every connection with what answer gives for its command.
func fakeSocket(t *testing.T, network string, answer func(command string) string) Socket {
	t.Helper()
	addr, prefix := filepath.Join(haproxytest.Dir(t), "s"), ""
	if network == "tcp" {
		addr, prefix = "127.0.0.1:0", "tcp@"
	}
	l, err := net.Listen(network, addr)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			command, _ := in.ReadString('\n')
			_, _ = io.WriteString(conn, answer(strings.TrimSuffix(command, "\n")))
			if command != "hang\n" {
				_ = conn.Close()
			} else {
				t.Cleanup(func() { _ = conn.Close() })
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return Socket{Path: prefix + l.Addr().String()}
}

func TestSocketDo(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := fakeSocket(t, network, func(c string) string { return "you said " + c + "\n\n" })
			answer, err := s.Do(t.Context(), "show info")
			require.NoError(t, err)
			require.Equal(t, "you said show info\n\n", answer)
		})
	}
}

func TestSocketDoRefuses(t *testing.T) {
	s := Socket{Path: filepath.Join(t.TempDir(), "nobody")}
	for _, command := range []string{"", "  ", "show info;quit", "a\nb", "a\rb", "a\x00b", "add map x <<"} {
		_, err := s.Do(t.Context(), command)
		require.ErrorIs(t, err, ErrCommand, "%q", command)
	}
}

func TestSocketDoEndsWithItsContext(t *testing.T) {
	s := fakeSocket(t, "unix", func(string) string { return "half an ans" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Do(ctx, "hang")
	require.ErrorIs(t, err, context.Canceled)

	s.Timeout = 20 * time.Millisecond
	_, err = s.Do(t.Context(), "hang")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestSocketDoWithoutListener(t *testing.T) {
	_, err := Socket{Path: filepath.Join(t.TempDir(), "nobody")}.Do(t.Context(), "show info")
	require.ErrorContains(t, err, "haproxycfg: socket: dial unix")
}

// An answer of megabytes arrives whole, though the sending side is closed long
// before: HAProxy 2.6 was seen to keep sending.
func TestSocketDoReadsALongAnswer(t *testing.T) {
	const servers = 5000
	dir := haproxytest.Dir(t)
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "global\n    stats socket %s/stats.sock\ndefaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\nbackend b\n", dir)
	for i := range servers {
		fmt.Fprintf(&cfg, "    server s%d 127.0.0.1:1\n", i)
	}
	haproxytest.StartMaster(t, dir, cfg.String())
	for name, tc := range map[string]struct{ socket, prefix string }{
		"worker": {haproxytest.StatsSocket, ""},
		"master": {haproxytest.MasterSocket, "@1 "},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := Socket{Path: filepath.Join(dir, tc.socket)}.Do(t.Context(), tc.prefix+"show servers state")
			require.NoError(t, err)
			require.Equal(t, servers, strings.Count(answer, " 127.0.0.1 "))
		})
	}
}
