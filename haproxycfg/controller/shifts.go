package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// Shifts returns the shifts in FleetFile, which move requests of routes between clusters; see
// package shift. If SetShifts is replacing the shifts, Shifts waits until SetShifts has made
// HAProxy follow the new shifts, or has failed, but at most 5 s. It implements shift.Control.
func (c *Controller) Shifts() (shift.State, error) {
	c.init()
	timeout := time.NewTimer(5 * time.Second)
	defer timeout.Stop()
	select {
	case c.following <- struct{}{}:
		<-c.following
	case <-timeout.C: // the pages and metrics that show shifts must answer even now
	}
	orders, err := c.orders()
	if err != nil {
		return shift.State{}, err
	}
	return orders.state.Shifts, nil
}

// SetShifts replaces the shifts "last" in Fleet and FleetFile by the shifts "next", and makes
// HAProxy follow the new shifts without a reload. If the present shifts are not equal to "last", it
// changes nothing, and the error wraps shift.ErrConflict. SetShifts implements shift.Control. Call
// it only while Run is running.
//
// SetShifts changes only the shares in the configuration in force, so it also works while a change
// is refused or waits for its reload.
//
// If Fleet cannot be written, SetShifts changes nothing, with one exception: a state "next" that
// only pauses shifts or removes expired shifts takes effect in this process.
func (c *Controller) SetShifts(ctx context.Context, last, next shift.State) error {
	change := func(now fleet.State) (fleet.State, error) {
		if !now.Shifts.Equal(last) {
			return now, shift.ErrConflict
		}
		now.Shifts = next
		return now, nil
	}
	_, err := c.changeOrders(ctx, change)
	if away := (*awayError)(nil); errors.As(err, &away) && last.Withdraws(next, time.Now()) {
		c.logger().Warn("a shift is paused or has ended only here", "err", err)
		_, err = c.changeCopy(ctx, change)
	}
	return err
}

// followShifts makes the running HAProxy use the shares of the new shifts, the argument "next". The
// argument "last" contains the shifts so far.
func (c *Controller) followShifts(ctx context.Context, last, next shift.State) error {
	values := map[string]string{}
	inForce := c.Dir.InForce(edge.Router)
	for _, s := range slices.Concat(last.Shifts, next.Shifts) {
		now, _ := next.Find(s.Route)
		if backend, err := backendOf(inForce, s.Route); err == nil {
			values[backend] = shareOf(now).Value()
		}
	}
	err := errors.Join(
		c.Dir.SetMapValues(ctx, edge.ShiftMap, values),
		c.Dir.SetMapValues(ctx, edge.CloseMap, map[string]string{edge.CloseKey: strconv.Itoa(next.ClosePoints)}),
	)
	c.recordShifts(last, next, err)
	return err
}

// shareOf returns the share of the requests that go to the cluster of the shift s in its present
// step. If no step is in force, shareOf returns the zero Share.
func shareOf(s shift.Shift) edge.Share {
	if len(s.Steps) == 0 {
		return edge.Share{}
	}
	points, ok := s.Points()
	if !ok {
		return edge.Share{}
	}
	return edge.Share{Cluster: s.Cluster, Points: points, Until: s.Until}
}

// addShifts stores the shifts of routes in the edge: in the fields Shares and ClosePoints.
func addShifts(e *edge.Edge, state shift.State) {
	e.ClosePoints = state.ClosePoints
	e.Shares = make(map[string]edge.Share, len(state.Shifts))
	for _, s := range state.Shifts {
		e.Shares[s.Route] = shareOf(s)
	}
}

// backendOf returns the name of the backend to which HAProxy, with the configuration in force, sends
// the requests of a route.
func backendOf(inForce deploy.InForce, route string) (string, error) {
	host, path, exact, err := routes.ParseName(route)
	if err != nil {
		return "", err
	}
	name, ok := inForce.Backend(host, path, exact)
	if !ok {
		return "", fmt.Errorf("there is no route %s", route)
	}
	return name, nil
}

// shiftable is the part of the configuration in force that shifts need.
type shiftable struct {
	inForce deploy.InForce
	parts   map[string]string // the map edge.PartsMap
}

func (c *Controller) shiftable() (shiftable, error) {
	parts, err := c.Dir.MapInForce(edge.PartsMap)
	return shiftable{c.Dir.InForce(edge.Router), parts}, err
}

// partsOf returns the two backends between which a shift divides the requests of a route.
func (s *shiftable) partsOf(route, cluster string) (edge.Parts, error) {
	backend, err := backendOf(s.inForce, route)
	if err != nil {
		return edge.Parts{}, err
	}
	parts, ok := edge.ParseParts(s.parts[backend+"/"+cluster])
	if !ok {
		return edge.Parts{}, fmt.Errorf("%s cannot move to %s: its declaration needs shift: true and a backend in this cluster", route, cluster)
	}
	return parts, nil
}

