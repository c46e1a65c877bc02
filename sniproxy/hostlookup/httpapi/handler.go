package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/bearer"
	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/internal/longpoll"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

const defaultWait = 30 * time.Second

// MaxWait is the longest time for which a Handler delays its answer to a request for changes. The
// WriteTimeout of the http.Server must be longer.
const MaxWait = time.Minute

// Handler serves the hosts of the last Publish, as the package documentation describes. Before the
// first Publish, it answers requests for hosts and changes with 503.
//
// A Handler is safe for concurrent use. Set the fields before the first use.
type Handler struct {
	// Token, if not nil, returns the bearer token that each request must have; see TokenFile. A
	// request without it gets 401. If Token returns an error, all requests get 500.
	Token func(context.Context) (string, error)

	// MaxAge is how long clients may keep the endpoint of a host, in whole seconds. 0 means 30 s;
	// negative means that clients must ask at each lookup.
	MaxAge time.Duration

	// NegativeMaxAge is how long clients may keep the answer that a host does not exist, in whole
	// seconds. 0 means 5 s; negative means that clients must ask at each lookup.
	NegativeMaxAge time.Duration

	// MaxRemoved is the largest share of the present hosts that one Publish may remove, from 0 to
	// 1. 0 means 0.5, and a negative value means 0. Publish always accepts the removal of fewer
	// than 10 hosts.
	MaxRemoved float64

	// MaxWaiting limits the requests that wait for changes at the same time; 0 means 1,024. Beyond
	// the limit, a new request gets 503.
	//
	// There is one exception. If another client address has the most waiting requests, and more
	// than its share, the Handler answers the oldest request of that address at once, and the new
	// request waits. The share is the number of all waiting requests divided by the number of
	// addresses.
	MaxWaiting int

	// Instrument, if not nil, wraps the handler of each route, for example to count requests. The
	// route is "hosts", "changes", or "other" for all other paths. The Handler itself answers
	// requests without the token, so they do not reach these handlers.
	Instrument func(route string, h http.Handler) http.Handler

	once    sync.Once
	history *history
	mux     *http.ServeMux
	waiters longpoll.Waiters
}

func (h *Handler) init() {
	h.once.Do(func() {
		h.history = newHistory(max(cmp.Or(h.MaxAge, 30*time.Second), 0), max(cmp.Or(h.MaxRemoved, 0.5), 0))
		h.waiters.Max = h.MaxWaiting
		h.mux = http.NewServeMux()
		handle := func(pattern, route string, f http.HandlerFunc) {
			var handler http.Handler = f
			if h.Instrument != nil {
				handler = h.Instrument(route, f)
			}
			h.mux.Handle(pattern, handler)
		}
		handle("GET /hosts/{host}", "hosts", h.serveHost)
		handle("GET /changes", "changes", h.serveChanges)
		// Do not answer 404: if the URL of a client has a typing error, the client would conclude
		// that no host exists.
		handle("/", "other", func(w http.ResponseWriter, _ *http.Request) {
			fail(w, http.StatusBadRequest, "there are GET /hosts/{host} and GET /changes", "")
		})
	})
}

// Publish replaces the hosts that h serves, and answers the requests that wait for a change. If the
// new hosts lack too many of the present hosts (see MaxRemoved), Publish changes nothing and
// returns a *RemovalError. At the first Publish, Update.Set and Update.Removed are 0.
func (h *Handler) Publish(hosts *hostlookup.Hosts) (Update, error) {
	h.init()
	return h.history.publish(hosts)
}

// Hosts returns the hosts that h serves. It is nil before the first successful Publish.
func (h *Handler) Hosts() *hostlookup.Hosts {
	h.init()
	if s := h.history.snapshot(); s != nil {
		return s.hosts
	}
	return nil
}

// Waiting returns the number of requests that wait for a change.
func (h *Handler) Waiting() int {
	h.init()
	return h.waiters.Count()
}

// StopWaiting makes the Handler answer all requests that wait for a change, although nothing has
// changed. After this call, the Handler also answers each new request without waiting. Pass
// StopWaiting to http.Server.RegisterOnShutdown, because http.Server.Shutdown waits for the end of
// all requests.
func (h *Handler) StopWaiting() {
	h.init()
	h.waiters.Stop()
}

// ServeHTTP serves a request. It refuses a request that has a body or lacks the token.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.init()
	longpoll.BoundBody(w, r)
	if r.ContentLength != 0 {
		// No route reads a body, and a client cannot send another request on a connection with an
		// unread body. So close the connection after the answer.
		w.Header().Set("Connection", "close")
		fail(w, http.StatusRequestEntityTooLarge, "a request has no body here", "")
		return
	}
	if h.Token != nil {
		token, err := h.Token(r.Context())
		if err != nil {
			fail(w, http.StatusInternalServerError, "the server has no token", "")
			return
		}
		if !bearer.Authorized(r, token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="headgate"`)
			fail(w, http.StatusUnauthorized, "a bearer token is needed", "")
			return
		}
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) serveHost(w http.ResponseWriter, r *http.Request) {
	snapshot := h.history.snapshot()
	if snapshot == nil {
		notReady(w)
		return
	}
	asked := r.PathValue("host")
	host, err := hostname.NormalizeHost(asked)
	if err != nil {
		h.notFound(w, "no host has such a name", asked)
		return
	}
	answer, err := snapshot.hosts.Peek(host)
	if err != nil {
		h.notFound(w, "host not found", host)
		return
	}
	body := encode(answer.Endpoint)
	sum := sha256.Sum256(body)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", cacheControl(h.history.maxAge))
	header.Set("ETag", fmt.Sprintf(`"%x"`, sum[:8]))
	// ServeContent implements If-None-Match.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (h *Handler) notFound(w http.ResponseWriter, message, host string) {
	w.Header().Set("Cache-Control", cacheControl(max(cmp.Or(h.NegativeMaxAge, 5*time.Second), 0)))
	fail(w, http.StatusNotFound, message, host)
}

func cacheControl(maxAge time.Duration) string {
	return "max-age=" + strconv.Itoa(int(maxAge/time.Second))
}

func (h *Handler) serveChanges(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	wait := defaultWait
	if text := query.Get("wait"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			fail(w, http.StatusBadRequest, "wait: want whole seconds", "")
			return
		}
		wait = min(time.Duration(seconds)*time.Second, MaxWait)
	}
	since := query.Get("since")
	answer, changed, ok := h.history.since(since)
	if !ok {
		notReady(w)
		return
	}
	if answer.Version == since && wait > 0 {
		if !h.waiters.Wait(r, changed, wait) {
			w.Header().Set("Retry-After", "5")
			fail(w, http.StatusServiceUnavailable, "too many requests wait for changes", "")
			return
		}
		answer, _, _ = h.history.since(since)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(encode(answer))
}

func notReady(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, "no hosts are published yet", "")
}

// fail writes an answer with an error. If host is "", the answer does not name a host.
func fail(w http.ResponseWriter, code int, message, host string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(encode(struct {
		Error string `json:"error"`
		Host  string `json:"host,omitempty"`
	}{message, host}))
}

func encode(v any) []byte {
	body, _ := json.Marshal(v) // cannot fail: strings and numbers
	return append(body, '\n')
}
