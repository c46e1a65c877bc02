package kubewatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
)

func TestListAndEvents(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"), node("b"))
		s := follow(t, server, silence, nil)
		s.eventually(t, "list", s.has("a", "b"))
		server.Set(node("c"))
		s.eventually(t, "new node", s.has("a", "b", "c"))
		server.Delete(node("a"))
		s.eventually(t, "deleted node", s.has("b", "c"))
		changed := node("b")
		changed.Labels["zone"] = "b"
		server.Set(changed)
		s.eventually(t, "changed node", func() bool { return s.nodes["b"].Labels["zone"] == "b" })
		require.Equal(t, 1, s.replaced)
		require.Empty(t, s.health, "nil is reported only after an error")
	})
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		cordoned := node("b")
		cordoned.Spec.Unschedulable = true
		server.Set(node("a"), cordoned)
		s := follow(t, server, silence, func(s *Source[*corev1.Node]) {
			s.Fields, s.Labels = "spec.unschedulable=true", "zone=a"
		})
		s.eventually(t, "cordoned node", s.has("b"))
		other := node("a")
		other.Spec.Unschedulable = true
		server.Set(other)
		s.eventually(t, "another", s.has("a", "b"))
		server.Set(node("b"))
		s.eventually(t, "removal of the node that is no longer cordoned", s.has("a"))
	})
}

func TestTransform(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"), node("unwanted"))
		calls := map[string]int{}
		s := follow(t, server, silence, func(s *Source[*corev1.Node]) {
			s.Transform = func(n *corev1.Node) (*corev1.Node, bool) {
				calls[n.Name+n.Labels["zone"]]++
				n.Status.Images = nil
				return n, n.Name != "unwanted" && n.Labels["zone"] == "a"
			}
		})
		s.eventually(t, "wanted node", s.has("a"))
		server.Set(node("b"), node("unwanted"))
		s.eventually(t, "another", s.has("a", "b"))
		other := node("b")
		other.Labels["zone"] = "b"
		server.Set(other)
		s.eventually(t, "removal of the node that Transform drops now", s.has("a"))
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Empty(t, s.nodes["a"].Status.Images)
		require.Equal(t, map[string]int{"aa": 1, "unwanteda": 2, "ba": 1, "bb": 1}, calls)
	})
}

// After an interruption of the watch, the sink gets the changes that it has missed. They come from
// the next watch. If the server does not have the old versions any more, they come from a list.
func TestInterruptedWatch(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"), node("b"))
		s := follow(t, server, silence, nil)
		s.eventually(t, "list", s.has("a", "b"))
		server.Disconnect()
		server.Set(node("c"))
		s.eventually(t, "node from the next watch", s.has("a", "b", "c"))

		server.Refuse("watch", http.StatusServiceUnavailable)
		s.eventually(t, "refusal", s.failing("refused with 503"))
		server.Delete(node("a"))
		server.Set(node("d"))
		server.Expire()
		server.Refuse("watch", 0)
		s.eventually(t, "change during the interruption", s.has("b", "c", "d"))
		s.eventually(t, "good health", s.healthy)
		require.Greater(t, s.replaced, 1)
	})
}

func TestServerGoneAndBack(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"))
		s := follow(t, server, silence, nil)
		s.eventually(t, "list", s.has("a"))
		before := time.Now()
		server.Down()
		s.eventually(t, "failure", s.failing("connection refused"))
		var failure *Error
		require.ErrorAs(t, s.health[0], &failure)
		require.Equal(t, "nodes", failure.Resource)
		require.WithinRange(t, failure.Since, before, time.Now())
		require.Equal(t, []string{"a"}, s.names(), "objects stay during the outage")
		server.Set(node("b"))
		server.Up()
		s.eventually(t, "change during the outage", s.has("a", "b"))
		s.eventually(t, "good health", s.healthy)
		require.Len(t, s.health, 2, "one error for one reason, and nil: %v", s.health)
	})
}

func TestServerGoneAtTheStart(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"))
		server.Down()
		s := follow(t, server, silence, nil)
		s.eventually(t, "failure", s.failing("connection refused"))
		require.Zero(t, s.replaced)
		server.Up()
		s.eventually(t, "list", s.has("a"))
		s.eventually(t, "good health", s.healthy)
	})
}

// Run returns when its context ends, although the next attempt is due later.
func TestRunEndsWhileTheServerIsGone(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	server.Down()
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	s, end := begin(Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}, silence)
	s.eventually(t, "failure", s.failing("connection refused"))
	end(t)
}

