package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/examples/internal/systemd"
	"github.com/headgate/headgate/internal/bearer"
)

// Admin serves pages about a long-running binary. /metrics has its metrics. /healthz answers 200
// while the binary makes progress, and otherwise 503. /readyz answers 200 while the binary can do
// its work, and otherwise 503.
type Admin struct {
	// Gatherer collects the metrics for /metrics. If it is nil, /metrics has the metrics of
	// NewRegistry.
	Gatherer prometheus.Gatherer
	// Ready returns nil if the binary can do its work. If Ready returns an error, /readyz answers
	// 503 with this error. If Ready is nil, the binary is always ready. Several goroutines may call
	// Ready.
	Ready func() error
	// Alive returns nil if the binary makes progress. If Alive returns an error or does not return,
	// /healthz answers 503, and the watchdog of systemd restarts the binary. Alive should return
	// soon after ctx has ended. If Alive is nil, Admin calls Ready instead, and only checks that
	// Ready returns. Several goroutines may call Alive.
	Alive func(ctx context.Context) error
	// Detail returns text that /readyz shows below "ok", such as problems that the binary
	// tolerates. If Detail is nil or returns "", /readyz shows only "ok". Several goroutines may
	// call Detail at the same time.
	Detail func() string
	// Extra serves all other paths. If Extra is nil, requests for these paths get 404. GET and HEAD
	// need no token, so Extra must change nothing for these methods.
	Extra http.Handler
	// Token returns the token for the header "Authorization: Bearer TOKEN". Requests over TCP need
	// this token, except GET and HEAD. Requests over a Unix socket need no token. If Token is nil,
	// requests over TCP can only be GET or HEAD. Several goroutines may call Token.
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
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.gatherer(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
		defer cancel()
		if err := a.alive(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
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

func (a Admin) gatherer() prometheus.Gatherer {
	if a.Gatherer == nil {
		return NewRegistry()
	}
	return a.Gatherer
}

// guard returns a handler that passes permitted requests to the next handler.
//
// Over TCP, the header Host must name this machine. Otherwise a web page in an operator's browser
// could read the admin pages by DNS rebinding. guard also refuses a request whose header Origin
// names another site.
//
// A request that changes something needs the token, unless it uses a Unix socket. A local address
// of the client gives no permission, because every program and proxy on this machine has such an
// address.
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

// isOwnHost reports whether the value of a header Host names this machine. If the header is
// missing, isOwnHost returns true: browsers always send the header, so the client is not a browser.
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
	return err == nil && want != "" && bearer.Authorized(r, want)
}

// maxAdminConns is the largest number of connections of the admin listeners. Operators and
// Prometheus need only a few connections.
const maxAdminConns = 256

// Serve serves the pages on the listeners until ctx ends; then it waits up to 2 s for running
// requests. At more than 256 connections, it closes a connection of the client address with the
// most connections (see netserve.HTTPLimiter), and counts it in headgate_admin_limited_total.
//
// Serve also tells systemd whether the binary is ready and makes progress, so call it even without
// listeners. If systemd has passed a socket that nothing has used, Serve returns an error.
func (a Admin) Serve(ctx context.Context, listeners ...net.Listener) error {
	service := systemd.FromContext(ctx)
	if err := service.Unused(); err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var notifying sync.WaitGroup
	notify := a.notify // with the fields as they are now
	notifying.Go(func() { notify(ctx, service) })
	defer notifying.Wait()
	defer cancel()
	listeners = slices.Clone(listeners)
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
	}
	own := prometheus.NewRegistry()
	own.MustRegister(thisBuild().metric())
	limit := LimitConnections(srv, maxAdminConns, own, "admin")
	a.Gatherer = prometheus.Gatherers{a.gatherer(), own}
	srv.Handler = a.Handler()
	for i, l := range listeners {
		listeners[i] = limit(l)
	}
	return ServeHTTP(ctx, srv, 2*time.Second, listeners...)
}
