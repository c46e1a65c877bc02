package nodeagent

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

// check records a check by an HAProxy with the address 10.0.0.last.
func check(a *Agent, last byte, service string, admin agentcheck.Admin) {
	a.recordCheck(service, agentcheck.Exchange{
		Request: agentcheck.Request{RemoteAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, last), Port: 4711}},
		Reply:   agentcheck.Reply{State: agentcheck.Up, Admin: admin},
	})
}

func TestDrainWaitsForActiveHAProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{Watcher: &Watcher{}, status: DrainStatus{Requested: true, Effective: true}}
		go func() {
			for range 30 { // one checks every 10 s, and learns of the drain after 5 minutes
				check(a, 9, "", agentcheck.Ready)
				time.Sleep(10 * time.Second)
			}
			check(a, 9, "", agentcheck.Drain)
		}()
		check(a, 8, "media/tracks", agentcheck.Drain) // before the request
		time.Sleep(time.Second)

		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p, err := a.Drain(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"10.0.0.8 (media/tracks)", "10.0.0.9 (node)"}, p.Uninformed)
		require.False(t, p.Done())
		require.Contains(t, p.String(), "but these HAProxies do not know yet: 10.0.0.8 (media/tracks), 10.0.0.9 (node)")

		p, err = a.Drain(t.Context()) // 10.0.0.8 is inactive by then
		require.NoError(t, err)
		require.InDelta(t, 300, time.Since(began).Seconds(), 1)
		require.Equal(t, DrainProgress{Since: began, Status: a.status, Informed: 1}, p)
		require.True(t, p.Done())
		require.Equal(t, []DrainRequest{{Reason: "drain command", Since: began}}, a.Watcher.ownRequests())

		since, ok := a.EndDrain()
		require.True(t, ok)
		require.Equal(t, began, since)
		require.Empty(t, a.Watcher.ownRequests())
		_, ok = a.EndDrain()
		require.False(t, ok)
	})
}

func TestDrainThatIsNotEffective(t *testing.T) {
	a := &Agent{Watcher: &Watcher{}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := a.Drain(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, p.Done() || p.Waits())
	require.Equal(t, "the answers of the agent do not show the drain yet", p.String())

	a.status = DrainStatus{Requested: true, Draining: 3, Limit: 3, Total: 10}
	p, err = a.Drain(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, p.Waits())
	require.Equal(t, "the node waits: 3 of 10 nodes drain, at most 3 may", p.String())
}

// An agent forgets HAProxies that no longer make checks.
func TestCheckersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{}
		for i := range byte(200) {
			check(a, i, "", agentcheck.Ready)
			time.Sleep(2 * time.Second)
		}
		require.LessOrEqual(t, len(a.checks), 17)
		a.recordCheck("", agentcheck.Exchange{Err: context.Canceled})
		require.LessOrEqual(t, len(a.checks), 17)
	})
}
