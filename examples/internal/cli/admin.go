package cli

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin serves the pages of a long-running binary for operators and for Kubernetes: /metrics,
// /healthz (the process answers) and /readyz (the binary can do its work).
type Admin struct {
	// Gatherer has the metrics of /metrics. Nil means the metrics of NewRegistry.
	Gatherer prometheus.Gatherer
	// Ready returns nil if the binary can do its work. Otherwise /readyz shows the error with
	// status 503. A nil function means always ready. It is called from many goroutines.
	Ready func() error
	// Detail returns text that /readyz shows below "ok", such as problems that the binary
	// tolerates. A nil function or "" means no text. It is called from many goroutines.
	Detail func() string
	// Extra, if not nil, serves all other paths. Only the methods GET and HEAD reach it without
	// permission, so a handler of these methods must change nothing.
	Extra http.Handler
	// Token returns the token that permits the other methods, as in "Authorization: Bearer TOKEN".
	// Nil means that only requests over a Unix socket may change something. It is called from many
	// goroutines.
	Token func() (string, error)
	// Hosts are the names that the header Host may have, besides IP addresses and localhost.
	Hosts []string
}

// NewRegistry returns a registry with the metrics of the process and the Go runtime.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler returns the handler of the admin pages.
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
	return a.guard(mux)
}

// guard passes the requests that have permission to next.
//
// Every request must name this machine in its header Host, and no foreign page in its header Origin.
// A page in an operator's browser could otherwise read the admin pages after its name has moved to
// an address of this machine (DNS rebinding). A request that changes something also needs the token,
// or comes over a Unix socket: an address alone proves nothing, because other programs of this machine,
// and proxies on it, have it too.
func (a Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		origin := r.Header.Get("Origin")
		switch {
		case !unix && !a.isOwnHost(r.Host):
			http.Error(w, "the header Host must be an IP address, localhost or a name of -admin-host", http.StatusForbidden)
		case origin != "" && !(reads && origin == "http://"+r.Host), !reads && r.Header.Get("Sec-Fetch-Site") != "":
			http.Error(w, "not from a browser", http.StatusForbidden)
		case !reads && !unix && a.Token == nil:
			http.Error(w, "this needs the token of -admin-token-file, or a Unix socket such as -admin unix:/run/admin.sock", http.StatusForbidden)
		case !reads && !unix && !a.hasToken(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "this needs the token of -admin-token-file", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isOwnHost reports whether a header Host names this machine. No browser leaves the header out.
func (a Admin) isOwnHost(host string) bool {
	name := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(name); err == nil || host == "" {
		return true
	}
	name = strings.TrimSuffix(name, ".")
	return slices.ContainsFunc(append([]string{"localhost"}, a.Hosts...), func(own string) bool {
		return strings.EqualFold(name, strings.TrimSuffix(own, "."))
	})
}

func (a Admin) hasToken(r *http.Request) bool {
	want, err := a.Token()
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err != nil || want == "" || !ok {
		return false
	}
	// Hashes have the same length, so that the time of the comparison does not show the length.
	x, y := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Serve serves the listeners until ctx ends. Then it waits up to 2 s for running requests. It closes
// the listeners.
func (a Admin) Serve(ctx context.Context, listeners ...net.Listener) error {
	srv := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- srv.Serve(l) }()
	}
	running := len(listeners)
	var failed error
	select {
	case failed = <-served:
		running--
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := errors.Join(failed, srv.Shutdown(stop))
	for range running {
		if served := <-served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}
