package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Errors of Force when its context ends.
var (
	// ErrBusy means that the forced change was not applied and will not be applied: Run is not
	// running, or another attempt to apply a configuration took so long that no time was left for
	// the forced attempt.
	ErrBusy = errors.New("controller: busy with another attempt")
	// ErrUnderway means that the attempt to apply the forced change has begun but not ended. The
	// attempt continues, and Status shows its outcome later.
	ErrUnderway = errors.New("controller: the attempt is not over yet")
)

// Force makes an attempt to apply the latest routes and clusters, and returns its error. If the
// change has the ID "id" (Refused.ID of the report), Force applies it even if Limit rejects it.
// With an empty id, Limit decides. Call Force only while Run is running.
func (c *Controller) Force(ctx context.Context, id string) (Attempt, error) {
	c.init()
	request := forceRequest{id: id, reply: make(chan Attempt, 1)}
	select {
	case c.forced <- request:
	case <-ctx.Done():
		return Attempt{}, ErrBusy
	}
	select {
	case a := <-request.reply:
		return a, a.Err
	case <-ctx.Done():
		return Attempt{}, ErrUnderway
	}
}

// forceTimeout limits how long ForceHandler waits for the attempt to apply the forced change. It is
// shorter than the usual write timeout of a server, so that the client gets an answer.
const forceTimeout = 25 * time.Second

// ForceHandler returns a handler of POST /force?id=ID. It calls Force and answers with the outcome.
// Without an ID, Limit decides; if Limit rejects the change, the status is 400, and the answer
// contains the ID. The caller must check that the client may make this request.
func (c *Controller) ForceHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /force", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		id := query.Get("id")
		if query.Has("id") && id == "" {
			http.Error(w, "the ID is empty", http.StatusBadRequest)
			return
		}
		c.logger().Info("force", "id", id)
		ctx, cancel := context.WithTimeout(r.Context(), forceTimeout)
		defer cancel()
		attempt, err := c.Force(ctx, id)
		var waiting *Waiting
		switch {
		case errors.As(err, &waiting):
			http.Error(w, fmt.Sprintf("the change is permitted, but %v; see /readyz", waiting), http.StatusAccepted)
		case errors.Is(err, ErrBusy):
			http.Error(w, "busy; try again", http.StatusServiceUnavailable)
		case errors.Is(err, ErrUnderway):
			http.Error(w, "it is still being applied; see /readyz", http.StatusAccepted)
		case id == "" && attempt.Outcome == Refused:
			http.Error(w, fmt.Sprintf("a change is refused, and POST /force needs its ID: %v", err), http.StatusBadRequest)
		case err != nil:
			http.Error(w, fmt.Sprintf("%s: %v", attempt.Outcome, err), http.StatusConflict)
		default:
			fmt.Fprintln(w, attempt.Outcome)
		}
	})
	return mux
}
