package controller_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// TestShiftsWhileAChangeIsRefused shifts a route while another change is refused. The share is part
// of the next configuration too, even after a restart.
func TestShiftsWhileAChangeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const route = "www.example.com/"
		old, fresh := newFakeCluster(), newFakeCluster()
		c := newController(t, old)
		c.Clusters = append(c.Clusters, controller.Cluster{Name: "eu-2", Source: fresh})
		table, problems := routes.Parse("routes.yaml", []byte("routes:\n- host: www.example.com\n  shift: true\n  backends:\n"+
			"  - {cluster: eu-1, namespace: shop, service: web, port: http}\n  - {cluster: eu-2, namespace: shop, service: web, port: http, weight: 0}\n"))
		require.Empty(t, problems)
		c.Routes = fakeRoutes{controller.Declarations{Table: table}}
		c.Limit = controller.MaxShare(0.1)
		reloads, sets := 0, []haproxycfg.MapEntry{}
		c.Dir.Reload = func(context.Context) error { reloads++; return nil }
		c.Dir.SetMap = func(_ context.Context, _ string, entries []haproxycfg.MapEntry) error {
			sets = append(sets, entries...)
			return nil
		}
		wait := func() { time.Sleep(2 * time.Second); synctest.Wait() }
		share := func() string {
			values, err := c.Dir.MapInForce(edge.ShiftMap)
			require.NoError(t, err)
			require.Len(t, values, 1)
			for _, v := range values {
				return v
			}
			return ""
		}
		state := shift.State{}
		moved := func(points int) shift.State {
			o, err := shift.ParseOrder(route, "eu-2:100")
			require.NoError(t, err)
			o.Steps = []int{points}
			return state.With(shift.Shift{Order: o, Status: shift.Done})
		}
		follow(t, c, func() {
			old.set(t, 30080, "10.0.0.1", "10.0.0.2")
			fresh.set(t, 30080, "10.1.0.1", "10.1.0.2")
			wait()
			require.Equal(t, "0/-", share())
			require.Error(t, c.CheckShift(route, "eu-3"))
			require.Error(t, c.CheckShift("other.example.com/", "eu-2"))
			require.NoError(t, c.CheckShift(route, "eu-2"))
			require.Equal(t, 1, reloads)

			old.set(t, 30090, "10.0.0.1", "10.0.0.2") // alters most servers
			wait()
			require.Equal(t, controller.Refused, c.Status().Outcome)
			require.NoError(t, c.SetShifts(t.Context(), shift.State{}, moved(2500)))
			require.Equal(t, "2500/eu-2", share())
			require.Len(t, sets, 1)
			got, err := c.Shifts()
			require.NoError(t, err)
			require.Equal(t, 2500, got.Shifts[0].Steps[0])
			wait()
			require.Equal(t, controller.Refused, c.Status().Outcome)
			require.Equal(t, 1, reloads)

			_, err = c.Force(t.Context(), c.Status().Refused.ID)
			require.NoError(t, err)
			require.Equal(t, 2, reloads)
			require.Equal(t, "2500/eu-2", share(), "a reload keeps the share")
			require.Len(t, sets, 1)
			require.ErrorIs(t, c.SetShifts(t.Context(), state, state), shift.ErrConflict)
			require.NoError(t, c.SetShifts(t.Context(), moved(2500), state))
			require.Equal(t, "0/-", share())

			// Nobody sees a share before HAProxy follows it, even if HAProxy answers slowly.
			c.Dir.SetMap = func(context.Context, string, []haproxycfg.MapEntry) error {
				time.Sleep(3 * time.Second)
				return nil
			}
			begin, result := time.Now(), make(chan error, 1)
			go func() { result <- c.SetShifts(t.Context(), state, moved(5000)) }()
			time.Sleep(time.Second)
			got, err = c.Shifts()
			require.NoError(t, err)
			require.Equal(t, 5000, got.Shifts[0].Steps[0])
			require.Equal(t, 3*time.Second, time.Since(begin))
			require.NoError(t, <-result)

			// If HAProxy does not answer, Shifts returns the new shifts after 5 s.
			c.Dir.SetMap = func(context.Context, string, []haproxycfg.MapEntry) error {
				time.Sleep(10 * time.Second)
				return nil
			}
			begin = time.Now()
			go func() { result <- c.SetShifts(t.Context(), moved(5000), moved(4000)) }()
			time.Sleep(time.Second)
			got, err = c.Shifts()
			require.NoError(t, err)
			require.Equal(t, 4000, got.Shifts[0].Steps[0])
			require.Equal(t, 6*time.Second, time.Since(begin))
			require.NoError(t, <-result)
			require.NoError(t, c.SetShifts(t.Context(), moved(4000), moved(5000)))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.SetShifts(ctx, moved(5000), state), controller.ErrBusy, "it does not run any more")

		// Another process, such as "terminator -once", renders the same share.
		require.NoError(t, os.Remove(filepath.Join(c.Dir.Path, "haproxy.cfg")))
		old.set(t, 30090, "10.0.0.1", "10.0.0.2")
		fresh.set(t, 30080, "10.1.0.1", "10.1.0.2")
		change, err := c.Plan(t.Context(), "test")
		require.NoError(t, err)
		_, err = c.Apply(t.Context(), change)
		require.NoError(t, err)
		require.Equal(t, "5000/eu-2", share())

		_, _, err = c.ShiftCounters((&deploy.Runtime{Stats: runtimeapi.Socket{Path: filepath.Join(c.Dir.Path, "nobody")}}).Worker)(t.Context(), route, "eu-2")
		require.Error(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(c.Dir.Path, controller.FleetFile), []byte("{"), 0o600))
		_, err = c.Shifts()
		require.ErrorContains(t, err, controller.FleetFile)
	})
}

