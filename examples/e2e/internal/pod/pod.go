// Package pod is the HTTP server in every pod of the test clusters.
package pod

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Answer describes the pod and the request.
type Answer struct {
	Pod     string `json:"pod"`
	App     string `json:"app"`
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	// Source is the IP address of the client, as the pod sees it.
	Source string `json:"source"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// ForwardedFor is the header X-Forwarded-For.
	ForwardedFor string `json:"forwardedFor,omitempty"`
}

// Identity contains the names of a pod and of its surroundings.
type Identity struct{ Pod, App, Node, Cluster string }

// These limits apply to the query parameters of a request.
const (
	maxWait = time.Minute
	maxSize = 64 << 20
)

// Handler answers every path with an [Answer], except the paths of [Behaviour] and [Counts]. The
// query parameter wait=DURATION delays the response. bytes=N adds N bytes of padding after the line
// with the Answer.
func (id Identity) Handler() http.Handler {
	b := new(behaving)
	answer := b.around(http.HandlerFunc(id.answer))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case BehaviourPath:
			b.change(w, r)
		case CountsPath:
			b.count(w)
		default:
			answer.ServeHTTP(w, r)
		}
	})
}

func (id Identity) answer(w http.ResponseWriter, r *http.Request) {
	wait, size, err := wants(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	}
	source, _, _ := net.SplitHostPort(r.RemoteAddr)
	body, err := json.Marshal(Answer{
		Pod: id.Pod, App: id.App, Node: id.Node, Cluster: id.Cluster,
		Source: source, Host: r.Host, Path: r.URL.Path, ForwardedFor: r.Header.Get("X-Forwarded-For"),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+size))
	if _, err := w.Write(body); err != nil {
		return
	}
	for padding := bytes.Repeat([]byte{'x'}, min(size, 64<<10)); size > 0; size -= len(padding) {
		if _, err := w.Write(padding[:min(size, len(padding))]); err != nil {
			return
		}
	}
}

func wants(r *http.Request) (wait time.Duration, size int, err error) {
	q := r.URL.Query()
	if s := q.Get("wait"); s != "" {
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			return 0, 0, fmt.Errorf("pod: wait=%s: want a duration up to %s", s, maxWait)
		}
	}
	if s := q.Get("bytes"); s != "" {
		if size, err = strconv.Atoi(s); err != nil || size < 0 || size > maxSize {
			return 0, 0, fmt.Errorf("pod: bytes=%s: want a number up to %d", s, maxSize)
		}
	}
	return wait, size, nil
}

// Serve serves addr until ctx ends. Then it waits for the requests in progress.
func (id Identity) Serve(ctx context.Context, addr string) error {
	server := &http.Server{Addr: addr, Handler: id.Handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("pod: %w", err)
	case <-ctx.Done():
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(rest); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("pod: %w", err)
	}
	return nil
}