func TestForbiddenThenPermitted(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusUnauthorized} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			server := kubewatchtest.New(t)
			server.Set(node("a"))
			server.Refuse("list", status)
			server.Refuse("watch", status)
			s := follow(t, server, silence, nil)
			s.eventually(t, "refusal", s.failing(fmt.Sprint("refused with ", status)))
			require.True(t, apierrors.IsForbidden(s.health[0]) || apierrors.IsUnauthorized(s.health[0]))
			server.Refuse("list", 0)
			s.eventually(t, "list", s.has("a"))
			server.Set(node("b"))
			s.eventually(t, "next list without a watch", s.has("a", "b"))
			s.eventually(t, "error in spite of the list", s.failing("watch is refused"))
			n := len(s.health)
			server.Set(node("c"))
			s.eventually(t, "one more list", s.has("a", "b", "c"))
			require.Len(t, s.health, n, "no further report, neither error nor nil: %v", s.health)
			server.Refuse("watch", 0)
			s.eventually(t, "good health", s.healthy)
		})
	}
}

func TestListExpired(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	server.NoStreamedLists()
	server.Set(node("a"))
	server.Refuse("list", http.StatusGone)
	s := follow(t, server, silence, nil)
	s.eventually(t, "refusal", s.failing("refused with 410"))
	server.Refuse("list", 0)
	s.eventually(t, "list", s.has("a"))
	s.eventually(t, "good health", s.healthy)
}

// After an expired watch Run lists again, and reports no error.
func TestWatchExpired(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"), node("b"))
		s := follow(t, server, silence, nil)
		s.eventually(t, "list", s.has("a", "b"))
		server.Delete(node("a"))
		s.eventually(t, "event", s.has("b"))
		server.Expire()
		s.eventually(t, "second list", func() bool { return s.replaced == 2 })
		s.eventually(t, "its content", s.has("b"))
		require.Empty(t, s.health)
	})
}

// Run replaces a silent watch by a new one. If the API server does not answer the new watch, the
// function "health" gets an error.
func TestSilentWatch(t *testing.T) {
	t.Parallel()
	kindsOfServer(t, func(t *testing.T, server *kubewatchtest.Server) {
		server.Set(node("a"))
		s := follow(t, server, time.Second, nil)
		s.eventually(t, "list", s.has("a"))
		server.Silence(true)
		server.Set(node("b"))
		s.eventually(t, "error for silence", s.failing("no answer to a watch within 1s"))
		server.Silence(false)
		s.eventually(t, "change during the outage", s.has("a", "b"))
		s.eventually(t, "good health", s.healthy)
	})
}

// After a silent watch Run opens a new watch, and does not list.
func TestQuietWatchIsResumed(t *testing.T) {
	t.Parallel()
	for attempt := 1; ; attempt++ {
		server := kubewatchtest.New(t)
		server.Set(node("a"))
		s := follow(t, server, 2500*time.Millisecond, nil) // the Reflector lists after a watch of less than 1 s
		watches := func() int {
			n := 0
			for _, r := range server.Requests() {
				if r.Verb == "watch" {
					n++
				}
			}
			return n
		}
		s.eventually(t, "some watches", func() bool { return watches() > 2 })
		server.Set(node("b"))
		s.eventually(t, "event", s.has("a", "b"))
		s.mu.Lock()
		replaced, health := s.replaced, s.health
		s.mu.Unlock()
		if replaced == 1 && len(health) == 0 {
			return
		}
		// On a busy machine, the server may answer a watch more than a second late.
		require.Less(t, attempt, 5, "%d lists, health %v", replaced, health)
	}
}

// The pings of HTTP/2 find a connection that accepts data and never answers.
func TestFrozenConnection(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	server := kubewatchtest.NewHTTP2(t)
	server.Set(node("a"))
	s := follow(t, server, silence, nil)
	s.eventually(t, "list", s.has("a"))
	server.Freeze()
	server.Set(node("b"))
	s.eventually(t, "error for the dead connection", s.failing("client connection lost"))
	server.Thaw()
	s.eventually(t, "change during the outage", s.has("a", "b"))
	s.eventually(t, "good health", s.healthy)
}

func TestWrongCertificate(t *testing.T) {
	server := kubewatchtest.NewHTTP2(t)
	cfg := server.Config()
	cfg.CAData = nil
	clients, err := NewClients(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reason error
	Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}.Run(ctx, &recorder{}, func(err error) {
		reason = err
		cancel()
	})
	require.ErrorContains(t, reason, "certificate")
}

