package controller

import (
	"bytes"
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
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// rehearsing is a Controller in a Rehearsal, with its attempts and log.
type rehearsing struct {
	*Rehearsal
	c        *Controller
	attempts []Attempt
	reloads  int
	log      bytes.Buffer
}

func rehearse(t *testing.T, dir string, start time.Time) *rehearsing {
	t.Helper()
	r := &rehearsing{}
	file := filepath.Join(dir, "routes.yaml")
	require.NoError(t, os.WriteFile(file, manifesttest.Routes(5), 0o600))
	r.c = &Controller{
		Routes:   &RouteFiles{Names: []string{file}},
		Clusters: []Cluster{{Name: "eu-1"}},
		Builder:  kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}, Selector: nodeselect.Selector{Size: 6}},
		Dir: &deploy.Dir{Path: filepath.Join(dir, "out"), Reload: func(context.Context) error {
			r.reloads++
			return nil
		}},
		Logger:    slog.New(slog.NewTextHandler(&r.log, nil)),
		Attempted: func(a Attempt) { r.attempts = append(r.attempts, a) },
	}
	var err error
	r.Rehearsal, err = r.c.Rehearse(t.Context(), start)
	require.NoError(t, err)
	return r
}

func (r *rehearsing) outcomes() (list []Outcome) {
	for _, a := range r.attempts {
		list = append(list, a.Outcome)
	}
	return list
}

func rehearsedObjects(nodes int) nodeselect.Objects {
	return nodeselect.NewObjects(manifesttest.Nodes(nodes), manifesttest.Services(5))
}

// A Rehearsal makes the attempts of Run at the times of Run, without waiting.
func TestRehearsal(t *testing.T) {
	start := manifesttest.Epoch.Add(24 * time.Hour)
	dir := t.TempDir()
	r := rehearse(t, dir, start)
	require.NoError(t, r.Advance(t.Context(), start.Add(5*time.Second)))
	require.Empty(t, r.attempts, "the cluster has not answered")
	r.List(0, rehearsedObjects(6))
	require.NoError(t, r.Advance(t.Context(), start.Add(time.Hour)))
	require.Equal(t, []Outcome{Written}, r.outcomes())
	require.Equal(t, start.Add(5*time.Second), r.attempts[0].Begin)
	require.Equal(t, 1, r.reloads)

	// A change that removes too many servers is refused, and stays refused.
	r.Watch(0, rehearsedObjects(3))
	require.NoError(t, r.Advance(t.Context(), start.Add(2*time.Hour)))
	require.Equal(t, []Outcome{Written, Refused}, r.outcomes())
	require.Equal(t, start.Add(time.Hour), r.attempts[1].Begin)
	require.Equal(t, 1, r.reloads)
	require.Contains(t, r.log.String(), "41.7% of the servers would go")
	r.Watch(0, rehearsedObjects(6))
	require.NoError(t, r.Advance(t.Context(), start.Add(3*time.Hour)))
	require.Equal(t, Unchanged, r.attempts[2].Outcome)

	// An outage keeps the servers, even over a restart.
	r.Fail(0, errors.New("refused"))
	require.NoError(t, r.Advance(t.Context(), start.Add(4*time.Hour)))
	require.Contains(t, r.c.Status().String(), "cluster eu-1: last-known since 2026-03-03T10:30:00Z: nodeselect/live: nodes: refused (since 2026-03-03T10:30:00Z)")
	again := rehearse(t, dir, start.Add(4*time.Hour))
	again.Fail(0, errors.New("refused"))
	require.NoError(t, again.Advance(t.Context(), start.Add(5*time.Hour)))
	require.Equal(t, []Outcome{Unchanged}, again.outcomes())
	require.Equal(t, start.Add(4*time.Hour+10*time.Second), again.attempts[0].Begin, "after StartTimeout")
	require.Zero(t, again.reloads)
	require.Equal(t, 36, again.c.Status().Servers, "five services on six nodes, and the nodes")

	// An empty list at the start is not trusted.
	again.Fail(0, nil)
	again.List(0, nodeselect.Objects{})
	require.NoError(t, again.Advance(t.Context(), start.Add(6*time.Hour)))
	require.Contains(t, again.c.Status().String(), "lists no nodes")
	require.Zero(t, again.reloads)
}

// Reloads that follow one another wait as they do in Run.
func TestRehearsalOfManyChanges(t *testing.T) {
	start := manifesttest.Epoch.Add(24 * time.Hour)
	r := rehearse(t, t.TempDir(), start)
	r.List(0, rehearsedObjects(20))
	require.NoError(t, r.Advance(t.Context(), start))
	for i := range 24 {
		r.Watch(0, rehearsedObjects(21+i))
		require.NoError(t, r.Advance(t.Context(), start.Add(time.Duration(i+1)*time.Second)))
	}
	require.LessOrEqual(t, r.reloads, 5)
	require.GreaterOrEqual(t, r.reloads, 3)
	require.Contains(t, r.outcomes(), Waits)
}
