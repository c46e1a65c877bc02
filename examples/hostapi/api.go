package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/sniproxy/peek"
)

// How long a request about changes is held: by default, and at most.
const (
	defaultWait = 30 * time.Second
	maxWait     = time.Minute
)

// api answers requests from the history.
type api struct {
	history        *history
	metrics        *metrics
	log            *slog.Logger
	token          func(context.Context) (string, error) // nil for none
	negativeMaxAge time.Duration
	followers      chan struct{} // as many as may wait at one time
	stopping       chan struct{} // closed when nobody should wait any more
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /hosts/{host}", promhttp.InstrumentHandlerDuration(a.metrics.duration,
		a.metrics.counted("hosts", http.HandlerFunc(a.serveHost))))
	mux.Handle("GET /changes", a.metrics.counted("changes", http.HandlerFunc(a.serveChanges)))
	// Not 404: to whoever asks about a host with a slip in the URL, that would say
	// with authority that the host does not exist.
	mux.Handle("/", a.metrics.counted("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusBadRequest, "there are GET /hosts/{host} and GET /changes", "")
	})))
	return a.guarded(mux)
}

// guarded lets through who has the token, and no bodies, which nobody would read.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			fail(w, http.StatusRequestEntityTooLarge, "a request has no body here", "")
			return
		}
		if a.token != nil {
			want, err := a.token(r.Context())
			if err != nil {
				a.log.Error("token", "err", err)
				fail(w, http.StatusInternalServerError, "the server has no token", "")
				return
			}
			scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			// Sums are of one length, so that the time tells nothing of the token's.
			is, should := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(want))
			if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(is[:], should[:]) == 0 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="headgate"`)
				fail(w, http.StatusUnauthorized, "a bearer token is needed", "")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// answer is a host as routers read it; see httpapi.Client.
type answer struct {
	App      string `json:"app"`
	Host     string `json:"host"`
	Endpoint string `json:"endpoint"`
}

func (a *api) serveHost(w http.ResponseWriter, r *http.Request) {
	asked := r.PathValue("host")
	host, err := peek.NormalizeHost(asked)
	if err != nil {
		a.notFound(w, "no host has such a name", asked)
		return
	}
	ep, ok := a.history.lookup(host)
	if !ok {
		a.notFound(w, "host not found", host)
		return
	}
	body := encode(answer{ep.App, ep.Host, ep.Addr})
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", maxAge(a.history.maxAge))
	h.Set("ETag", fmt.Sprintf(`"%x"`, sum[:8]))
	// It knows the rules of If-None-Match.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (a *api) notFound(w http.ResponseWriter, message, host string) {
	w.Header().Set("Cache-Control", maxAge(a.negativeMaxAge))
	fail(w, http.StatusNotFound, message, host)
}

func maxAge(d time.Duration) string { return "max-age=" + strconv.Itoa(int(d/time.Second)) }

// serveChanges answers as httpapi.Feed has it.
func (a *api) serveChanges(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	wait := defaultWait
	if text := query.Get("wait"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			fail(w, http.StatusBadRequest, "wait: want whole seconds", "")
			return
		}
		wait = min(time.Duration(seconds)*time.Second, maxWait)
	}
	since := query.Get("since")
	n, changed := a.history.since(since)
	if n.Version == since && wait > 0 {
		select {
		case a.followers <- struct{}{}:
		default:
			w.Header().Set("Retry-After", "5")
			fail(w, http.StatusServiceUnavailable, "too many requests wait for changes", "")
			return
		}
		a.metrics.followers.Inc()
		a.await(r.Context(), changed, wait)
		a.metrics.followers.Dec()
		<-a.followers
		n, _ = a.history.since(since)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(encode(n))
}

func (a *api) await(ctx context.Context, changed <-chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	case <-a.stopping:
	}
}

// fail answers with an error. host is what it is about, "" for nothing.
func fail(w http.ResponseWriter, code int, message, host string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(encode(struct {
		Error string `json:"error"`
		Host  string `json:"host,omitempty"`
	}{message, host}))
}

func encode(v any) []byte {
	body, _ := json.Marshal(v) // cannot fail: strings, numbers and JSON made here
	return append(body, '\n')
}
