package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// journalWorld is a Controller with a journal. HAProxy rejects each change while broken is true.
type journalWorld struct {
	*controller.Controller
	eu1    *fakeCluster
	log    *logText
	broken atomic.Bool
}

func newJournalWorld(t *testing.T) *journalWorld {
	eu1 := newFakeCluster()
	w := &journalWorld{Controller: newController(t, eu1), eu1: eu1, log: &logText{}}
	w.Journal = &journal.Dir{Path: filepath.Join(w.Dir.Path, "journal")}
	w.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	w.ForceHint = func(id string) string { return "force " + id }
	w.Dir.Check = func(context.Context, haproxycfg.Valid) error {
		if w.broken.Load() {
			return errors.New("HAProxy rejects it")
		}
		return nil
	}
	return w
}

// again returns another process for the same directory.
func (w *journalWorld) again(t *testing.T) *journalWorld {
	next := newJournalWorld(t)
	next.Dir.Path, next.Journal.Path = w.Dir.Path, w.Journal.Path
	return next
}

// wait waits for several attempts.
func (w *journalWorld) wait() { time.Sleep(2 * time.Minute); synctest.Wait() }

// entries returns the entries of the journal, the oldest first.
func (w *journalWorld) entries(t *testing.T) []journal.Entry {
	t.Helper()
	entries, problems, err := w.Journal.List()
	require.NoError(t, err)
	require.Empty(t, problems)
	return entries
}

// results returns the results of the entries.
func (w *journalWorld) results(t *testing.T) string {
	t.Helper()
	var list []string
	for _, e := range w.entries(t) {
		list = append(list, string(e.Result))
	}
	return strings.Join(list, " ")
}

// TestJournal applies a change, then Limit refuses one, and then HAProxy rejects one. The journal has
// one entry for each of them, although the Controller tries the last two again and again.
func TestJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		var begun time.Time
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			begun = time.Now()
			w.wait()
			first := w.entries(t)
			require.Len(t, first, 1)
			require.Equal(t, journal.Applied, first[0].Result)
			require.Equal(t, []kube.Cause{{What: "started"}}, first[0].Changes.Causes)
			require.Equal(t, report(t, w.Controller).Applied.ID, first[0].ID)
			require.Contains(t, first[0].Diff, "+ backend eu-1.shop.web.http")
			require.WithinDuration(t, begun, first[0].Time, 20*time.Second)
			require.Empty(t, first[0].Allow)

			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			second := w.entries(t)[1]
			require.Equal(t, journal.Applied, second.Result)
			require.Equal(t, []kube.Cause{{Cluster: "eu-1", Object: "Node n10.0.0.3", What: "added"}}, second.Changes.Causes)
			require.Equal(t, []string{"n10.0.0.3"}, second.Changes.Services[0].Enter)
			require.Contains(t, second.Diff, "10.0.0.3:30080")

			w.eu1.set(t, 30090, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			refused := w.entries(t)[2]
			require.Equal(t, journal.Refused, refused.Result)
			require.Equal(t, w.Status().Refused.ID, refused.ID)
			require.Contains(t, refused.Changes.Reason, "the limit is 30.0%")
			require.Contains(t, refused.Changes.Causes, kube.Cause{Cluster: "eu-1", Object: "Service shop/web", What: "spec.ports"})
			require.Contains(t, refused.Diff, "10.0.0.1:30080")
			require.Equal(t, "force "+refused.ID, refused.Allow)
			require.Equal(t, "applied applied refused", w.results(t), "a repeated attempt makes no entry")

			w.broken.Store(true)
			_, err := w.Force(t.Context(), refused.ID)
			require.Error(t, err)
			failed := w.entries(t)[3]
			require.Equal(t, journal.Failed, failed.Result)
			require.Equal(t, refused.ID, failed.ID)
			require.Contains(t, failed.Changes.Reason, "HAProxy rejects it")
			require.Equal(t, refused.Diff, failed.Diff)
			require.Empty(t, failed.Allow)
			w.broken.Store(false)
			_, err = w.Force(t.Context(), refused.ID)
			require.NoError(t, err)
			last := w.entries(t)[4]
			require.Equal(t, journal.Applied, last.Result)
			require.Equal(t, refused.ID, last.ID)
			require.Zero(t, w.Status().JournalErrors)
			w.wait()
			require.Len(t, w.entries(t), 5)

			// The journal says what was in force between the changes.
			entries := w.entries(t)
			target := explain.Target{Host: "www.example.com", Path: "/a"}
			for i, nodes := range []int{2, 3, 3, 3, 3} {
				e, err := w.ExplainAt(entries[i].Time, target)
				require.NoError(t, err)
				require.True(t, e.InForce)
				require.Equal(t, "routes.yaml", e.Route.File)
				require.Equal(t, 2, e.Route.Line)
				require.Lenf(t, e.Services[0].Nodes, nodes, "after entry %d", i)
				require.Equal(t, map[bool]string{true: "10.0.0.1:30080", false: "10.0.0.1:30090"}[i < 4], e.Services[0].Nodes[0].Servers[0].Name)
				require.Equal(t, "the journal does not contain them", e.HAProxy)
				require.Equal(t, i == 2 || i == 3, e.Refused != nil)
			}
			_, err = w.ExplainAt(begun.Add(-time.Hour), target)
			require.ErrorIs(t, err, journal.ErrUnknown)
		})
	})
}

