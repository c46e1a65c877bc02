package controller

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// TestNothingIsWrittenAfterGuardFails suspends a process while HAProxy checks its configuration:
// the Guard of its term fails, but Done is open. The process must not write, not even the report.
func TestNothingIsWrittenAfterGuardFails(t *testing.T) {
	suspended := false
	reloads := 0
	l := &loop{terms: make(chan Term), term: Term{Done: make(chan struct{}), Guard: func() error {
		if suspended {
			return errors.New("expired")
		}
		return nil
	}}}
	dir := t.TempDir()
	c := &Controller{
		Builder: kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}},
		Dir: &deploy.Dir{
			Path:   dir,
			Check:  func(context.Context, haproxycfg.Valid) error { suspended = true; return nil },
			Reload: func(context.Context) error { reloads++; return nil },
			Guard:  l.guard,
		},
	}
	a := newApplier(c, slog.New(slog.DiscardHandler))
	a.guard = l.guard
	attempt := a.apply(t.Context(), inputs{}, time.Now(), never)
	require.Equal(t, Failed, attempt.Outcome)
	require.ErrorContains(t, attempt.Err, "expired")
	require.Zero(t, reloads)
	require.Nil(t, c.Status().Refused)
	for _, name := range []string{"haproxy.cfg", ReportFile} {
		_, err := os.Stat(filepath.Join(dir, name))
		require.ErrorIs(t, err, os.ErrNotExist, name)
	}
}
