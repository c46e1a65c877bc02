package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/bearer"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

// Limits of a request.
const (
	maxBody    = 64 << 10
	maxNodes   = 500
	askTimeout = 20 * time.Second
	// retryAfter is the value of the header Retry-After: the number of seconds after which a client
	// should ask again.
	retryAfter = 10
)

// Handler serves a Keeper over HTTP. It answers in JSON, but /v1/picture is an SVG of the cluster,
// and / is a page for people:
//
//	GET    /                       200
//	GET    /v1/may?node=a&node=b   200 yes, 409 not now
//	GET    /v1/wave                200
//	GET    /v1/picture             200
//	POST   /v1/grants              {"nodes": ["a"], "holder": "kured", "ttl": "1h"}: 201 yes, 409 not now
//	GET    /v1/grants              200
//	DELETE /v1/grants/a?holder=b   204; 404 without a grant, 409 if another holder has it
//	POST   /login, /logout         303; for the forms on the page /
//
// An answer with status 409 has the header Retry-After. Status 503 means that the Keeper cannot
// decide, and the client must not take any node away. ttl is a Go duration; the default is 1h.
// openapi.yaml, in this directory, is an OpenAPI 3.1 document of the API.
type Handler struct {
	Keeper *Keeper // required
	// Token returns the bearer token that a request must have; nil means none. A person types the
	// token into the form of the page and gets a cookie. The cookie gives access to the page, but
	// not to the API. The cookie becomes invalid when the token changes.
	Token func(context.Context) (string, error)
	// Title is the title of the page, for example the name of the cluster.
	Title string
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := ""
	if h.Token != nil {
		var err error
		if token, err = h.Token(r.Context()); err != nil {
			http.Error(w, "the token cannot be read", http.StatusServiceUnavailable)
			return
		}
	}
	if isPage(r) {
		h.servePage(w, r, token)
		return
	}
	if h.Token != nil {
		if !bearer.Authorized(r, token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the request needs the token", http.StatusUnauthorized)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/may", h.may)
	mux.HandleFunc("GET /v1/wave", h.wave)
	mux.HandleFunc("GET /v1/picture", h.picture)
	mux.HandleFunc("POST /v1/grants", h.take)
	mux.HandleFunc("GET /v1/grants", h.list)
	mux.HandleFunc("DELETE /v1/grants/{node}", h.release)
	mux.ServeHTTP(w, r.WithContext(ctx))
}

func (h *Handler) may(w http.ResponseWriter, r *http.Request) {
	nodes := r.URL.Query()["node"]
	if err := checkNodes(nodes); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := h.Keeper.May(r.Context(), nodes...)
	reply(w, answer, err, http.StatusOK)
}

func (h *Handler) wave(w http.ResponseWriter, r *http.Request) {
	wave, err := h.Keeper.Wave(r.Context(), nil, 0, false)
	if err != nil {
		cannotTell(w, err)
		return
	}
	writeJSON(w, http.StatusOK, wave)
}

func (h *Handler) take(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Nodes  []string `json:"nodes"`
		Holder string   `json:"holder"`
		TTL    string   `json:"ttl"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(&request)
	ttl := DefaultTTL
	if err == nil && request.TTL != "" {
		ttl, err = time.ParseDuration(request.TTL)
	}
	if err == nil {
		err = checkNodes(request.Nodes)
	}
	if err == nil {
		err = CheckTake(request.Holder, ttl)
	}
	if err != nil {
		http.Error(w, "the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := h.Keeper.Take(r.Context(), request.Holder, ttl, request.Nodes...)
	reply(w, answer, err, http.StatusCreated)
}

// DefaultTTL is the TTL of a grant if the request names no TTL.
const DefaultTTL = time.Hour

// CheckTake returns an error if a grant cannot have this holder or TTL. A holder has 1 to 200
// printable ASCII characters without spaces. A TTL is 1 s to 720 h.
func CheckTake(holder string, ttl time.Duration) error {
	switch {
	case holder == "" || len(holder) > 200 || strings.ContainsFunc(holder, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("holder %.300q: want 1 to 200 printable ASCII characters without spaces", holder)
	case ttl < time.Second || ttl > 30*24*time.Hour:
		return fmt.Errorf("TTL %v: want 1s to 720h", ttl)
	}
	return nil
}

// Listed is a grant in JSON, with durations that people can read.
type Listed struct {
	gate.Grant
	TTL        string  `json:"ttl"`
	AgeSeconds float64 `json:"ageSeconds"`
	Expired    bool    `json:"expired,omitempty"`
}

// List converts grants to the form for JSON. If there are no grants, it returns an empty list, and
// not nil.
func List(grants []gate.Grant, now time.Time) []Listed {
	all := []Listed{}
	for _, g := range grants {
		all = append(all, Listed{g, g.TTL.String(), now.Sub(g.Taken).Seconds(), g.Expired(now)})
	}
	return all
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	grants, err := h.Keeper.Refresh(r.Context())
	if err != nil {
		cannotTell(w, err)
		return
	}
	writeJSON(w, http.StatusOK, List(grants, time.Now()))
}

func (h *Handler) release(w http.ResponseWriter, r *http.Request) {
	found, err := h.Keeper.Release(r.Context(), r.PathValue("node"), r.URL.Query().Get("holder"))
	switch {
	case err != nil && found:
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		cannotTell(w, err)
	case !found:
		http.Error(w, "there is no grant for the node", http.StatusNotFound)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func checkNodes(nodes []string) error {
	if len(nodes) == 0 || len(nodes) > maxNodes {
		return fmt.Errorf("%d nodes: want 1 to %d", len(nodes), maxNodes)
	}
	for _, n := range nodes {
		if n == "" || len(n) > 253 {
			return fmt.Errorf("node %.300q: the name is empty or too long", n)
		}
	}
	return nil
}

func reply(w http.ResponseWriter, answer gate.Answer, err error, yes int) {
	switch {
	case err != nil:
		cannotTell(w, err)
	case !answer.OK:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeJSON(w, http.StatusConflict, answer)
	default:
		writeJSON(w, yes, answer)
	}
}

func cannotTell(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	http.Error(w, "cannot tell, so no: "+err.Error(), http.StatusServiceUnavailable)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
}