// TestJournalAfterARestart: a process that finds its configuration in force makes an entry only if
// the journal does not contain this configuration.
func TestJournalAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		run := func(nodePort int) {
			follow(t, w.Controller, func() { w.eu1.set(t, nodePort, "10.0.0.1"); w.wait() })
			w = w.again(t)
		}
		run(30080)
		run(30080)
		require.Equal(t, "applied", w.results(t))
		run(30090)
		run(30090)
		require.Equal(t, "applied refused", w.results(t), "the other process has recorded this refusal")
		run(30080)
		require.Equal(t, "applied refused", w.results(t))

		w.eu1.set(t, 30090, "10.0.0.1")
		w.ForceFirst = true
		ch, err := w.Plan(t.Context(), "a test")
		require.NoError(t, err)
		_, err = w.Apply(t.Context(), ch) // makes no entry
		require.NoError(t, err)
		w = w.again(t)
		run(30090)
		require.Equal(t, "applied refused applied", w.results(t))
		last := w.entries(t)[2]
		require.Equal(t, []kube.Cause{{What: "found in force"}}, last.Changes.Causes)
		require.Equal(t, ch.ID(), last.ID)
		require.Empty(t, last.Diff)
	})
}

// TestJournalOfARefusalThatReturns: a change that was refused, has disappeared and is refused again
// makes a second entry. A reason that changes with each attempt does not.
func TestJournalOfARefusalThatReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		attempt := 0
		w.Limit = func(ch *controller.Change) error {
			if ch.Losses.Servers.Lost > 0 {
				attempt++
				return errors.New(strings.Repeat("x", attempt))
			}
			return nil
		}
		follow(t, w.Controller, func() {
			for _, nodePort := range []int{30080, 30090, 30080, 30090} {
				w.eu1.set(t, nodePort, "10.0.0.1")
				w.wait()
			}
			require.Greater(t, attempt, 4)
			require.Equal(t, "applied refused refused", w.results(t))
		})
	})
}

// TestJournalThatCannotBeWritten: each change is applied. The error is logged once and counted, and
// the journal has an entry when it can be written again.
func TestJournalThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		require.NoError(t, os.WriteFile(w.Journal.Path, nil, 0o600))
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			require.Contains(t, config(t, w.Controller), "10.0.0.2:30080")
			require.NoError(t, w.Status().Ready())
			require.Equal(t, controller.Unchanged, w.Status().Outcome)
			require.Greater(t, w.Status().JournalErrors, 1)
			require.Equal(t, 1, strings.Count(w.log.String(), "the change is not in the journal"))

			require.NoError(t, os.Remove(w.Journal.Path))
			w.wait()
			require.Equal(t, "applied", w.results(t))
			before := w.Status().JournalErrors
			w.wait()
			require.Equal(t, before, w.Status().JournalErrors)
		})
	})
}

