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

// seen is a Sink that keeps everything, and what health has said.
type seen struct {
	mu       sync.Mutex
	nodes    map[string]*corev1.Node
	replaced int
	sets     int
	health   []error
}

func (s *seen) Replace(list []*corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced++
	s.nodes = map[string]*corev1.Node{}
	for _, n := range list {
		s.nodes[n.Name] = n
	}
}

func (s *seen) Set(n *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets++
	s.nodes[n.Name] = n
}

func (s *seen) Delete(_, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
}

func (s *seen) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = append(s.health, err)
}

func (s *seen) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.nodes))
}

// eventually waits until is holds.
func (s *seen) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		s.mu.Lock()
		ok := is()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s; health %v, nodes %v", what, s.health, s.names())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (s *seen) has(names ...string) func() bool {
	return func() bool { return s.nodes != nil && slices.Equal(slices.Sorted(maps.Keys(s.nodes)), names) }
}

// healthy holds when the last word was good.
func (s *seen) healthy() bool { return len(s.health) > 0 && s.health[len(s.health)-1] == nil }

func (s *seen) failing(text string) func() bool {
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
func follow(t *testing.T, server *kubewatchtest.Server, silence time.Duration, change func(*Source[*corev1.Node])) *seen {
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
func run(t *testing.T, source Source[*corev1.Node], silence time.Duration) *seen {
	t.Helper()
	s, end := begin(source, silence)
	t.Cleanup(func() { end(t) })
	return s
}

// begin runs a Source until end is called, which waits for it.
func begin(source Source[*corev1.Node], silence time.Duration) (s *seen, end func(*testing.T)) {
	s = &seen{}
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
		case <-time.After(20 * time.Second):
			t.Error("Run goes on after its context has ended")
		}
	}
}

// kindsOfServer are servers with streamed lists and without.
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
