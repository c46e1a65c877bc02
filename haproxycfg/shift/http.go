package shift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Handler returns a handler of these requests:
//
//	GET  /shifts                                              the State as JSON
//	POST /shift?route=ROUTE&to=CLUSTER:PERCENT&for=2h         Runner.Start; see Order.Query
//	POST /shift/undo?route=ROUTE                              Runner.Undo
//	POST /shift/resume?route=ROUTE                            Runner.Resume
//	POST /shift/close?percent=PERCENT                         Runner.Close
//
// In the first three POST requests, cluster=CLUSTER may replace route=ROUTE; see
// Runner.StartCluster. Each POST answers with the State as JSON; after an order for a cluster,
// "left" lists the routes that do not move.
//
// The status is 400 if the Handler cannot parse the request, 409 if the request does not fit the
// current state, and 502 if the change fails. The caller must check that the client may change
// shifts. The function "name", which may be nil, returns the normal form of the name of a route.
func (r *Runner) Handler(name func(string) (string, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shifts", func(w http.ResponseWriter, _ *http.Request) { r.answer(w, nil, nil) })
	handle := func(path string, do func(ctx context.Context, route string, q url.Values) ([]Left, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
			q := req.URL.Query()
			route := q.Get("route")
			if name != nil && route != "" {
				var err error
				if route, err = name(route); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
			}
			ctx, cancel := context.WithTimeout(req.Context(), handlerTimeout)
			defer cancel()
			left, err := do(ctx, route, q)
			r.answer(w, left, err)
		})
	}
	handle("/shift", func(ctx context.Context, route string, q url.Values) ([]Left, error) {
		o, err := ParseQuery(route, q)
		switch {
		case err != nil:
			return nil, badRequest{err}
		case o.From != "":
			return r.StartCluster(ctx, o)
		}
		return nil, r.Start(ctx, o)
	})
	handle("/shift/undo", func(ctx context.Context, route string, q url.Values) ([]Left, error) {
		if from := q.Get("cluster"); from != "" && route == "" {
			return nil, r.UndoCluster(ctx, from)
		}
		return nil, r.Undo(ctx, route)
	})
	handle("/shift/resume", func(ctx context.Context, route string, q url.Values) ([]Left, error) {
		if from := q.Get("cluster"); from != "" && route == "" {
			return nil, r.ResumeCluster(ctx, from)
		}
		return nil, r.Resume(ctx, route)
	})
	handle("/shift/close", func(ctx context.Context, _ string, q url.Values) ([]Left, error) {
		points, err := ParsePercent(q.Get("percent"))
		if err != nil {
			return nil, badRequest{err}
		}
		return nil, r.Close(ctx, points)
	})
	return mux
}

// handlerTimeout is the longest time for which a request waits until the shift is stored and
// HAProxy has the new share. It is shorter than the usual write timeout of a server, so the client
// still gets an answer.
const handlerTimeout = 25 * time.Second

// badRequest is the error of a request that the Handler cannot parse.
type badRequest struct{ error }

// answer is the JSON of a response.
type answer struct {
	State
	Left []Left `json:"left,omitempty"`
}

// answer writes the response: the state as JSON if err is nil, and otherwise the error.
func (r *Runner) answer(w http.ResponseWriter, left []Left, err error) {
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case errors.Is(err, ErrRefused):
		http.Error(w, err.Error(), http.StatusConflict)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	state, err := r.Control.Shifts()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	data, err := state.AppendJSON(nil)
	if err == nil && len(left) > 0 {
		data, err = json.MarshalIndent(answer{state, left}, "", "  ")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

// Query returns the query of POST /shift for the order. ParseQuery parses such a query.
func (o Order) Query() url.Values {
	steps := ""
	for i, s := range o.Steps {
		if i > 0 {
			steps += ","
		}
		steps += FormatPercent(s)
	}
	q := url.Values{
		"to": {o.Cluster + ":" + FormatPercent(o.Target())}, "steps": {steps}, "for": {time.Duration(o.For).String()},
		"hold": {time.Duration(o.Hold).String()}, "max-errors": {FormatPercent(o.MaxErrors)},
		"min-requests": {strconv.Itoa(o.MinRequests)},
	}
	if o.From != "" {
		q.Set("cluster", o.From)
	} else {
		q.Set("route", o.Route)
	}
	return q
}

// ParseQuery parses the query of POST /shift as an Order for the route, and ignores "route" in it.
// The query must contain "to", "for" and, if route is empty, "cluster" (the field From). The other
// parameters have the defaults of ParseOrder.
func ParseQuery(route string, q url.Values) (Order, error) {
	from := ""
	if route == "" {
		from = q.Get("cluster")
	}
	o, err := ParseOrder(cmp.Or(route, from), q.Get("to"))
	if err != nil {
		return o, err
	}
	o.From = from
	length, err := time.ParseDuration(q.Get("for"))
	if err != nil {
		return o, fmt.Errorf("shift: for: %q: want the time after which the shift ends, such as 2h", q.Get("for"))
	}
	o.For = Duration(length)
	if text := q.Get("steps"); text != "" {
		steps, err := ParseSteps(text)
		if err != nil {
			return o, err
		}
		o = o.WithSteps(steps, o.Steps[len(o.Steps)-1])
	}
	if text := q.Get("hold"); text != "" {
		hold, err := time.ParseDuration(text)
		if err != nil {
			return o, fmt.Errorf("shift: hold: %w", err)
		}
		o.Hold = Duration(hold)
	}
	if text := q.Get("max-errors"); text != "" {
		if o.MaxErrors, err = ParsePercent(text); err != nil {
			return o, err
		}
	}
	if text := q.Get("min-requests"); text != "" {
		if o.MinRequests, err = strconv.Atoi(text); err != nil {
			return o, fmt.Errorf("shift: min-requests: %w", err)
		}
	}
	if err := o.checkNew(); err != nil {
		return o, fmt.Errorf("shift: %w", err)
	}
	if from != "" {
		o.Route = ""
	}
	return o, nil
}