// TestJournalWithADamagedEntry: the Controller logs the entry, and uses the others.
func TestJournalWithADamagedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		follow(t, w.Controller, func() { w.eu1.set(t, 30080, "10.0.0.1"); w.wait() })
		bad := filepath.Join(w.Journal.Path, time.Now().UTC().Format("20060102T150405.000")+"Z.entry")
		require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
		w = w.again(t)
		follow(t, w.Controller, func() { w.eu1.set(t, 30080, "10.0.0.1"); w.wait() })
		require.Contains(t, w.log.String(), "an entry of the journal cannot be read")
		entries, problems, err := w.Journal.List()
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Len(t, problems, 1)
		e, err := w.ExplainAt(time.Now(), www)
		require.NoError(t, err)
		require.Contains(t, strings.Join(e.Notes, "\n"), "an entry of the journal cannot be read, and may have changed this: "+filepath.Base(bad))
	})
}

// TestNoEntryWithoutTheLead: a process that does not lead writes nothing to the journal.
func TestNoEntryWithoutTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		w.Elector = followerElector{}
		follow(t, w.Controller, func() { w.eu1.set(t, 30080, "10.0.0.1"); w.wait() })
		require.NoDirExists(t, w.Journal.Path)
	})
}

func TestJournalHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		get := func(path string) (code int, body string) {
			rec := httptest.NewRecorder()
			handler := w.JournalHandler()
			if strings.HasPrefix(path, "/explain") {
				handler = w.ExplainHandler(nil)
			}
			handler.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
			return rec.Code, rec.Body.String()
		}
		code, body := get("/journal")
		require.Equal(t, http.StatusOK, code)
		require.Empty(t, body)
		code, body = get("/journal?format=json")
		require.Equal(t, http.StatusOK, code)
		require.JSONEq(t, `{"entries": [], "problems": []}`, body)
		code, _ = get("/journal?format=xml")
		require.Equal(t, http.StatusBadRequest, code)

		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			w.eu1.set(t, 30090, "10.0.0.1", "10.0.0.2")
			w.wait()
			refused := w.Status().Refused.ID
			code, body = get("/journal")
			require.Equal(t, http.StatusOK, code)
			lines := strings.Split(body, "\n")
			require.Len(t, lines, 3)
			require.Contains(t, lines[0], " refused "+refused+": 2 added, 2 removed, 0 changed servers; eu-1: Service shop/web: spec.ports: ")
			require.Contains(t, lines[0], "; force "+refused)
			require.Contains(t, lines[1], " applied ")
			require.Contains(t, lines[1], "; started")
			code, body = get("/journal?format=json")
			require.Equal(t, http.StatusOK, code)
			var list struct{ Entries []journal.Entry }
			require.NoError(t, json.Unmarshal([]byte(body), &list))
			require.Equal(t, refused, list.Entries[0].ID)
			require.Equal(t, journal.Applied, list.Entries[1].Result)

			code, body = get("/explain?host=www.example.com&at=10s")
			require.Equal(t, http.StatusOK, code, body)
			require.Contains(t, body, "declared at routes.yaml:2")
			require.Contains(t, body, "note: this was in force at ")
			require.Contains(t, body, "10.0.0.1:30080")
			at := url.QueryEscape(list.Entries[1].Time.Format(time.RFC3339Nano))
			code, body = get("/explain?host=www.example.com&format=json&at=" + at)
			require.Equal(t, http.StatusOK, code, body)
			var e explain.Explanation
			require.NoError(t, json.Unmarshal([]byte(body), &e))
			require.Equal(t, list.Entries[1].ID, e.Applied.ID)
			code, body = get("/explain?host=www.example.com&at=100h")
			require.Equal(t, http.StatusNotFound, code)
			require.Contains(t, body, "the oldest entry is of ")
			code, body = get("/explain?host=www.example.com&at=soon")
			require.Equal(t, http.StatusBadRequest, code)
			require.Contains(t, body, "at: ")
		})
		require.NoError(t, os.RemoveAll(w.Journal.Path))
		require.NoError(t, os.WriteFile(w.Journal.Path, nil, 0o600))
		code, body = get("/journal")
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, body, "journal: ")
		w.Journal = nil
		code, body = get("/explain?host=www.example.com&at=1s")
		require.Equal(t, http.StatusNotFound, code)
		require.Contains(t, body, "there is no journal")
	})
}
