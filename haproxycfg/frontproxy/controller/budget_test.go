package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryBudget(t *testing.T) {
	b := retryBudget{percent: 20, perSecond: 3}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var requests, retries uint64
	step := func(newRequests, newRetries uint64) bool {
		now = now.Add(100 * time.Millisecond)
		requests, retries = requests+newRequests, retries+newRetries
		return b.allows(sample{now, requests, retries})
	}
	require.True(t, step(1000, 200), "the first sample")
	require.True(t, step(0, 2))
	require.False(t, step(0, 2), "at most 3.6 repetitions were allowed")
	require.False(t, step(0, 0))
	require.False(t, step(0, 0))
	require.True(t, step(0, 0))
	require.True(t, step(100, 10))
	require.False(t, step(0, 15))
	requests, retries = 0, 0
	require.True(t, step(0, 0), "HAProxy has restarted")
	for range 100 {
		require.True(t, step(0, 0))
	}
	require.False(t, step(0, 4), "what is not used expires")

	// All pods fail half of the requests. The pods get at most 1.2 times as many requests, and 3
	// more each second.
	requests, retries = 0, 0
	allowed := step(0, 0)
	for range 100 {
		if allowed {
			allowed = step(100, 50)
		} else {
			allowed = step(100, 0)
		}
	}
	require.InDelta(t, 0.2*10000+30, retries, 60)

	// Samples between two requests do not cancel an excess.
	b, requests, retries = retryBudget{percent: 20}, 0, 0
	require.False(t, step(0, 0))
	require.False(t, step(100, 100))
	for range 3 {
		require.False(t, step(0, 0))
		require.False(t, step(100, 0), "80 repetitions too many")
	}
	require.False(t, step(0, 0))
	require.True(t, step(101, 0))

	b, requests, retries = retryBudget{percent: 20}, 0, 0
	require.False(t, step(100, 60), "HAProxy has exceeded the budget before the first sample")
	require.False(t, step(199, 0))
	require.True(t, step(2, 0))

	b, requests, retries = retryBudget{percent: 20, perSecond: 3}, 0, 0
	for range 100 {
		require.False(t, step(0, 1000), "HAProxy repeats requests although it may not")
	}
	require.False(t, step(0, 0))
	require.True(t, step(0, 0), "an excess counts for 10 s")

	b = retryBudget{}
	require.False(t, step(10, 0), "no budget")
}
