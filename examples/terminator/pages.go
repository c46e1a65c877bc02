package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller"
)

// forceHandler answers POST /force: it applies the change that is refused, or with ?id=ID only the
// change with that ID. It answers clients of this machine alone, since a client that may read
// metrics may not change traffic.
func forceHandler(force func(ctx context.Context, id string) (controller.Attempt, error)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /force", cli.LocalOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Shorter than the write timeout of the server.
		ctx, cancel := context.WithTimeout(r.Context(), 25*time.Second)
		defer cancel()
		attempt, err := force(ctx, r.URL.Query().Get("id"))
		switch {
		case errors.Is(err, controller.ErrBusy):
			http.Error(w, "busy; try again", http.StatusServiceUnavailable)
		case errors.Is(err, controller.ErrUnderway):
			http.Error(w, "it is still being applied; see /readyz", http.StatusAccepted)
		case err != nil:
			http.Error(w, fmt.Sprintf("%s: %v", attempt.Outcome, err), http.StatusConflict)
		default:
			fmt.Fprintln(w, attempt.Outcome)
		}
	})))
	return mux
}
