package controller_test

import (
	"context"
	"os"
	"path/filepath"
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
