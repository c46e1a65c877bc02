package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// Shifts returns the shifts in FleetFile. A shift moves the requests of a route from one cluster to
// another; see package shift. While SetShifts replaces the shifts, Shifts waits until HAProxy
// follows the new ones, or until the attempt to make HAProxy follow them has failed, but at most 5
// s. So HAProxy uses the shares that Shifts returns, unless HAProxy does not answer. Shifts
// implements shift.Control.
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

// SetShifts replaces the shifts in Fleet and FleetFile by new ones (the argument "next"), if the
// present shifts are equal to the argument "last". It makes HAProxy follow the new shifts without a
// reload. It changes only the configuration in force and needs no attempt. So it also works while
// the Controller refuses a change, or while a change waits for its reload. It implements
// shift.Control. Call SetShifts only while Run is running.
//
// If Fleet cannot be written, SetShifts changes nothing, with one exception: if the only change is
// that shifts pause because of errors, the new shifts take effect in this process.
func (c *Controller) SetShifts(ctx context.Context, last, next shift.State) error {
	change := func(now fleet.State) (fleet.State, error) {
		if !now.Shifts.Equal(last) {
			return now, shift.ErrConflict
		}
		now.Shifts = next
		return now, nil
	}
	_, err := c.changeOrders(ctx, change)
	if away := (*awayError)(nil); errors.As(err, &away) && onlyPauses(last, next) {
		c.logger().Warn("a shift is paused only here", "err", err)
		_, err = c.changeCopy(ctx, change)
	}
	return err
}

// onlyPauses reports whether the states differ only in shifts that are paused in the state "next".
func onlyPauses(last, next shift.State) bool {
	for _, s := range next.Shifts {
		if s.Status == shift.Paused {
			last = last.With(s)
		}
	}
	return last.Equal(next)
}

// followShifts makes the running HAProxy use the shares of the new shifts, the argument "next". The
// argument "last" contains the shifts so far.
func (c *Controller) followShifts(ctx context.Context, last, next shift.State) error {
	values := map[string]string{}
	for _, s := range slices.Concat(last.Shifts, next.Shifts) {
		now, _ := next.Find(s.Route)
		if backend, err := c.backendInForce(s.Route); err == nil {
			values[backend] = shareOf(now).Value()
		}
	}
	return errors.Join(
		c.Dir.SetMapValues(ctx, edge.ShiftMap, values),
		c.Dir.SetMapValues(ctx, edge.CloseMap, map[string]string{edge.CloseKey: strconv.Itoa(next.ClosePoints)}),
	)
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
	return edge.Share{Cluster: s.Cluster, Points: points}
}

// addShifts stores the shifts of routes in the edge: in the fields Shares and ClosePoints.
func addShifts(e *edge.Edge, state shift.State) {
	e.ClosePoints = state.ClosePoints
	e.Shares = make(map[string]edge.Share, len(state.Shifts))
	for _, s := range state.Shifts {
		e.Shares[s.Route] = shareOf(s)
	}
}

// backendInForce returns the name of the backend to which HAProxy, with the configuration in force,
// sends the requests of a route.
func (c *Controller) backendInForce(route string) (string, error) {
	host, path, exact, err := routes.ParseName(route)
	if err != nil {
		return "", err
	}
	name, ok := c.Dir.InForce(edge.Router).Backend(host, path, exact)
	if !ok {
		return "", fmt.Errorf("there is no route %s", route)
	}
	return name, nil
}

// partsInForce returns the names of the two backends between which a shift divides the requests of
// a route: target has the servers of the cluster, and rest has all other servers of the route.
func (c *Controller) partsInForce(route, cluster string) (target, rest string, err error) {
	backend, err := c.backendInForce(route)
	if err != nil {
		return "", "", err
	}
	parts, err := c.Dir.MapInForce(edge.PartsMap)
	if err != nil {
		return "", "", err
	}
	target, rest, ok := strings.Cut(parts[backend+"/"+cluster], "/")
	if !ok {
		return "", "", fmt.Errorf("%s cannot move to %s: its declaration needs shift: true and a backend in this cluster", route, cluster)
	}
	return target, rest, nil
}

// CheckShift returns an error if the configuration in force has no such route, or if no shift can
// move requests of the route to the cluster. It implements shift.Control.
func (c *Controller) CheckShift(route, cluster string) error {
	target, _, err := c.partsInForce(route, cluster)
	if err == nil && c.Dir.InForce(edge.Router).Servers(target) == 0 {
		err = fmt.Errorf("%s has no servers in %s", route, cluster)
	}
	return err
}

// ShiftCounters returns a function for shift.Runner.Counters. This function gets the socket of the
// present HAProxy worker from the argument "worker", and reads the counters of this HAProxy worker.
// Pass the method Worker of a deploy.Runtime.
func (c *Controller) ShiftCounters(worker func(context.Context) (runtimeapi.Socket, error)) func(ctx context.Context, route, cluster string) (target, rest shift.Counters, err error) {
	return func(ctx context.Context, route, cluster string) (target, rest shift.Counters, err error) {
		targetName, restName, err := c.partsInForce(route, cluster)
		if err != nil {
			return target, rest, err
		}
		socket, err := worker(ctx)
		if err != nil {
			return target, rest, err
		}
		for _, b := range []struct {
			name string
			to   *shift.Counters
		}{{targetName, &target}, {restName, &rest}} {
			row, err := socket.BackendStat(ctx, b.name)
			if err != nil {
				return target, rest, err
			}
			*b.to = shift.Counters{Errors: row.Responses[5]}
			for _, n := range row.Responses {
				b.to.Requests += n
			}
		}
		return target, rest, nil
	}
}
