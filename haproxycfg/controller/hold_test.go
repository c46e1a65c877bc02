package controller_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// changingRoutes is a RouteSource whose declarations a test sets.
type changingRoutes struct {
	t    *testing.T
	next chan controller.Declarations
	now  controller.Declarations
}

func (c *changingRoutes) Read() (controller.Declarations, error) { return c.now, nil }

func (c *changingRoutes) Follow(ctx context.Context, publish func(controller.Declarations)) error {
	for {
		select {
		case d := <-c.next:
			publish(d)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hosts returns declarations of one route for each host. The name of the service is the part of the
// host before the first dot.
func (c *changingRoutes) hosts(text string) controller.Declarations {
	table, problems := routes.Parse("routes.yaml", []byte("routes:\n"+text))
	require.Empty(c.t, problems)
	return controller.Declarations{Table: table}
}

func route(host, service string) string {
	return "- host: " + host + "\n  backends:\n  - {cluster: eu-1, namespace: shop, service: " + service + ", port: http}\n"
}

// holdWorld is a Controller with a journal and declarations that change.
type holdWorld struct {
	*journalWorld
	routes *changingRoutes
	loose  atomic.Bool // each change is within the limit
}

func newHoldWorld(t *testing.T, declared string) *holdWorld {
	w := &holdWorld{journalWorld: newJournalWorld(t), routes: &changingRoutes{t: t, next: make(chan controller.Declarations)}}
	w.Limit = func(ch *controller.Change) error {
		if w.loose.Load() {
			return nil
		}
		return controller.MaxShare(0.3)(ch)
	}
	w.routes.now = w.routes.hosts(declared)
	w.Routes = w.routes
	return w
}

// again returns another process for the same directory, with the same declarations.
func (w *holdWorld) again(t *testing.T) *holdWorld {
	next := newHoldWorld(t, "")
	next.Dir.Path, next.Journal.Path, next.routes.now = w.Dir.Path, w.Journal.Path, w.routes.now
	return next
}

func (w *holdWorld) declare(text string) {
	w.routes.now = w.routes.hosts(text)
	w.routes.next <- w.routes.now
	w.wait()
}

// serves reports whether a host has a route in force.
func (w *holdWorld) serves(t *testing.T, host string) bool {
	t.Helper()
	e, err := w.Explain(t.Context(), explainTarget(t, host), nil)
	require.NoError(t, err)
	return e.Route != nil
}

func explainTarget(t *testing.T, host string) explain.Target {
	t.Helper()
	target, err := explain.NewTarget(host, "/")
	require.NoError(t, err)
	return target
}

const (
	wwwRoute = "www.example.com"
	newRoute = "new.example.com"
)

// TestRollback rolls a new route back. The Controller then holds the declarations over changes of the
// declarations, changes of nodes and a restart, until Release.
func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, route(wwwRoute, "web"))
		w.loose.Store(true)
		var held *kube.Held
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			first := w.entries(t)[0]
			require.Len(t, first.Declarations, 16)
			_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
			require.ErrorIs(t, err, controller.ErrNoRollback, "there is nothing before the first change")
			_, err = w.Release(t.Context(), "ada")
			require.ErrorIs(t, err, controller.ErrNoHold)
			require.NoFileExists(t, filepath.Join(w.Dir.Path, controller.FleetFile))

			w.declare(route(wwwRoute, "web") + route(newRoute, "web"))
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			require.Len(t, w.entries(t), 3)
			require.True(t, w.serves(t, newRoute))

			// Rollback skips the change of nodes by default, because this change has the same
			// declarations.
			a, err := w.Rollback(t.Context(), controller.RollbackOrder{By: "ada", Reason: "500s"})
			require.NoError(t, err)
			require.Equal(t, controller.Written, a.Outcome)
			require.False(t, w.serves(t, newRoute))
			require.Contains(t, config(t, w.Controller), "10.0.0.3:30080", "nodes are not rolled back")
			w.wait()
			held = report(t, w.Controller).Held
			require.Equal(t, kube.Held{ID: first.ID, Applied: first.Time, Since: held.Since, By: "ada", Reason: "500s"}, *held)
			last := w.entries(t)[3]
			require.Equal(t, journal.Applied, last.Result)
			require.Equal(t, first.Declarations, last.Declarations)
			require.Contains(t, last.String(), "held since 20")
			require.Contains(t, last.String(), "by ada (500s): the routes of ")
			status := w.Status()
			require.NoError(t, status.Ready())
			require.Equal(t, *held, status.Hold.Held)
			require.Contains(t, status.String(), "by ada (500s)")
			require.Contains(t, status.Hold.Pending, "would change routes: 1 added (new.example.com/); and servers: 0 added, 0 removed, 0 changed")
			e, err := w.Explain(t.Context(), explainTarget(t, newRoute), nil)
			require.NoError(t, err)
			require.Contains(t, string(e.AppendText(nil)), "held since ")
			require.Contains(t, string(e.AppendText(nil)), "the latest declarations have the route new.example.com/ at routes.yaml:5, which is not in force yet")

			// While it holds: newer declarations wait, and nodes and node ports are followed.
			w.declare(route(wwwRoute, "other") + route("third.example.com", "web"))
			require.Len(t, w.entries(t), 4)
			require.Contains(t, w.Status().Hold.Pending, "1 added (third.example.com/), 1 changed (www.example.com/)")
			require.Equal(t, []nodeselect.Ref{{Namespace: "shop", Service: "other", Port: "http"}, {Namespace: "shop", Service: "web", Port: "http"}}, w.eu1.refs)
			w.loose.Store(true)
			w.eu1.set(t, 30090, "10.0.0.4", "10.0.0.5")
			w.wait()
			require.Contains(t, config(t, w.Controller), "10.0.0.4:30090")
			require.NotContains(t, config(t, w.Controller), ":30080")
			require.Contains(t, w.log.String(), "newer declarations are not applied")
		})

		next := w.again(t)
		follow(t, next.Controller, func() {
			next.eu1.set(t, 30090, "10.0.0.4", "10.0.0.5", "10.0.0.6")
			next.wait()
			require.Equal(t, *held, next.Status().Hold.Held, "a hold survives a restart")
			require.True(t, next.serves(t, wwwRoute))
			require.False(t, next.serves(t, "third.example.com"))
			require.Contains(t, next.Status().Hold.Pending, "third.example.com/")

			a, err := next.Release(t.Context(), "bob")
			require.NoError(t, err)
			require.Equal(t, controller.Refused, a.Outcome, "the usual limit: the servers of www.example.com would go")
			require.Nil(t, next.Status().Hold)
			_, err = next.Force(t.Context(), next.Status().Refused.ID)
			require.NoError(t, err)
			next.wait()
			require.True(t, next.serves(t, "third.example.com"))
			require.Nil(t, report(t, next.Controller).Held)
			entries := next.entries(t)
			require.Contains(t, entries[len(entries)-1].String(), "the hold of configuration "+held.ID+" has ended")
		})
	})
}

