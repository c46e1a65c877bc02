package shift

import (
	"cmp"
	"context"
	"encoding/json"
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

// Start sends an order for a route or, if Order.From is set, for all routes of a cluster. It returns
// the new state of all shifts, and the routes of the cluster that do not move. See Runner.Start and
// Runner.StartCluster.
func (c *Client) Start(ctx context.Context, o Order) (State, []Left, error) {
	data, err := c.send(ctx, http.MethodPost, "/shift", o.Query())
	if err != nil {
		return State{}, nil, err
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return State{}, nil, fmt.Errorf("shift: answer: %w", err)
	}
	return a.State, a.Left, nil
}

// Undo gives a route its declared weights again, and returns the new state of all shifts. If route
// is empty, it does this for the routes that an order for the whole cluster has moved. See
// Runner.Undo and Runner.UndoCluster.
func (c *Client) Undo(ctx context.Context, route, cluster string) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/undo", subject(route, cluster))
}

// Resume continues a paused shift with the step that failed, and returns the new state of all
// shifts. If route is empty, it resumes the routes that an order for the whole cluster has moved.
func (c *Client) Resume(ctx context.Context, route, cluster string) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/resume", subject(route, cluster))
}

// subject returns the query for a route or, if route is empty, for a cluster.
func subject(route, cluster string) url.Values {
	if route == "" {
		return url.Values{"cluster": {cluster}}
	}
	return url.Values{"route": {route}}
}

// Close makes HAProxy close the client's connection after some responses, and returns the new
// state. The argument "points" is how many of 10,000 responses these are, chosen at random. See
// Runner.Close.
func (c *Client) Close(ctx context.Context, points int) (State, error) {
	return c.ask(ctx, http.MethodPost, "/shift/close", url.Values{"percent": {FormatPercent(points)}})
}

// Follow polls the state until the shift of a route, or of all routes that an order for the cluster
// has moved, is done or paused. begun is the result of Start or Resume. Follow calls changed with
// the first state of each shift, and with each state whose String differs from the last one.
//
// Follow returns an error if a shift expires, if somebody undoes it or changes its target, or if
// ctx ends. The Runner continues the shift after the end of ctx.
func (c *Client) Follow(ctx context.Context, begun State, route, cluster string, changed func(Shift)) (Status, error) {
	var shifts []Shift
	for _, s := range begun.Shifts {
		if s.Concerns(route, cluster) {
			shifts = append(shifts, s)
		}
	}
	if len(shifts) == 0 {
		return "", fmt.Errorf("somebody has undone the shift of %s", cmp.Or(route, cluster))
	}
	return c.follow(ctx, begun, shifts, changed)
}

func (c *Client) follow(ctx context.Context, state State, begun []Shift, changed func(Shift)) (Status, error) {
	last := make([]string, len(begun))
	for {
		moving, paused := false, false
		for i, first := range begun {
			s, ok := state.Find(first.Route)
			switch {
			case !ok && !time.Now().Before(first.Expires()):
				return "", fmt.Errorf("the shift has expired: %s", first.Route)
			case !ok:
				return "", fmt.Errorf("somebody has undone the shift of %s", first.Route)
			case s.Cluster != first.Cluster || s.Target() != first.Target():
				return "", fmt.Errorf("somebody has changed the shift: %s", s)
			}
			if text := s.String(); text != last[i] {
				changed(s)
				last[i] = text
			}
			moving, paused = moving || s.Status == Moving, paused || s.Status == Paused
		}
		switch {
		case paused:
			return Paused, nil
		case !moving:
			return Done, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(c.interval()):
		}
		next, err := c.State(ctx)
		if ctx.Err() != nil {
			return "", ctx.Err()
		} else if err != nil {
			return "", err
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

func (c *Client) send(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // longer than handlerTimeout
	defer cancel()
	return c.Do(ctx, method, path, query)
}

func (c *Client) ask(ctx context.Context, method, path string, query url.Values) (State, error) {
	data, err := c.send(ctx, method, path, query)
	if err != nil {
		return State{}, err
	}
	return ParseState(data)
}
