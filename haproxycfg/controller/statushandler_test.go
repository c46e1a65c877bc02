package controller_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
)

func statusPage(t *testing.T, c *controller.Controller, query string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h := c.StatusHandler("edge-1", nil, func(method, path string) string { return "curl -X " + method + " " + path })
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+query, nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	return w.Body.String()
}

// The page follows the Controller: before the first attempt, after a change, after a refused change,
// and after a change that HAProxy rejects.
func TestStatusHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		w.Dir.Reload = func(context.Context) error { return nil }
		contains := func(query string, parts ...string) {
			t.Helper()
			text := statusPage(t, w.Controller, query)
			for _, part := range parts {
				require.Contains(t, text, part)
			}
		}
		follow(t, w.Controller, func() {
			synctest.Wait()
			contains("", "Not ready: no configuration is in force yet; waiting for eu-1", "has never answered", "knows no routes in force", "Last changes: 0 of 0")

			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			id := report(t, w.Controller).Applied.ID
			contains("", "HAProxy runs configuration <code>"+id+"</code> with 4 servers", "answers", "Last changes: 1 of 1", "reload, first", "Routes: 1<", "Problems: 0<")
			contains("?service=eu-1/shop/web:http", "<code>eu-1.shop.web.http/10.0.0.1:30080</code>", "Nodes in use: 2<", "there is no socket of HAProxy")
			require.Equal(t, "first", w.entries(t)[0].Reload)

			w.eu1.set(t, 30090, "10.0.0.1", "10.0.0.2")
			w.wait()
			entries := w.entries(t)
			require.Equal(t, journal.Refused, entries[1].Result)
			require.Empty(t, entries[1].Reload)
			text := statusPage(t, w.Controller, "")
			require.Contains(t, text, `<p class="command">curl -X POST /force?id=`+entries[1].ID+`</p>`)
			require.NotContains(t, text, "force "+entries[1].ID+"<", "the hint is there twice")
			require.Contains(t, text, "with 4 servers") // the configuration in force

			// An attempt that fails before the limit is asked does not hide how to allow the change.
			fleetFile := filepath.Join(w.Dir.Path, controller.FleetFile)
			require.NoError(t, os.WriteFile(fleetFile, []byte("{"), 0o600))
			w.eu1.set(t, 30090, "10.0.0.1", "10.0.0.2")
			w.wait()
			require.Equal(t, controller.Failed, w.Status().Outcome)
			contains("", "Refused change", "POST /force?id="+entries[1].ID)

			w.broken.Store(true) // first, because the next attempt may begin at once
			require.NoError(t, os.Remove(fleetFile))
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			text = statusPage(t, w.Controller, "")
			require.Contains(t, text, "The last attempt to apply the latest routes and clusters has failed: ")
			require.Contains(t, text, "Change that could not be applied")
			require.NotContains(t, text, "POST /force")

			require.NoError(t, os.WriteFile(filepath.Join(w.Dir.Path, controller.FleetFile), []byte("{"), 0o600))
			contains("", "The holds and shifts cannot be read")
		})
	})
}

func TestStatusHandlerOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		w.Elector = followerElector{}
		w.Dir.Check = nil
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			text := statusPage(t, w.Controller, "")
			require.Contains(t, text, "Another process leads: other")
			require.Contains(t, text, "knows no routes in force")
		})
	})
}

// Entry.Reload is NoReload only if HAProxy got the change over its socket.
func TestReloadInTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t) // without Dir.Reload, HAProxy gets no change from the Controller
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			require.Empty(t, w.entries(t)[0].Reload)
		})
		w = newJournalWorld(t)
		w.Dir.Reload = func(context.Context) error { return errors.New("no") }
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			require.Equal(t, journal.Failed, w.entries(t)[0].Result)
			require.Empty(t, w.entries(t)[0].Reload)
		})
	})
}