// TestRollbackTwice: without an ID, a second rollback goes further back. With an ID, it goes to the
// newest change with this ID.
func TestRollbackTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, route(wwwRoute, "web"))
		w.loose.Store(true)
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			w.declare(route(wwwRoute, "web") + route("a.example.com", "web"))
			w.declare(route(wwwRoute, "web") + route("a.example.com", "web") + route("b.example.com", "web"))
			served := func() (served string) {
				for _, host := range []string{wwwRoute, "a.example.com", "b.example.com"} {
					if w.serves(t, host) {
						served += host[:1]
					}
				}
				return served
			}
			require.Equal(t, "wab", served())
			newest := w.entries(t)[2]
			for _, want := range []string{"wa", "w"} {
				_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
				require.NoError(t, err)
				require.Equal(t, want, served())
				w.wait()
			}
			_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
			require.ErrorIs(t, err, controller.ErrNoRollback)
			_, err = w.Rollback(t.Context(), controller.RollbackOrder{ID: "abc"})
			require.ErrorIs(t, err, controller.ErrNoRollback)
			_, err = w.Rollback(t.Context(), controller.RollbackOrder{ID: newest.ID}) // holds the present declarations
			require.NoError(t, err)
			require.Equal(t, "wab", served())
			w.wait()
			require.Empty(t, w.Status().Hold.Pending)
			a, err := w.Release(t.Context(), "")
			require.NoError(t, err)
			require.Equal(t, controller.Unchanged, a.Outcome)
		})
	})
}