// check returns an error if no shift can move requests of the route to the cluster. If away is
// true, check instead returns an error if no shift can move requests of the route away from the
// cluster.
func (s *shiftable) check(route, cluster string, away bool) error {
	parts, err := s.partsOf(route, cluster)
	switch {
	case err != nil:
		return err
	case away && s.inForce.Servers(parts.Rest) == 0:
		return fmt.Errorf("%s has no servers outside of %s", route, cluster)
	case !away && s.inForce.Servers(parts.Only) == 0:
		return fmt.Errorf("%s has no servers in %s", route, cluster)
	}
	return nil
}

// CheckShift returns an error if the configuration in force has no route with this name, or if no
// shift can move requests of the route to the cluster. It implements shift.Control.
func (c *Controller) CheckShift(route, cluster string) error {
	s, err := c.shiftable()
	if err != nil {
		return err
	}
	return s.check(route, cluster, false)
}

// ShiftRoutes returns the sorted names of the routes in force whose requests a shift can move from
// the cluster "from" to the cluster "to". If "from" and "to" are the same cluster, these are the
// routes whose requests a shift can move away from this cluster.
//
// The result "left" contains each other route that has a backend in "from" with a weight above 0,
// and the reason why a shift cannot move the route. Assign ShiftRoutes to shift.Runner.Routes, and
// call it only while Run is running.
func (c *Controller) ShiftRoutes(from, to string) (names []string, left []shift.Left, err error) {
	x := c.explained.Load()
	if x == nil {
		return nil, nil, ErrNotExplained
	}
	s, err := c.shiftable()
	if err != nil {
		return nil, nil, err
	}
	declared := x.table.Routes()
	for i := range declared {
		r := &declared[i]
		if !slices.ContainsFunc(r.Backends, func(b routes.Backend) bool { return b.Cluster == from && b.Weight > 0 }) {
			continue
		}
		if err := s.check(r.Name(), to, from == to); err != nil {
			left = append(left, shift.Left{Route: r.Name(), Reason: err.Error()})
			continue
		}
		names = append(names, r.Name())
	}
	slices.Sort(names)
	return names, left, nil
}

// ShiftRunner returns a Runner that carries out the steps of all shifts, and logs each step. See
// ShiftCounters for the argument "worker".
func (c *Controller) ShiftRunner(worker func(context.Context) (runtimeapi.Socket, error)) *shift.Runner {
	last := ""
	return &shift.Runner{
		Control: c, Counters: c.ShiftCounters(worker), Routes: c.ShiftRoutes,
		Changed: func(x shift.Shift) {
			if x.Status == shift.Paused {
				c.logger().Error("shift", "state", x)
				return
			}
			c.logger().Info("shift", "state", x)
		},
		Failed: func(err error) {
			if text := err.Error(); text != last && !errors.Is(err, ErrNotLeading) {
				c.logger().Error("shift", "err", err)
				last = text
			}
		},
	}
}

// ShiftCounters returns a function for shift.Runner.Counters. This function reads the counters of
// the HAProxy worker whose socket "worker" returns; pass the method Worker of a deploy.Runtime. It
// reads the names of backends from the configuration in force, at most once a second. If many
// routes move, the counters may be up to half a second old.
func (c *Controller) ShiftCounters(worker func(context.Context) (runtimeapi.Socket, error)) func(ctx context.Context, route, cluster string) (target, rest shift.Counters, err error) {
	var mu sync.Mutex
	var known shiftable
	var read time.Time
	partsOf := func(route, cluster string) (edge.Parts, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(read) >= time.Second {
			var err error
			if known, err = c.shiftable(); err != nil {
				return edge.Parts{}, err
			}
			read = time.Now()
		}
		return known.partsOf(route, cluster)
	}
	stats := &backendStats{worker: worker, now: time.Now}
	return func(ctx context.Context, route, cluster string) (target, rest shift.Counters, err error) {
		parts, err := partsOf(route, cluster)
		if err != nil {
			return target, rest, err
		}
		for _, b := range []struct {
			name string
			need int
			to   *shift.Counters
		}{{parts.Only, parts.MinOnly, &target}, {parts.Rest, parts.MinRest, &rest}} {
			row, err := stats.get(ctx, b.name)
			if err != nil {
				return target, rest, err
			}
			*b.to = shift.Counters{Errors: row.Responses[5], Up: row.Active, Need: b.need}
			for _, n := range row.Responses {
				b.to.Requests += n
			}
		}
		return target, rest, nil
	}
}
