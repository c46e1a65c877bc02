package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// fakeDrainer is a drainer whose drain ends after a fixed time.
type fakeDrainer struct {
	after time.Duration
	calls int // calls of both methods
}

func (f *fakeDrainer) Drain(ctx context.Context) (nodeagent.DrainProgress, error) {
	f.calls++
	select {
	case <-time.After(f.after):
		return nodeagent.DrainProgress{Status: nodeagent.DrainStatus{Requested: true, Effective: true}}, nil
	case <-ctx.Done():
		return nodeagent.DrainProgress{}, ctx.Err()
	}
}

func (f *fakeDrainer) EndDrain() (time.Time, bool) {
	f.calls++
	return time.Time{}, false
}

// A drain may take longer than the write timeout of the other admin pages.
func TestDrainMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := clitest.NewPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		handler := drainHandler(ctx, &fakeDrainer{after: 5 * time.Minute}, slog.New(slog.DiscardHandler))
		go func() {
			served <- cli.Admin{Extra: handler, Token: func() (string, error) { return "secret", nil }}.Serve(ctx, l)
		}()
		client := l.Dial()
		defer client.Close()

		synctest.Wait()
		began := time.Now()
		_, err := fmt.Fprint(client, "POST /drain?wait=9m HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 5*time.Minute, time.Since(began))
		cancel()
		require.NoError(t, <-served)
	})
}

// At SIGHUP, the agent reads the manifests again, and continues to run.
func TestHangup(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 2)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifests(false, "50", ports[1])), 0o600))
	agent := startAgent(t, "-node", "a", "-listen", "127.0.0.1:"+ports[0], "-dir", dir)
	requireAnswer(t, agent, ports[0], "up ready")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(agent.stderr.String(), "reading the files again") }, time.Minute, 10*time.Millisecond)
	requireAnswer(t, agent, ports[0], "up ready")
	agent.requireStops(t)
}
