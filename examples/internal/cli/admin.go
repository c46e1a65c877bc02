package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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
	// status
	// 503. A nil function means always ready. It is called from many goroutines.
	Ready func() error
	// Detail returns text that /readyz shows below "ok", such as problems that the binary
	// tolerates. A nil function or "" means no text. It is called from many goroutines.
	Detail func() string
	// Extra, if not nil, serves all other paths.
	Extra http.Handler
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
	return mux
}

// Serve serves l until ctx ends. Then it waits up to 2 s for running requests. It closes l.
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

// LocalOnly passes only requests from this machine to next, and answers 403 to all others: the
// network may read metrics, but only operators of the machine may change something. LocalOnly also
// refuses browsers, because any web page could send the request. A browser adds the header Origin
// or Sec-Fetch-Site to every request except GET. LocalOnly does not read the body of the request.
func LocalOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
			http.Error(w, "not from a browser", http.StatusForbidden)
		case !isLocal(r):
			http.Error(w, "only requests from this machine are allowed", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isLocal(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	peer := from.Addr().Unmap()
	own, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return peer.IsLoopback() || ok && own.AddrPort().Addr().Unmap() == peer
}

// AskAdmin sends a request without a body to the admin listener of a binary on this machine, and
// copies the body of the response to out. listen is the value of the binary's flag -admin. If the
// status is not 200, the error has the status and the body.
func AskAdmin(ctx context.Context, method, listen, path string, query url.Values, out io.Writer) error {
	host, err := localAddress(listen)
	if err != nil {
		return err
	}
	target := url.URL{Scheme: "http", Host: host, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return err
	}
	// The default client would use a proxy from the environment.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", target.Redacted(), resp.Status, strings.TrimSpace(string(body)))
	}
	_, err = out.Write(body)
	return err
}

// localAddress returns the address for connecting, on this machine, to a program that listens on
// listen.
func localAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}
