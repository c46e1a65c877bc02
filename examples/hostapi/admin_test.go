package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// fakeLocks are two locks that are free when their channels are closed.
type fakeLocks struct{ hosts, waiting chan struct{} }

func (f fakeLocks) Hosts() *hostlookup.Hosts { <-f.hosts; return nil }
func (f fakeLocks) Waiting() int             { <-f.waiting; return 0 }

func TestHealthzFindsAnAPIThatIsStuck(t *testing.T) {
	ready := make(chan struct{}) // an API that is not ready makes progress, too
	healthz := func(ctx context.Context, api locks) (int, string) {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/healthz", nil)
		w := httptest.NewRecorder()
		newAdmin(t.Context(), newMetrics(), ready, api).Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"hosts", "waiting"} {
		held, free := make(chan struct{}), make(chan struct{})
		close(free)
		api := fakeLocks{held, free}
		if name == "waiting" {
			api = fakeLocks{free, held}
		}
		code, body := healthz(ended, api)
		require.Equal(t, http.StatusServiceUnavailable, code, name)
		require.Contains(t, body, "a lock of the API is not released", name)
		close(held)
		code, body = healthz(t.Context(), api)
		require.Equal(t, http.StatusOK, code, "%s: %s", name, body)
	}
	code, body := healthz(t.Context(), &httpapi.Handler{})
	require.Equal(t, http.StatusOK, code, body)
}
