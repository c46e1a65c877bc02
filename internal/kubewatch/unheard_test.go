package kubewatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// Watches that say nothing are resumed for a while, and then there is a list.
func TestUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listWatch{silence: silence, health: newHealth(context.Background(), "nodes", func(error) {})}
		next := func() (*watch.FakeWatcher, <-chan watch.Event) {
			inner := watch.NewFake()
			s := &stream{inner: inner, events: make(chan watch.Event), stopped: make(chan struct{})}
			go s.forward(l)
			return inner, s.ResultChan()
		}
		l.hear() // a list
		began := time.Now()
		for range 4 {
			_, events := next()
			require.Empty(t, <-events, "its end")
		}
		require.Equal(t, 4*silence, time.Since(began))
		inner, events := next()
		inner.Action(watch.Bookmark, &corev1.Node{})
		require.Equal(t, watch.Bookmark, (<-events).Type)
		require.Empty(t, <-events)
		for range 3 {
			_, events := next()
			require.Empty(t, <-events, "it has said something")
		}
		_, events = next()
		last := <-events
		require.Equal(t, watch.Error, last.Type)
		require.True(t, apierrors.IsResourceExpired(apierrors.FromObject(last.Object)))
		require.Equal(t, 4*silence+unheard, time.Since(began))
	})
}
