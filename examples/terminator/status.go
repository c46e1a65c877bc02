package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// status is what /readyz shows.
type status struct {
	mu      sync.Mutex
	state   state
	waited  bool // for all clusters
	leading bool
	leader  string // who leads, if it is another one and known
	inForce bool   // a configuration is
	unsure  bool   // what is on disk may not be, since an attempt has failed
	result  outcome
	err     error // of the last attempt
}

func (s *status) seen(in state, waited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.waited = in, waited
}

func (s *status) applied(o outcome, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result, s.err = o, err
	s.unsure = s.unsure || o == failed
	// What is refused is compared with what is on disk.
	s.inForce = s.inForce || o == written || o == unchanged || o == refused && !s.unsure
}

// forget lets go of the last attempt.
func (s *status) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result, s.err = "", nil
}

func (s *status) leads(yes bool, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading, s.leader = yes, who
}

// ready returns nil once a configuration is in force, and for one that stands by.
func (s *status) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.inForce || !s.leading && s.waited:
		return nil
	case s.err != nil:
		return fmt.Errorf("no configuration is in force: %w", s.err)
	}
	reason := "no configuration is in force yet"
	for i := range s.state.clusters {
		if c := &s.state.clusters[i]; !c.synced {
			reason += "; waiting for " + c.name
		}
	}
	return errors.New(reason)
}

// detail says what is not as it should be though the terminator is ready.
func (s *status) detail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	if !s.leading {
		line := "standing by"
		if s.leader != "" {
			line += "; " + s.leader + " leads"
		}
		lines = append(lines, line)
	}
	for i := range s.state.clusters {
		c := &s.state.clusters[i]
		state := kube.LastKnown
		if !c.synced {
			state = "not seen yet"
		} else if c.err == nil {
			continue
		}
		line := fmt.Sprintf("cluster %s: %s since %s", c.name, state, c.since.UTC().Format(time.RFC3339))
		if c.err != nil {
			line += ": " + c.err.Error()
		}
		lines = append(lines, line)
	}
	if s.err != nil {
		lines = append(lines, fmt.Sprintf("%s: %v", s.result, s.err))
	}
	return strings.Join(lines, "\n")
}

// forceHandler answers POST /force: what is refused is applied. It is for the
// operators of this machine: whoever may read metrics may not do that.
func forceHandler(forced chan<- forceRequest) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /force", cli.LocalOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The answer comes before the server's own time-out of a response.
		ctx, cancel := context.WithTimeout(r.Context(), 25*time.Second)
		defer cancel()
		request := forceRequest{id: r.URL.Query().Get("id"), reply: make(chan forceReply, 1)}
		select {
		case forced <- request:
		case <-ctx.Done():
			http.Error(w, "busy; try again", http.StatusServiceUnavailable)
			return
		}
		select {
		case reply := <-request.reply:
			if reply.err != nil {
				http.Error(w, fmt.Sprintf("%s: %v", reply.outcome, reply.err), http.StatusConflict)
				return
			}
			fmt.Fprintln(w, reply.outcome)
		case <-ctx.Done():
			http.Error(w, "it is still being applied; see /readyz", http.StatusAccepted)
		}
	})))
	return mux
}
