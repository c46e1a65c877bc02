package kubewatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// The Reflector resumes silent watches until the last response is older than maxAge. Then it sends
// a list.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listWatch{silence: silence, health: &health{resource: "nodes", report: func(error) {}}}
		next := func() (*watch.FakeWatcher, <-chan watch.Event) {
			inner := watch.NewFake()
			s := &stream{inner: inner, events: make(chan watch.Event), stopped: make(chan struct{})}
			go s.forward(l)
			return inner, s.ResultChan()
		}
		l.noteResponse() // of a list
		began := time.Now()
		for range 4 {
			_, events := next()
			require.Empty(t, <-events, "the end of a silent watch")
		}
		require.Equal(t, 4*silence, time.Since(began))
		inner, events := next()
		inner.Action(watch.Bookmark, &corev1.Node{})
		require.Equal(t, watch.Bookmark, (<-events).Type)
		require.Empty(t, <-events)
		for range 3 {
			_, events := next()
			require.Empty(t, <-events, "a bookmark came less than maxAge ago")
		}
		_, events = next()
		last := <-events
		require.Equal(t, watch.Error, last.Type)
		require.True(t, apierrors.IsResourceExpired(apierrors.FromObject(last.Object)))
		require.Equal(t, 4*silence+maxAge, time.Since(began))
	})
}
