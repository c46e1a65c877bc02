package haproxyproc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
)

func config(dir string, port int) string {
	return fmt.Sprintf(`global
    stats socket %s/stats.sock level admin
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend f
    bind 127.0.0.1:%d
`, dir, port)
}

func TestMasterSocketSuffices(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(config(dir, haproxytest.Ports(t, 1)[0])), 0o600))
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{Config: file, MasterSocket: filepath.Join(dir, "m.sock")})
	require.NoError(t, err)
	p.Stop()
}

func TestStartErrorContainsTheOutput(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte("global\n    nonsense here\n"), 0o600))
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{Config: file, StatsSocket: filepath.Join(dir, "s")})
	var start *haproxyproc.StartError
	require.ErrorAs(t, err, &start)
	require.Contains(t, start.Output, "nonsense")
	require.Contains(t, err.Error(), "ended before it was ready")
}

func TestStartGivesUpWhenNotReady(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(config(dir, haproxytest.Ports(t, 1)[0])), 0o600))
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Config: file, StatsSocket: filepath.Join(dir, "other.sock"), ReadyTimeout: 100 * time.Millisecond,
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestStartNeedsConfigAndSocket(t *testing.T) {
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{StatsSocket: "x"})
	require.ErrorContains(t, err, "configuration file")
	_, err = haproxyproc.Start(context.Background(), haproxyproc.Options{Config: "x"})
	require.ErrorContains(t, err, "socket")
}

func TestFind(t *testing.T) {
	path, err := haproxyproc.Find()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(path, "haproxy"), path)
	require.Contains(t, haproxyproc.ErrNotFound.Error(), "apt-get install haproxy")
	require.False(t, errors.Is(err, haproxyproc.ErrNotFound))
}