// TestShiftForAllRoutesLosesNothing: with "shift: true", a route gets a backend of its own with the
// same servers, so no path and no server is lost, also if the same change adds a cluster. If the
// change also alters the servers, they are lost as usual.
func TestShiftForAllRoutesLosesNothing(t *testing.T) {
	const first = "  - {cluster: eu-1, namespace: shop, service: web, port: http}\n"
	const second = "  - {cluster: eu-2, namespace: shop, service: web, port: http, weight: 0}\n"
	declare := func(fields, backends string) string {
		text := ""
		for _, host := range []string{"a", "b", "c"} {
			text += "- host: " + host + ".example.com\n" + fields + "  backends:\n" + backends
		}
		return text
	}
	for _, tt := range []struct {
		name, before, after string
		refused             bool
	}{
		{"shift", declare("", first+second), declare("  shift: true\n", first+second), false},
		{"no shift any more", declare("  shift: true\n", first+second), declare("", first+second), false},
		{"shift and a new cluster", declare("", first), declare("  shift: true\n", first+second), false},
		{"with a check", declare("  check: {}\n", first+second), declare("  check: {}\n  shift: true\n", first+second), false},
		{"with limits", declare("  limits: {requests: 9}\n", first+second), declare("  limits: {requests: 9}\n  shift: true\n", first+second), false},
		{"shift and another cluster", declare("", first+second), declare("  shift: true\n", second+strings.ReplaceAll(second, "eu-2", "eu-3")), true},
		{"shift and a protocol", declare("", first+second), declare("  shift: true\n  protocol: h2c\n", first+second), true},
		{"fewer routes", declare("", first+second), declare("  shift: true\n", first+second)[:len(declare("  shift: true\n", first+second))/3], true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two, three := newFakeCluster(), newFakeCluster(), newFakeCluster()
				c := newController(t, one)
				c.Clusters = append(c.Clusters, controller.Cluster{Name: "eu-2", Source: two}, controller.Cluster{Name: "eu-3", Source: three})
				declared := &changingRoutes{t: t, next: make(chan controller.Declarations)}
				declared.now = declared.hosts(tt.before)
				c.Routes, c.Limit = declared, controller.MaxShare(0)
				c.Dir.Reload = func(context.Context) error { return nil }
				follow(t, c, func() {
					one.set(t, 30080, "10.0.0.1", "10.0.0.2")
					two.set(t, 30080, "10.1.0.1", "10.1.0.2")
					three.set(t, 30080, "10.2.0.1", "10.2.0.2")
					time.Sleep(2 * time.Second)
					synctest.Wait()
					require.Contains(t, config(t, c), "10.0.0.1:30080")
					before := config(t, c)
					declared.now = declared.hosts(tt.after)
					declared.next <- declared.now
					time.Sleep(2 * time.Second)
					synctest.Wait()
					require.Equal(t, tt.refused, c.Status().Outcome == controller.Refused, "%+v", c.Status())
					require.Equal(t, tt.refused, before == config(t, c))
				})
			})
		})
	}
}
