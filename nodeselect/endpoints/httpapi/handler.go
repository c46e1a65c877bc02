package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/bearer"
	"github.com/headgate/headgate/internal/longpoll"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// MaxWait is the longest time for which a Handler delays its answer to a request with ?wait=. The
// WriteTimeout of the http.Server must be longer.
const MaxWait = time.Minute

// Handler serves the pods of the last Publish. The package documentation describes the requests and
// answers. Before the first Publish, the Handler answers all requests with 503.
//
// A Handler is safe for concurrent use. Set the fields before the first use.
type Handler struct {
	// Token, if not nil, returns the bearer token that each request must have; see TokenFile. A
	// request without it gets 401. If Token returns an error, all requests get 500.
	Token func(context.Context) (string, error)

	// MaxWaiting limits the requests that wait for changes at the same time; 0 means 1,024. Beyond
	// the limit, a new request gets 503.
	//
	// There is one exception. If another client has the most waiting requests, and more than its
	// share (see package internal/fairshare), the oldest request of that client ends its wait, and
	// the new request waits. A client is an IPv4 address or an IPv6 /64.
	MaxWaiting int

	// Instrument, if not nil, wraps the handler of each route, for example to count requests. The
	// route is "pods", "prometheus", "envoy", or "other" for all other paths. Requests without the
	// token do not reach these handlers.
	Instrument func(route string, h http.Handler) http.Handler

	once    sync.Once
	mux     *http.ServeMux
	waiters longpoll.Waiters

	mu      sync.Mutex
	current *snapshot // nil before the first Publish
}

// TokenFile returns a function for the Token field of Handler or Client. The function reads the
// file at each call, and removes white space at the ends. So it returns a renewed token at once.
//
// If the file is unreadable or has no valid token, the function returns the last valid token. If
// there was none, it returns the error. The function is safe for concurrent use.
func TokenFile(path string) func(context.Context) (string, error) { return bearer.File(path) }

func (h *Handler) init() {
	h.once.Do(func() {
		h.waiters.Max = h.MaxWaiting
		h.mux = http.NewServeMux()
		known := map[string]string{} // the methods of each path
		handle := func(route string, f http.HandlerFunc, patterns ...string) {
			var handler http.Handler = f
			if h.Instrument != nil {
				handler = h.Instrument(route, f)
			}
			for _, pattern := range patterns {
				h.mux.Handle(pattern, handler)
				if method, path, ok := strings.Cut(pattern, " "); ok {
					known[path] = allowed[method]
				}
			}
		}
		handle("pods", h.servePods, "GET /v1/pods", "GET /v1/pods/{namespace}/{service}", "GET /v1/pods/{namespace}/{service}/{port}")
		handle("prometheus", h.servePrometheus, "GET /v1/prometheus", "GET /v1/prometheus/{namespace}/{service}", "GET /v1/prometheus/{namespace}/{service}/{port}")
		handle("envoy", h.serveEnvoy, "POST /v3/discovery:endpoints")
		handle("other", func(w http.ResponseWriter, _ *http.Request) {
			fail(w, http.StatusNotFound, errors.New("unknown path: there are GET /v1/pods, GET /v1/pods/{namespace}/{service}/{port}, GET /v1/prometheus and POST /v3/discovery:endpoints"))
		}, "/")
		for path, methods := range known {
			handle("other", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Allow", methods)
				fail(w, http.StatusMethodNotAllowed, fmt.Errorf("method %.20q: this path allows %s", r.Method, methods))
			}, path)
		}
	})
}

// allowed has the value of the header Allow for the method of a pattern. A pattern with GET also
// matches HEAD.
var allowed = map[string]string{"GET": "GET, HEAD", "POST": "POST"}

// Publish replaces the pods that h serves. If the pods of a service have changed, it answers the
// requests that wait for a change of this service. An unchanged *endpoints.Service costs no work.
//
// source is the condition of the source of the pods. If the source does not answer, pass the last
// good services.
func (h *Handler) Publish(services endpoints.Services, source Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.current
	next, replaced := before.next(services, source)
	h.current = next
	for _, svc := range replaced {
		close(svc.changed)
	}
	if before != nil && before.changed != next.changed {
		close(before.changed)
	}
}

// snapshot returns the content of the last Publish, or nil before the first one.
func (h *Handler) snapshot() *snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// Waiting returns the number of requests that wait for a change.
func (h *Handler) Waiting() int {
	h.init()
	return h.waiters.Count()
}

// StopWaiting answers the requests that wait for a change. After StopWaiting, the Handler answers
// every request immediately. Pass StopWaiting to http.Server.RegisterOnShutdown, because
// http.Server.Shutdown waits for all requests.
func (h *Handler) StopWaiting() {
	h.init()
	h.waiters.Stop()
}

