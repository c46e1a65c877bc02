package shift_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/shift"
)

// TestShiftExpires: each shift ends at its time, whatever its status is. The Runner reports this
// once.
func TestShiftExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFakeWorld(), t.Context()
		o := order(t)
		o.Hold, o.Steps, o.For = 0, []int{100}, 0
		require.ErrorContains(t, w.runner.Start(ctx, o), "for: want the time")
		o.For = shift.Duration(shift.MaxFor + 1)
		require.ErrorIs(t, w.runner.Start(ctx, o), shift.ErrRefused)
		o.For = shift.Duration(10 * time.Second)
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 9)
		require.Equal(t, 100, w.points(t))
		w.changed = nil
		w.ticks(t, 1)
		require.Empty(t, w.control.state.Shifts)
		require.Equal(t, []string{route + ": declared weights, expired"}, w.changed)
		w.ticks(t, 5)
		require.Len(t, w.changed, 1)

		// The same order again makes a shift last longer.
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 6)
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 9)
		require.Equal(t, 100, w.points(t))
		w.err = errors.New("no counters")
		w.control.err = nil
		time.Sleep(time.Second)
		require.NoError(t, w.runner.Tick(ctx, time.Now()))
		require.Empty(t, w.control.state.Shifts, "a shift also expires while nobody can read the counters")

		// An earlier version of this package has written this shift, without Until.
		old, err := shift.ParseState([]byte(`{"closePoints": 0, "shifts": [{"route": "` + route + `", "cluster": "new", "steps": [100],
			"hold": "0s", "maxErrors": 100, "minRequests": 50, "status": "done", "step": 0, "since": "2000-01-01T00:00:00Z"}]}`))
		require.NoError(t, err)
		w.control.state = old
		require.Equal(t, time.Date(2000, 1, 4, 0, 0, 0, 0, time.UTC), old.Shifts[0].Expires())
		require.NoError(t, w.runner.Tick(ctx, old.Shifts[0].Expires()))
		require.Empty(t, w.control.state.Shifts)
	})
}

// TestSameOrderAgain: if the shift of the first order is done, the same order again only makes the
// shift last longer. Errors do not pause this shift: a pause would return the requests to the
// declared weights, and so perhaps to a cluster that has failed.
func TestSameOrderAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFakeWorld(), t.Context()
		o := order(t).WithSteps(nil, shift.AllPoints)
		o.Hold = shift.Duration(5 * time.Second)
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 10)
		require.NoError(t, w.runner.Start(ctx, o))
		s, _ := w.control.state.Find(route)
		require.Equal(t, shift.Done, s.Status)
		require.Equal(t, time.Now().Add(time.Hour), s.Until)
		w.ticks(t, 2)
		w.target = shift.Counters{Requests: 100, Errors: 100}
		w.ticks(t, 10)
		require.Equal(t, shift.AllPoints, w.points(t))

		lower := o.WithSteps(nil, 5000)
		require.NoError(t, w.runner.Start(ctx, lower))
		s, _ = w.control.state.Find(route)
		require.Equal(t, shift.Moving, s.Status, "another target")
	})
}

// TestShiftNeedsServers: Start refuses a shift to a cluster with too few servers. If the servers
// become too few during a shift, the Runner pauses the shift.
func TestShiftNeedsServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFakeWorld(), t.Context()
		o := order(t)
		o.Hold = shift.Duration(time.Second)
		w.target, w.rest = shift.Counters{Up: 1, Need: 2}, shift.Counters{Up: 2, Need: 2}
		require.ErrorContains(t, w.runner.Start(ctx, o), "1 servers of new are up, and 2 are needed")
		away := o
		away.Steps = []int{0}
		require.NoError(t, w.runner.Start(ctx, away), "the other clusters get the requests")
		require.NoError(t, w.runner.Undo(ctx, route))
		w.rest.Up = 1
		require.ErrorContains(t, w.runner.Start(ctx, away), "1 servers of the other clusters are up, and 2 are needed")

		w.target.Up = 2
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 2)
		require.Equal(t, 500, w.points(t))
		w.target.Up = 0
		w.ticks(t, 1)
		require.Equal(t, 100, w.points(t))
		s, _ := w.control.state.Find(route)
		require.Equal(t, shift.Paused, s.Status)
		require.Equal(t, "at 5%, 0 servers of new are up, and 2 are needed", s.Reason)
		w.target.Up = 2
		w.ticks(t, 3)
		require.Equal(t, 100, w.points(t), "the operator must resume it")
	})
}

