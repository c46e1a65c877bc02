package longpoll

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Waiters{Max: 1}
		changed := make(chan struct{})
		results := make(chan bool, 1)
		wait := func() { results <- w.Wait(httptest.NewRequest("GET", "/", nil), changed, time.Minute) }
		began := time.Now()

		wait()
		require.True(t, <-results)
		require.Equal(t, time.Minute, time.Since(began), "nothing changes")

		go wait()
		synctest.Wait()
		require.Equal(t, 1, w.Count())
		require.False(t, w.Wait(httptest.NewRequest("GET", "/", nil), changed, time.Minute), "one request waits already")
		close(changed)
		require.True(t, <-results)

		changed = make(chan struct{})
		go wait()
		synctest.Wait()
		w.Stop()
		w.Stop()
		require.True(t, <-results)
		wait()
		require.True(t, <-results, "after Stop, no request waits")
		require.Equal(t, time.Minute, time.Since(began))
		require.Zero(t, w.Count())
	})
}
