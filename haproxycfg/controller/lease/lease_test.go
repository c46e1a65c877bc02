package lease

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg/controller"
)

// leaseServer is an API server with one Lease. It does not check versions.
type leaseServer struct {
	mu    sync.Mutex
	lease *coordinationv1.Lease
}

func (s *leaseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet && s.lease == nil {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`))
		return
	}
	if r.Method != http.MethodGet {
		s.lease = &coordinationv1.Lease{}
		if err := json.NewDecoder(r.Body).Decode(s.lease); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	s.lease.Kind, s.lease.APIVersion = "Lease", "coordination.k8s.io/v1"
	_ = json.NewEncoder(w).Encode(s.lease)
}

func (s *leaseServer) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil || s.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *s.lease.Spec.HolderIdentity
}

// TestElectorLeadsAndResigns: if only one process takes part, it leads at once. When its context
// ends, it releases the Lease.
func TestElectorLeadsAndResigns(t *testing.T) {
	api := &leaseServer{}
	server := httptest.NewServer(api)
	defer server.Close()
	elector := &Elector{
		Config:    func() (*rest.Config, error) { return &rest.Config{Host: server.URL}, nil },
		Namespace: "headgate", Name: "terminator", Identity: "self",
	}
	var _ controller.Elector = elector
	ctx, stop := context.WithCancel(t.Context())
	terms := make(chan controller.Term, 1)
	leaders := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		elector.Run(ctx, func(term controller.Term) { terms <- term }, func(name string, self bool) {
			if self {
				name += " (self)"
			}
			leaders <- name
		})
	}()
	require.Equal(t, "", <-leaders)
	term := <-terms
	require.NoError(t, term.Guard())
	require.Equal(t, "self", api.holder())
	require.Equal(t, "self (self)", <-leaders)
	stop()
	<-done
	require.Equal(t, "", api.holder())
	require.Equal(t, "", <-leaders)
	require.Error(t, term.Guard())
	select {
	case <-term.Done:
	case <-time.After(10 * time.Second):
		t.Fatal("Done is open after the end of the term")
	}
}
