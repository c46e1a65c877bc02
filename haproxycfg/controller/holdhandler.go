package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
)

// holdAnswer is the answer to GET /hold as JSON.
type holdAnswer struct {
	Hold    *kube.Held `json:"hold"` // null without a hold
	Age     float64    `json:"ageSeconds"`
	Pending string     `json:"pending"` // see HoldStatus.Pending
}

// OrderAnswer is the answer to POST /rollback and POST /release as JSON. When a client gets an
// OrderAnswer, its order is stored, and all later configurations follow the order.
type OrderAnswer struct {
	// Outcome is the outcome of the first attempt to apply a configuration that follows the order.
	// If it is Written or Unchanged, the order is in force.
	Outcome Outcome `json:"outcome"`
	// Detail says why the order is not in force yet. It is "" if the order is in force.
	Detail string `json:"detail,omitempty"`
}

// String returns the answer in one line, for people.
func (a OrderAnswer) String() string {
	if a.Detail == "" {
		return "in force"
	}
	return fmt.Sprintf("the order is written, but it is not in force yet: %s: %s", a.Outcome, a.Detail)
}

// HoldHandler returns a handler of these requests:
//
//	GET  /hold                                           Status.Hold as JSON
//	POST /rollback?id=ID&by=NAME&reason=TEXT&force=true  Rollback; each parameter may be missing
//	POST /release?by=NAME                                Release
//
// Each POST answers with an OrderAnswer and status 200 if the order is written. With any other
// status, nothing has changed. The caller must check that the client may make this request.
func (c *Controller) HoldHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hold", func(w http.ResponseWriter, _ *http.Request) {
		var answer holdAnswer
		if h := c.Status().Hold; h != nil {
			answer = holdAnswer{Hold: &h.Held, Age: time.Since(h.Since).Seconds(), Pending: h.Pending}
		}
		writeJSON(w, answer)
	})
	handle := func(path string, do func(context.Context, url.Values) (Attempt, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), forceTimeout)
			defer cancel()
			a, err := do(ctx, r.URL.Query())
			answerOrder(w, a, err)
		})
	}
	handle("/rollback", func(ctx context.Context, q url.Values) (Attempt, error) {
		order := RollbackOrder{ID: q.Get("id"), By: q.Get("by"), Reason: q.Get("reason")}
		if text := q.Get("force"); text != "" {
			var err error
			if order.Force, err = strconv.ParseBool(text); err != nil {
				return Attempt{}, errBadForce
			}
		}
		return c.Rollback(ctx, order)
	})
	handle("/release", func(ctx context.Context, q url.Values) (Attempt, error) { return c.Release(ctx, q.Get("by")) })
	return mux
}

var errBadForce = errors.New("force: want true or false")

func answerOrder(w http.ResponseWriter, a Attempt, err error) {
	if err == nil {
		answer := OrderAnswer{Outcome: a.Outcome}
		if a.Err != nil {
			answer.Detail = a.Err.Error()
		}
		writeJSON(w, answer)
		return
	}
	code := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, errBadForce):
		code = http.StatusBadRequest
	case errors.Is(err, ErrNoRollback), errors.Is(err, ErrNoHold):
		code = http.StatusNotFound
	case errors.Is(err, ErrRollbackRefused):
		code = http.StatusConflict
	}
	http.Error(w, err.Error(), code)
}

func writeJSON(w http.ResponseWriter, answer any) {
	data, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(data, '\n'))
}