// ServeHTTP serves a request. It refuses a request that lacks the token, and a GET with a body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.init()
	longpoll.BoundBody(w, r)
	if r.ContentLength != 0 && r.Method != http.MethodPost {
		// The body stays unread, so the connection cannot be used for another request. Close it
		// after the answer.
		w.Header().Set("Connection", "close")
		fail(w, http.StatusRequestEntityTooLarge, errors.New("only a POST may have a body"))
		return
	}
	if h.Token != nil {
		token, err := h.Token(r.Context())
		if err != nil {
			fail(w, http.StatusInternalServerError, errors.New("the server has no token"))
			return
		}
		if !bearer.Authorized(r, token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="headgate"`)
			fail(w, http.StatusUnauthorized, errors.New("a bearer token is needed"))
			return
		}
	}
	if h.snapshot() == nil {
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, errors.New("the source of the pods has not been read yet"))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// podsRequest is a request for pods.
type podsRequest struct {
	ref  nodeselect.Ref // zero for all services
	zone *string        // nil for all zones
	wait time.Duration
	have string // header If-None-Match
}

func parsePodsRequest(r *http.Request) (podsRequest, error) {
	req := podsRequest{have: strings.Join(r.Header.Values("If-None-Match"), ",")}
	var err error
	if req.ref, err = refInPath(r); err != nil {
		return req, err
	}
	query := r.URL.Query()
	for name, values := range query {
		switch {
		case name != "wait" && name != "zone":
			return req, fieldError(name, "unknown parameter: there are wait and zone")
		case len(values) > 1:
			return req, fieldError(name, "comes more than once")
		}
	}
	if query.Has("zone") {
		zone := query.Get("zone")
		if err := checkLabel(zone); err != nil {
			return req, &FieldError{"zone", err}
		}
		if req.ref == (nodeselect.Ref{}) {
			return req, fieldError("zone", "needs the name of a service in the path")
		}
		req.zone = &zone
	}
	if text := query.Get("wait"); query.Has("wait") {
		req.wait, err = time.ParseDuration(text)
		if err != nil || req.wait < 0 {
			return req, fieldError("wait", "%.80q: want a time such as 30s", text)
		}
		req.wait = min(req.wait, MaxWait)
	}
	return req, nil
}

// refInPath returns the service that the path of a request names by namespace, name and port. The
// paths /v1/pods and /v1/prometheus name no service, so the result is the zero Ref. A malformed
// part of the path is an error.
func refInPath(r *http.Request) (nodeselect.Ref, error) {
	ref := nodeselect.Ref{Namespace: r.PathValue("namespace"), Service: r.PathValue("service"), Port: r.PathValue("port")}
	if r.Pattern == "GET /v1/pods" || r.Pattern == "GET /v1/prometheus" {
		return ref, nil
	}
	return ref, checkRef(ref)
}

func (h *Handler) servePods(w http.ResponseWriter, r *http.Request) {
	req, err := parsePodsRequest(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	deadline := time.Now().Add(req.wait)
	for {
		now := h.snapshot()
		view, changed, reason := now.answer(req)
		if reason != "" {
			fail(w, http.StatusNotFound, errors.New(reason))
			return
		}
		rest := time.Until(deadline)
		if !matches(req.have, view.revision) || rest <= 0 {
			writePods(w, r, req, view, now.source)
			return
		}
		if !h.waiters.Wait(r, changed, rest) {
			w.Header().Set("Retry-After", "5")
			fail(w, http.StatusServiceUnavailable, errors.New("too many requests wait for changes"))
			return
		}
		select {
		case <-changed: // the change may be in another zone
		default:
			deadline = time.Time{} // the wait has ended for another reason
		}
	}
}

// answer returns the pods that a request asks for, as the view v, and a channel. The channel is
// closed when the pods may have changed. If the service is unknown, the method returns the reason.
func (s *snapshot) answer(req podsRequest) (v *view, changed <-chan struct{}, reason string) {
	if req.ref == (nodeselect.Ref{}) {
		return s.all(), s.changed, ""
	}
	svc, reason := s.find(req.ref)
	if reason != "" {
		return nil, nil, reason
	}
	v = svc.view(req.ref)
	if req.zone != nil {
		v = v.inZone(*req.zone)
	}
	return v, svc.changed, ""
}

func writePods(w http.ResponseWriter, r *http.Request, req podsRequest, v *view, source Source) {
	header := w.Header()
	header.Set("Cache-Control", "no-cache") // a cache must check each time with the server whether its answer is still current
	header.Set("Age", strconv.FormatInt(source.age(), 10))
	compress := compresses(r, len(v.body))
	header.Set("ETag", etag(v.revision, compress))
	if matches(req.have, v.revision) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeJSON(w, compress, v.answer(source))
}

// matches reports whether the header If-None-Match contains the ETag of a revision (RFC 9110
// section 13.1.2).
func matches(header, revision string) bool {
	if strings.TrimSpace(header) == "*" {
		return true
	}
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag(revision, false) || tag == etag(revision, true) {
			return true
		}
	}
	return false
}

// fail writes an answer with an error. If err is a *FieldError, the answer also names the wrong
// field of the request.
func fail(w http.ResponseWriter, code int, err error) {
	body := struct {
		Error string `json:"error"`
		Field string `json:"field,omitempty"`
	}{Error: err.Error()}
	if field, ok := errors.AsType[*FieldError](err); ok {
		body.Field = field.Field
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(marshal(body), '\n'))
}

// parseRef reads a resource name: namespace/service/port, or namespace/service.
func parseRef(name string) (nodeselect.Ref, error) {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return nodeselect.Ref{}, fmt.Errorf("%.300q: want namespace/service/port", name)
	}
	ref := nodeselect.Ref{Namespace: parts[0], Service: parts[1]}
	if len(parts) == 3 {
		if ref.Port = parts[2]; ref.Port == "" {
			return ref, fmt.Errorf("%.300q: no port after the second slash", name)
		}
	}
	return ref, checkRef(ref)
}
