package controller

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/inputfile"
)

// ShiftsFile is the name of the file with the shifts of routes, which is in the same directory as
// the configuration. It contains a shift.State as JSON. Each attempt reads it, so a restarted
// Controller and the next leader continue with the same shares.
const ShiftsFile = "shifts.json"

// Shifts reads the file ShiftsFile in Dir, and returns the shifts in it. A shift moves the requests
// of a route from one cluster to another; see package shift. Shifts implements shift.Control.
func (c *Controller) Shifts() (shift.State, error) {
	path := filepath.Join(c.Dir.Path, ShiftsFile)
	data, err := inputfile.ReadOptional(path, shift.MaxStateBytes)
	if err != nil {
		return shift.State{}, err
	}
	state, err := shift.ParseState(data)
	if err != nil {
		return shift.State{}, fmt.Errorf("%s: %w", path, err)
	}
	return state, nil
}

// shiftRequest is a request to the loop to put a state of shifts into force. The loop sends the
// error to reply, whose capacity is 1.
type shiftRequest struct {
	state shift.State
	reply chan error
}

// SetShifts writes the shifts of routes to Dir, and makes HAProxy follow them without a reload. It
// changes only the configuration in force and needs no attempt. So it also works while the
// Controller refuses a change, or while a change waits for its reload. It implements shift.Control.
// Call SetShifts only while Run is running.
func (c *Controller) SetShifts(ctx context.Context, state shift.State) error {
	c.init()
	request := shiftRequest{state, make(chan error, 1)}
	select {
	case c.shifted <- request:
	case <-ctx.Done():
		return ErrBusy
	}
	select {
	case err := <-request.reply:
		return err
	case <-ctx.Done():
		return ErrUnderway
	}
}

// setShifts writes the state to Dir, and changes the running HAProxy. The loop calls it between two
// attempts.
func (c *Controller) setShifts(ctx context.Context, state shift.State) error {
	data, err := state.AppendJSON(nil)
	if err != nil {
		return err
	}
	last, err := c.Shifts()
	if err != nil {
		return err
	}
	if _, err := c.Dir.WriteAuxiliary(ctx, haproxycfg.RenderedFile{Name: ShiftsFile, Data: data}); err != nil {
		return err
	}
	values := map[string]string{}
	for _, s := range append(last.Shifts, state.Shifts...) {
		now, _ := state.Find(s.Route)
		if backend, err := c.backendInForce(s.Route); err == nil {
			values[backend] = shareOf(now).Value()
		}
	}
	return errors.Join(
		c.Dir.SetMapValues(ctx, edge.ShiftMap, values),
		c.Dir.SetMapValues(ctx, edge.CloseMap, map[string]string{edge.CloseKey: strconv.Itoa(state.ClosePoints)}),
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

// addShifts reads the shifts of routes from Dir, and stores them in the edge: in the fields Shares
// and ClosePoints.
func (c *Controller) addShifts(e *edge.Edge) error {
	state, err := c.Shifts()
	if err != nil {
		return err
	}
	e.ClosePoints = state.ClosePoints
	e.Shares = make(map[string]edge.Share, len(state.Shifts))
	for _, s := range state.Shifts {
		e.Shares[s.Route] = shareOf(s)
	}
	return nil
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

// ShiftCounters returns a function for shift.Runner.Counters. The function calls worker, and reads
// the counters of the HAProxy worker whose socket worker returns. Pass the method Worker of a
// deploy.Runtime.
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