// TestRollbackThatIsRefused: Limit and HAProxy judge a rollback before anything changes. Force permits
// the rollback itself, and no later change.
func TestRollbackThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, route(wwwRoute, "web"))
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			w.declare(route(wwwRoute, "web") + route("a.example.com", "web"))
			before := config(t, w.Controller)
			_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
			require.ErrorIs(t, err, controller.ErrRollbackRefused)
			require.ErrorContains(t, err, "50.0% of the hosts")
			w.broken.Store(true)
			_, err = w.Rollback(t.Context(), controller.RollbackOrder{Force: true})
			require.ErrorIs(t, err, controller.ErrRollbackRefused)
			require.ErrorContains(t, err, "HAProxy rejects it")
			w.broken.Store(false)
			_, err = w.Rollback(t.Context(), controller.RollbackOrder{Force: true, By: "a\nb"})
			require.ErrorIs(t, err, controller.ErrRollbackRefused)
			w.wait()
			require.Equal(t, before, config(t, w.Controller))
			require.Nil(t, w.Status().Hold)
			require.Len(t, w.entries(t), 2)

			_, err = w.Rollback(t.Context(), controller.RollbackOrder{Force: true})
			require.NoError(t, err)
			require.False(t, w.serves(t, "a.example.com"))
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			require.Equal(t, controller.Refused, w.Status().Outcome, "the limit of later changes")
		})
	})
}

// TestPlanHolds: "terminator -once" and "terminator -diff" follow a hold too.
func TestPlanHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, route(wwwRoute, "web"))
		packed, err := fleet.Pack(w.routes.now.Table.Routes())
		require.NoError(t, err)
		at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
		text, err := fleet.State{Hold: &fleet.Hold{ID: "abc", Applied: at, Since: at, Routes: packed}}.AppendJSON(nil)
		require.NoError(t, err)
		file := filepath.Join(w.Dir.Path, controller.FleetFile)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		w.routes.now = w.routes.hosts(route(newRoute, "web"))
		w.eu1.set(t, 30080, "10.0.0.1")
		change, err := w.Plan(t.Context(), "test")
		require.NoError(t, err)
		require.Equal(t, "abc", change.Report.Held.ID)
		require.Contains(t, change.Report.Problems[0].Error(), "held since 2026-05-01T12:00:00Z: the routes of 2026-05-01T12:00:00Z, configuration abc")
		require.True(t, change.Report.Problems[0].Warning)
		_, err = w.Apply(t.Context(), change)
		require.NoError(t, err)
		data, err := os.ReadFile(filepath.Join(w.Dir.Path, controller.ReportFile))
		require.NoError(t, err)
		require.Contains(t, string(data), `"held": {`)

		require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
		w.eu1.set(t, 30080, "10.0.0.1")
		_, err = w.Plan(t.Context(), "test")
		require.ErrorContains(t, err, controller.FleetFile)
	})
}

func TestHoldHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, route(wwwRoute, "web"))
		h := w.HoldHandler()
		ask := func(method, target string) (int, string) {
			r := httptest.NewRecorder()
			h.ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), method, target, nil))
			return r.Code, r.Body.String()
		}
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.wait()
			_, body := ask("GET", "/hold")
			require.Contains(t, body, `"hold": null`)
			w.declare(route(wwwRoute, "web") + route("a.example.com", "web"))
			for target, want := range map[string]int{
				"/rollback?force=perhaps": 400, "/rollback?id=abc": 404, "/release": 404, "/rollback": 409,
			} {
				code, body := ask("POST", target)
				require.Equal(t, want, code, body)
			}
			code, body := ask("POST", "/rollback?force=true&by=ada&reason=500s")
			require.Equal(t, 200, code, body)
			require.JSONEq(t, `{"outcome": "written"}`, body)
			w.wait()
			_, body = ask("GET", "/hold")
			var answer struct {
				Hold       kube.Held
				AgeSeconds float64
				Pending    string
			}
			require.NoError(t, json.Unmarshal([]byte(body), &answer))
			require.Equal(t, "ada", answer.Hold.By)
			require.Equal(t, 120.0, answer.AgeSeconds)
			require.Contains(t, answer.Pending, "a.example.com/")
			w.broken.Store(true)
			code, body = ask("POST", "/release")
			require.Equal(t, 200, code, body)
			var order controller.OrderAnswer
			require.NoError(t, json.Unmarshal([]byte(body), &order))
			require.Equal(t, "the order is written, but it is not in force yet: failed: HAProxy rejects it", order.String())
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.Rollback(ctx, controller.RollbackOrder{Force: true})
		require.ErrorIs(t, err, controller.ErrBusy, "it does not run any more")
		w.Journal = nil
		_, err = w.Rollback(t.Context(), controller.RollbackOrder{})
		require.ErrorIs(t, err, controller.ErrNoRollback)
	})
}