// After Run no goroutine is left.
func TestNoGoroutineIsLeft(t *testing.T) {
	ends := map[string]func(*kubewatchtest.Server, *recorder, *testing.T){
		"watching": func(server *kubewatchtest.Server, s *recorder, t *testing.T) { s.eventually(t, "list", s.has("a")) },
		"refused": func(server *kubewatchtest.Server, s *recorder, t *testing.T) {
			server.Down()
			s.eventually(t, "failure", s.failing("refused"))
		},
		"silent": func(server *kubewatchtest.Server, s *recorder, t *testing.T) {
			s.eventually(t, "list", s.has("a"))
			server.Silence(true)
			server.Disconnect()
		},
	}
	for name, when := range ends {
		t.Run(name, func(t *testing.T) {
			server := kubewatchtest.New(t)
			server.Set(node("a"))
			clients, err := NewClients(server.Config())
			require.NoError(t, err)
			s, end := begin(Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}, silence)
			when(server, s, t)
			end(t)
			s.eventually(t, "end of all goroutines", func() bool {
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				for _, g := range strings.Split(string(stacks), "\n\n") {
					if strings.Contains(g, "client-go/tools/cache") || strings.Contains(g, "kubewatch.(*stream)") || strings.Contains(g, "watch.(*StreamWatcher)") {
						return false
					}
				}
				return true
			})
		})
	}
}

func TestCount(t *testing.T) {
	server := kubewatchtest.New(t)
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	for want := range 3 {
		got, err := Count(t.Context(), clients.Core, "nodes")
		require.NoError(t, err)
		require.Equal(t, want, got)
		server.Set(node(fmt.Sprint("n", want)))
	}
	server.Refuse("list", http.StatusForbidden)
	_, err = Count(t.Context(), clients.Core, "nodes")
	require.True(t, apierrors.IsForbidden(errors.Unwrap(err)), "%v", err)
}

func TestNewClientsLeavesItsConfigAlone(t *testing.T) {
	cfg := kubewatchtest.New(t).Config()
	cfg.Timeout = time.Second
	cfg.QPS = 5
	_, err := NewClients(cfg)
	require.NoError(t, err)
	require.Equal(t, time.Second, cfg.Timeout)
	require.Equal(t, float32(5), cfg.QPS)
	require.Empty(t, cfg.ContentType)
	require.Nil(t, cfg.WrapTransport)

	_, err = NewClients(nil)
	require.ErrorContains(t, err, "no configuration")
	cfg.Host = "http://[::1"
	_, err = NewClients(cfg)
	require.ErrorContains(t, err, "kubewatch: ")
}

// A streamed list that never ends, or ends too early, is an error. The sink then gets no list.
func TestStreamedListThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]bool{"silent": false, "cut off": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			served := kubewatchtest.New(t)
			served.Set(node("a"))
			var healthy atomic.Bool
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if healthy.Load() {
					served.ServeHTTP(w, r)
					return
				}
				if r.URL.Query().Get("watch") == "" {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.Header().Set("Content-Type", "application/json;stream=watch")
				fmt.Fprintln(w, `{"type":"ADDED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"1"}}}`)
				w.(http.Flusher).Flush()
				if !cut {
					<-r.Context().Done()
				}
			}))
			t.Cleanup(front.Close)
			t.Cleanup(front.CloseClientConnections)
			clients, err := NewClients(&rest.Config{Host: front.URL})
			require.NoError(t, err)
			s := run(t, Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}, 2*time.Second)
			s.eventually(t, "attempt to list", s.failing("unable to handle"))
			s.mu.Lock()
			require.ErrorContains(t, s.health[0], "a streamed list ended before it was complete")
			require.Zero(t, s.replaced)
			s.mu.Unlock()
			healthy.Store(true)
			s.eventually(t, "list", s.has("a"))
			s.eventually(t, "good health", s.healthy)
		})
	}
}

// If the server answers every watch with "expired", even a streamed list, Run sends normal lists.
func TestEveryWatchExpired(t *testing.T) {
	t.Parallel()
	const expired = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}`
	for name, answer := range map[string]func(http.ResponseWriter){
		"refused": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusGone)
			fmt.Fprintln(w, expired)
		},
		"event": func(w http.ResponseWriter) { fmt.Fprintf(w, `{"type":"ERROR","object":%s}`, expired) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			served := kubewatchtest.New(t)
			served.Set(node("a"))
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("watch") == "" {
					served.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				answer(w)
			}))
			t.Cleanup(front.Close)
			clients, err := NewClients(&rest.Config{Host: front.URL})
			require.NoError(t, err)
			s := run(t, Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}, silence)
			s.eventually(t, "list", s.has("a"))
			served.Set(node("b"))
			s.eventually(t, "next list", s.has("a", "b"))
			s.mu.Lock()
			defer s.mu.Unlock()
			require.Empty(t, s.health)
		})
	}
}