// TestShiftOfACluster moves all routes of a cluster. Errors of one route stop the others.
func TestShiftOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := newFakeWorld()
		bad := map[string]bool{}
		w.runner.Counters = func(_ context.Context, route, _ string) (target, rest shift.Counters, err error) {
			if bad[route] {
				w.target.Requests += 100
				w.target.Errors += 100
				return w.target, rest, nil
			}
			return shift.Counters{}, shift.Counters{}, nil
		}
		h := w.runner.Handler(nil)
		client := &shift.Client{Interval: time.Second, Do: func(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
			r := httptest.NewRecorder()
			h.ServeHTTP(r, httptest.NewRequestWithContext(ctx, method, path+"?"+query.Encode(), nil))
			if r.Code != http.StatusOK {
				return nil, errors.New(r.Body.String())
			}
			return r.Body.Bytes(), nil
		}}
		query := url.Values{"cluster": {"old"}, "to": {"new:100"}, "for": {"1h"}, "hold": {"5s"}, "steps": {"10,100"}}
		o, err := shift.ParseQuery("", query)
		require.NoError(t, err)
		require.Equal(t, "old", o.From)
		_, _, err = client.Start(ctx, o)
		require.ErrorContains(t, err, "want the name of a route", "the Runner has no Routes")

		stays := []shift.Left{{Route: "c.example.com/", Reason: "no backend in new"}}
		w.runner.Routes = func(from, to string) ([]string, []shift.Left, error) {
			require.Equal(t, []string{"old", "new"}, []string{from, to})
			return []string{"a.example.com/", "b.example.com/"}, stays, nil
		}
		begun, left, err := client.Start(ctx, o)
		require.NoError(t, err)
		require.Equal(t, stays, left)
		require.Len(t, begun.Of("old"), 2)
		other := order(t)
		require.NoError(t, w.runner.Start(ctx, other)) // a shift of a single route

		result := make(chan shift.Status, 1)
		go func() {
			status, err := client.Follow(ctx, begun, "", "old", func(shift.Shift) {})
			if err != nil {
				t.Error(err)
			}
			result <- status
		}()
		w.ticks(t, 2)
		bad["b.example.com/"] = true
		w.ticks(t, 2)
		require.Equal(t, shift.Paused, <-result)
		w.ticks(t, 30)
		a, _ := w.control.state.Find("a.example.com/")
		require.Equal(t, shift.Moving, a.Status)
		require.Equal(t, 1000, a.Steps[a.Step], "it stays while another route is paused")
		b, _ := w.control.state.Find("b.example.com/")
		require.Equal(t, shift.Paused, b.Status)

		clear(bad)
		resumed, err := client.Resume(ctx, "", "old")
		require.NoError(t, err)
		_, err = client.Resume(ctx, "", "old")
		require.ErrorContains(t, err, "no route of old is paused")
		go func() {
			status, err := client.Follow(ctx, resumed, "", "old", func(shift.Shift) {})
			if err != nil {
				t.Error(err)
			}
			result <- status
		}()
		w.ticks(t, 30)
		require.Equal(t, shift.Done, <-result)

		state, err := client.Undo(ctx, "", "old")
		require.NoError(t, err)
		require.Len(t, state.Shifts, 1)
		require.Equal(t, other.Route, state.Shifts[0].Route, "the shift of a single route stays")
		_, err = client.Undo(ctx, "", "old")
		require.ErrorContains(t, err, "no route of old")
		_, err = client.Follow(ctx, state, "", "old", nil)
		require.ErrorContains(t, err, "somebody has undone the shift of old")

		query.Set("to", "old:50")
		_, err = shift.ParseQuery("", query)
		require.ErrorContains(t, err, "old:0")
		w.runner.Routes = func(string, string) ([]string, []shift.Left, error) { return nil, stays, nil }
		_, _, err = client.Start(ctx, o)
		require.ErrorContains(t, err, "c.example.com/: no backend in new")
	})
}

func TestParseSubject(t *testing.T) {
	canonical := func(s string) (string, error) { return "route " + s, nil }
	for text, want := range map[string][2]string{
		"": {"", ""}, "eu-1": {"", "eu-1"}, "a.example.com": {"route a.example.com", ""}, "localhost/": {"route localhost/", ""},
	} {
		route, cluster, err := shift.ParseSubject(text, canonical)
		require.NoError(t, err)
		require.Equal(t, want, [2]string{route, cluster}, text)
	}
}

func TestWithdraws(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := order(t)
	moving := shift.Shift{Order: o, Status: shift.Moving, Step: 1, Since: now, Until: now.Add(time.Minute)}
	paused, resumed := moving, moving
	paused.Status, paused.Step, resumed.Step = shift.Paused, 0, 2
	last := shift.State{}.With(moving)
	require.True(t, last.Withdraws(shift.State{}.With(paused), now))
	require.False(t, last.Withdraws(shift.State{}.With(resumed), now))
	require.False(t, last.Withdraws(shift.State{}, now))
	require.True(t, last.Withdraws(shift.State{}, now.Add(time.Minute)))
	text, err := last.AppendJSON(nil)
	require.NoError(t, err)
	require.True(t, json.Valid(text))
}
