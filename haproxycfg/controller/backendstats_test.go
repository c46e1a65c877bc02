package controller

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

// TestBackendStats: the shift of a cluster with many routes does not ask HAProxy for each backend.
func TestBackendStats(t *testing.T) {
	dir := haproxytest.Dir(t)
	socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	var config strings.Builder
	fmt.Fprintf(&config, "global\n  stats socket %s level admin\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n", socket.Path)
	for i := range 100 {
		fmt.Fprintf(&config, "backend b%d\n  server s 127.0.0.1:1\n  server other 127.0.0.1:2 disabled\n", i)
	}
	haproxytest.Start(t, dir, config.String())

	now, questions := time.Now(), 0
	b := &backendStats{now: func() time.Time { return now }, worker: func(context.Context) (runtimeapi.Socket, error) {
		questions++
		return socket, nil
	}}
	ask := func(n int) (asked int) {
		before := questions
		for i := range n {
			name := fmt.Sprintf("b%d", i)
			row, err := b.get(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, []any{name, "BACKEND", 1}, []any{row.Proxy, row.Server, row.Active})
		}
		return questions - before
	}
	require.Equal(t, 2, ask(2), "the rows of one shift")
	require.Equal(t, fewRows-2+1, ask(100), "then all rows together")
	require.Zero(t, ask(100))
	now = now.Add(rowsPeriod)
	require.Equal(t, 1, ask(100), "the next tick")
	_, err := b.get(t.Context(), "gone")
	require.ErrorContains(t, err, "HAProxy has no backend gone")
	now = now.Add(keepRows)
	require.Equal(t, 1, ask(1), "the rows are too old")
	now = now.Add(rowsPeriod)
	require.Equal(t, 1, ask(2))
	now = now.Add(rowsPeriod)
	require.Equal(t, 2, ask(2), "few rows again")
}
