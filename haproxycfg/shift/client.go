package shift

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Client sends requests to the Handler of a Runner in another process. A request fails if it has no
// answer after 30 s.
type Client struct {
	// Do sends a request without a body, and returns the body of the response. It must return an
	// error if the status is not 200.
	Do func(ctx context.Context, method, path string, query url.Values) ([]byte, error)
	// Interval is the time between two requests of Follow. 0 means 500 ms.
	Interval time.Duration
}

// State returns the state of all shifts.
func (c *Client) State(ctx context.Context) (State, error) {
	return c.ask(ctx, http.MethodGet, "/shifts", nil)
}

// Start sends an order to shift requests, and returns the new state of all shifts. See
// Runner.Start.
func (c *Client) Start(ctx context.Context, o Order) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift", o.Query())
}

// Undo gives a route its declared weights again, and returns the new state of all shifts. See
// Runner.Undo.
func (c *Client) Undo(ctx context.Context, route string) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/undo", url.Values{"route": {route}})
}

// Resume continues a paused shift: it begins the failed step of the shift again. It returns the new
// state of all shifts. See Runner.Resume.
func (c *Client) Resume(ctx context.Context, route string) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/resume", url.Values{"route": {route}})
}

// Close makes HAProxy close the client's connection after some responses, and returns the new
// state. The argument "points" is how many of 10,000 responses these are, chosen at random. See
// Runner.Close.
func (c *Client) Close(ctx context.Context, points int) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/close", url.Values{"percent": {FormatPercent(points)}})
}

// Follow requests the state again and again until the shift of a route is done or paused, and
// returns this shift. The argument "begun" is the state that Start or Resume returned. Follow calls
// the function "changed" with the first state of the shift, and then with each state of the shift
// whose String differs from the previous one.
//
// If ctx ends, Follow returns the error of ctx, and the Runner continues the shift. Follow also
// returns an error if somebody undoes the shift or changes its target. So if the error is nil and
// the shift is done, the caller may rely on the target of the shift, for example to switch the old
// cluster off.
func (c *Client) Follow(ctx context.Context, begun State, route string, changed func(Shift)) (Shift, error) {
	first, _ := begun.Find(route)
	last := ""
	for state := begun; ; {
		s, ok := state.Find(route)
		if !ok {
			return Shift{}, errors.New("somebody has undone the shift")
		}
		if s.Cluster != first.Cluster || s.Target() != first.Target() {
			return Shift{}, fmt.Errorf("somebody has changed the shift: %s", s)
		}
		if text := s.String(); text != last {
			changed(s)
			last = text
		}
		if s.Status != Moving {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return Shift{}, ctx.Err()
		case <-time.After(c.interval()):
		}
		next, err := c.State(ctx)
		if ctx.Err() != nil {
			return Shift{}, ctx.Err()
		} else if err != nil {
			return Shift{}, err
		}
		state = next
	}
}

func (c *Client) interval() time.Duration {
	if c.Interval == 0 {
		return 500 * time.Millisecond
	}
	return c.Interval
}

func (c *Client) ask(ctx context.Context, method, path string, query url.Values) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // longer than handlerTimeout
	defer cancel()
	data, err := c.Do(ctx, method, path, query)
	if err != nil {
		return State{}, err
	}
	return ParseState(data)
}
