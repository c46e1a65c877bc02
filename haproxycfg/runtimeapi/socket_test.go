package runtimeapi_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

func fakeSocket(t *testing.T, network string, answer func(command string) string) runtimeapi.Socket {
	t.Helper()
	return runtimeapi.Socket{Path: haproxytest.FakeSocket(t, network, answer)}
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

func TestSocketDoAddressesAWorker(t *testing.T) {
	s := fakeSocket(t, "unix", func(c string) string { return c })
	s.Worker = "@!1234"
	answer, err := s.Do(t.Context(), "show info")
	require.NoError(t, err)
	require.Equal(t, "@!1234 show info", answer)
	_, err = s.Do(t.Context(), " ")
	require.ErrorIs(t, err, runtimeapi.ErrCommand, "HAProxy would begin a session")
	s.Worker = "@1;quit"
	_, err = s.Do(t.Context(), "show info")
	require.ErrorIs(t, err, runtimeapi.ErrCommand)
}

func TestSocketDoRefuses(t *testing.T) {
	s := runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "nobody")}
	for _, command := range []string{"", "  ", "show info;quit", "a\nb", "a\rb", "a\x00b", "add map x <<"} {
		_, err := s.Do(t.Context(), command)
		require.ErrorIs(t, err, runtimeapi.ErrCommand, "%q", command)
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
	_, err := runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "nobody")}.Do(t.Context(), "show info")
	require.ErrorContains(t, err, "runtimeapi: socket: dial unix")
}

// TestSocketDoReadsALongAnswer reads an answer of megabytes. Do closes its sending side first, and
// HAProxy must still send the whole answer.
func TestSocketDoReadsALongAnswer(t *testing.T) {
	const servers = 5000
	dir := haproxytest.Dir(t)
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "global\n    stats socket %s/stats.sock\ndefaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\nbackend b\n", dir)
	for i := range servers {
		fmt.Fprintf(&cfg, "    server s%d 127.0.0.1:1\n", i)
	}
	haproxytest.StartMaster(t, dir, cfg.String())
	for name, s := range map[string]runtimeapi.Socket{
		"worker": {Path: filepath.Join(dir, haproxytest.StatsSocket)},
		"master": {Path: filepath.Join(dir, haproxytest.MasterSocket), Worker: "@1"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := s.Do(t.Context(), "show servers state")
			require.NoError(t, err)
			require.Equal(t, servers, strings.Count(answer, " 127.0.0.1 "))
		})
	}
}
