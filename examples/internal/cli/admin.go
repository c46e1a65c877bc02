package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin serves what operators and orchestrators ask of a long-lived binary:
// /metrics, /healthz (the process answers) and /readyz (it can do its work).
type Admin struct {
	// Gatherer is what /metrics shows. Nil: the process and Go runtime alone.
	Gatherer prometheus.Gatherer
	// Ready returns nil when the binary can do its work, else the reason that
	// /readyz shows with status 503. Nil: always ready. It is called from many
	// goroutines.
	Ready func() error
	// Detail returns what /readyz shows beside its ok, such as what the binary does
	// without for the moment. Nil, or "": nothing. It is called from many goroutines.
	Detail func() string
	// Extra answers what is none of the three, if it is not nil.
	Extra http.Handler
}

// NewRegistry returns a registry that holds the process and Go runtime collectors.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler returns the admin pages.
func (a Admin) Handler() http.Handler {
	gatherer := a.Gatherer
	if gatherer == nil {
		gatherer = NewRegistry()
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if a.Ready != nil {
			if err := a.Ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
		if a.Detail != nil {
			if detail := a.Detail(); detail != "" {
				fmt.Fprintln(w, detail)
			}
		}
	})
	if a.Extra != nil {
		mux.Handle("/", a.Extra)
	}
	return mux
}

// Serve answers on l until ctx ends, then lets running requests finish for a
// moment. It closes l.
func (a Admin) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
