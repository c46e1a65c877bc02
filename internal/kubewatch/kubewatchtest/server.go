// Package kubewatchtest provides an API server for tests, which answers lists, watches and streamed
// lists in JSON, and can fail as a real API server does.
//
// It serves nodes, services, endpointslices and configmaps, with label selectors and with the field
// selectors of real API servers. For configmaps it also supports get, create and update.
package kubewatchtest

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// Object is an object of the API.
type Object interface {
	runtime.Object
	metav1.Object
}

// Request is a request that the server received.
type Request struct {
	Verb     string // "list" or "watch"; for configmaps also "get", "create" or "update"
	Resource string
	Query    map[string][]string
	Object   string // for configmaps, the namespace and, if the request names one object, the name: "ns/name"
}

// Server is a simulated API server. Any goroutine may call its methods at any time.
type Server struct {
	http *httptest.Server

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when anything below changes
	version  int64
	oldest   int64             // a watch from a version before oldest has expired
	objects  map[string]Object // the objects by resource, namespace and name
	history  []event
	requests []Request
	refused  map[string]int // HTTP status of refused requests, by verb or resource
	noStream bool
	silent   bool
	cut      int // number of times that watches were cut
	down     bool
	frozen   bool
	conns    map[*conn]bool
}

type event struct {
	version     int64
	resource    string
	old, object Object // old is nil for a new object, object is nil for a deleted one
}

// New starts a server that uses HTTP/1.1 without TLS. It runs until the test ends.
func New(t testing.TB) *Server { return start(t, false) }

// NewHTTP2 starts a server that uses HTTP/2 over TLS. It runs until the test ends.
func NewHTTP2(t testing.TB) *Server { return start(t, true) }

func start(t testing.TB, http2 bool) *Server {
	s := &Server{
		changed: make(chan struct{}), version: 100, objects: map[string]Object{},
		refused: map[string]int{}, conns: map[*conn]bool{},
	}
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests end connections on purpose
	if http2 {
		s.http.EnableHTTP2 = true
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(func() {
		s.Disconnect()
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Config returns the configuration for clients of the server.
func (s *Server) Config() *rest.Config {
	cfg := &rest.Config{Host: s.http.URL, Dial: s.dial}
	if cert := s.http.Certificate(); cert != nil {
		cfg.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return cfg
}

// do calls the function f under the lock, and wakes all watches afterwards.
func (s *Server) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Set creates or replaces objects.
func (s *Server) Set(objects ...Object) {
	s.do(func() {
		for _, o := range objects {
			s.set(o)
		}
	})
}

// set creates or replaces an object. The caller holds mu.
func (s *Server) set(o Object) {
	o = o.DeepCopyObject().(Object)
	s.version++
	o.SetResourceVersion(strconv.FormatInt(s.version, 10))
	resource := resourceOf(o)
	key := resource + "/" + o.GetNamespace() + "/" + o.GetName()
	s.history = append(s.history, event{s.version, resource, s.objects[key], o})
	s.objects[key] = o
}

// Delete removes objects.
func (s *Server) Delete(objects ...Object) {
	s.do(func() {
		for _, o := range objects {
			s.version++
			resource := resourceOf(o)
			key := resource + "/" + o.GetNamespace() + "/" + o.GetName()
			if old := s.objects[key]; old != nil {
				s.history = append(s.history, event{s.version, resource, old, nil})
				delete(s.objects, key)
			}
		}
	})
}

// Forget removes all objects of a resource, and sends no events about it. All watches expire. A
// real server does this when it loses its store.
func (s *Server) Forget(resource string) {
	s.do(func() {
		for key := range s.objects {
			if strings.HasPrefix(key, resource+"/") {
				delete(s.objects, key)
			}
		}
	})
	s.Expire()
}

// Expire ends all watches and removes the history. So a client cannot resume a watch, and must list
// again.
func (s *Server) Expire() {
	s.do(func() {
		s.version++
		s.oldest = s.version
		s.history = nil
		s.cut++
	})
}

// Disconnect ends all watches.
func (s *Server) Disconnect() { s.do(func() { s.cut++ }) }

// Refuse makes the server answer all requests with a verb, "list" or "watch", with this HTTP
// status. With status 0, the server serves the verb again.
func (s *Server) Refuse(verb string, status int) { s.do(func() { s.refused[verb] = status; s.cut++ }) }

// Forbid makes the server refuse all requests for a resource, as it does for an account that lacks
// a permission. If the argument "forbidden" is false, the server serves the resource again.
func (s *Server) Forbid(resource string, forbidden bool) {
	s.do(func() {
		s.refused[resource] = 0
		if forbidden {
			s.refused[resource] = http.StatusForbidden
		}
		s.cut++
	})
}

// Backup returns a function that later restores the present objects and the present version. After
// the restore, the version of the server is lower than before. If a client then tries to resume a
// watch from its last version, the server answers that this version has expired.
func (s *Server) Backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, objects := s.version, maps.Clone(s.objects)
	return func() {
		s.do(func() {
			s.version, s.objects = version, maps.Clone(objects)
			s.oldest, s.history = version, nil
			s.cut++
		})
	}
}

// NoStreamedLists makes the server reject streamed lists, as old API servers do.
func (s *Server) NoStreamedLists() { s.do(func() { s.noStream = true }) }

// Silence makes the server send nothing in watches, but keep them open. For a new watch, it does
// not even send the header of the response. If "on" is false, the server sends again.
func (s *Server) Silence(on bool) { s.do(func() { s.silent = on }) }

// Down closes all connections. Until a call of Up, the server refuses connections from clients that
// use Config. Other clients can connect, but the server closes their connection at the first
// request.
func (s *Server) Down() {
	s.do(func() {
		s.down = true
		s.cut++
		for c := range s.conns {
			_ = c.Conn.Close()
		}
	})
}

// Up accepts connections again after Down.
func (s *Server) Up() { s.do(func() { s.down = false }) }

// Freeze makes all present connections accept data without ever answering, even after Thaw. Each
// new connection also freezes, until somebody calls Thaw.
func (s *Server) Freeze() {
	s.do(func() {
		s.frozen = true
		for c := range s.conns {
			c.freeze()
		}
	})
}

// Thaw makes new connections work again after Freeze.
func (s *Server) Thaw() { s.do(func() { s.frozen = false }) }

// Requests returns all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	inner, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, server: s, frozen: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		_ = inner.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	s.conns[c] = true
	if s.frozen {
		c.freeze()
	}
	return c, nil
}

// conn is the client's end of a connection. After Freeze, the client gets no more data from it.
type conn struct {
	net.Conn
	server *Server
	once   sync.Once
	frozen chan struct{}
}

func (c *conn) freeze() { c.once.Do(func() { close(c.frozen) }) }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.frozen: // drop all data until Close
		for err == nil {
			_, err = c.Conn.Read(b)
		}
		return 0, err
	default:
		return n, err
	}
}

func (c *conn) Write(b []byte) (int, error) {
	select {
	case <-c.frozen:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *conn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

func resourceOf(o Object) string {
	switch o.(type) {
	case *corev1.ConfigMap:
		return "configmaps"
	case *corev1.Node:
		return "nodes"
	case *corev1.Service:
		return "services"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	}
	panic("kubewatchtest: unknown kind")
}

func writeStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status(code, reason, message))
}

func status(code int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}
}
