package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/netserve"
)

// LimitConnections limits the connections of srv to maxConns, and returns a function that wraps a
// listener; srv must serve only wrapped listeners. When a new connection exceeds the limit, srv
// closes a connection of the client address that has the most connections (see
// netserve.HTTPLimiter). The metric headgate_PROGRAM_limited_total counts the closed connections.
func LimitConnections(srv *http.Server, maxConns int, r prometheus.Registerer, program string) func(net.Listener) net.Listener {
	limiter := netserve.NewHTTPLimiter(srv, maxConns)
	for reason, count := range map[string]func() int64{
		"idle": func() int64 { evicted, _ := limiter.Counts(); return evicted },
		"full": func() int64 { _, refused := limiter.Counts(); return refused },
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "headgate_" + program + "_limited_total", ConstLabels: prometheus.Labels{"reason": reason},
			Help: "Connections that were closed because there were too many, by reason: idle (an old connection, to make room) or full (the new connection).",
		}, func() float64 { return float64(count()) }))
	}
	return limiter.Listener
}

// ServeHTTP runs srv on the listeners, with TLS if srv has a TLSConfig, until ctx ends or a
// listener fails. When ctx ends, it waits for running requests at most for the time "grace". If
// requests still run then, it closes their connections and returns an error.
func ServeHTTP(ctx context.Context, srv *http.Server, grace time.Duration, listeners ...net.Listener) error {
	serve := srv.Serve
	if srv.TLSConfig != nil { // decide now: Serve sets a TLSConfig for HTTP/2
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- serve(l) }()
	}
	running := len(listeners)
	var failed error
	select {
	case failed = <-served:
		running--
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	err = errors.Join(failed, err)
	for range running {
		if served := <-served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}
