package kubewatch

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
)

// recorder is a Sink that stores the objects and the errors passed to the health function.
type recorder struct {
	mu       sync.Mutex
	nodes    map[string]*corev1.Node
	replaced int
	sets     int
	health   []error
}

func (s *recorder) Replace(list []*corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced++
	s.nodes = map[string]*corev1.Node{}
	for _, n := range list {
		s.nodes[n.Name] = n
	}
}

func (s *recorder) Set(n *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets++
	s.nodes[n.Name] = n
}

func (s *recorder) Delete(_, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
}

func (s *recorder) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = append(s.health, err)
}

func (s *recorder) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.nodes))
}

// eventually waits until the function is returns true. The argument "what" describes the awaited
// state in the failure message.
func (s *recorder) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		s.mu.Lock()
		ok := is()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s; health %v, nodes %v", what, s.health, s.names())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (s *recorder) has(names ...string) func() bool {
	return func() bool { return s.nodes != nil && slices.Equal(slices.Sorted(maps.Keys(s.nodes)), names) }
}

// healthy reports whether the last call of the health function passed nil.
func (s *recorder) healthy() bool { return len(s.health) > 0 && s.health[len(s.health)-1] == nil }

func (s *recorder) failing(text string) func() bool {
	return func() bool {
		return len(s.health) > 0 && s.health[len(s.health)-1] != nil && strings.Contains(s.health[len(s.health)-1].Error(), text)
	}
}

func node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": "a"}}}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"image"}}}
	return n
}

// follow runs a Source of nodes against a server until the test ends.
func follow(t *testing.T, server *kubewatchtest.Server, silence time.Duration, change func(*Source[*corev1.Node])) *recorder {
	t.Helper()
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	source := Source[*corev1.Node]{Client: clients.Core, Resource: "nodes"}
	if change != nil {
		change(&source)
	}
	return run(t, source, silence)
}

// run runs a Source until the test ends.
func run(t *testing.T, source Source[*corev1.Node], silence time.Duration) *recorder {
	t.Helper()
	s, end := begin(source, silence)
	t.Cleanup(func() { end(t) })
	return s
}

// begin runs a Source until somebody calls the function "end". The function "end" returns when the
// Source has ended.
func begin(source Source[*corev1.Node], silence time.Duration) (s *recorder, end func(*testing.T)) {
	s = &recorder{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		source.run(ctx, s, s.report, silence)
	}()
	return s, func(t *testing.T) {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("Run does not return after its context has ended")
		}
	}
}

// kindsOfServer runs a test twice: against a server that supports streamed lists, and against a
// server that does not.
func kindsOfServer(t *testing.T, test func(t *testing.T, server *kubewatchtest.Server)) {
	t.Run("streamed list", func(t *testing.T) {
		t.Parallel()
		test(t, kubewatchtest.New(t))
	})
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		server := kubewatchtest.New(t)
		server.NoStreamedLists()
		test(t, server)
	})
}
