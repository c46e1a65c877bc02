package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/relay"
)

// If there are very many faults, the log has only a few lines a second for each outcome. The log
// still states the number of all faults.
func TestFaultsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, m := &clitest.Output{}, newMetrics()
		a := newAccessLog(slog.New(slog.NewTextHandler(out, nil)), 0, 3, m)
		done := make(chan struct{})
		go func() { a.write(); close(done) }()
		synctest.Wait()
		flood := func(outcome sniproxy.Outcome, n int) {
			for range n {
				a.finished(sniproxy.Stats{Outcome: outcome, Err: errors.New("bad")})
				synctest.Wait()
			}
		}
		count := func(text string) int { return strings.Count(out.String(), text) }
		flood(sniproxy.Rejected, 2000)
		flood(sniproxy.DialFailed, 2)
		flood(sniproxy.Gone, 100)
		require.Equal(t, 3, count("msg=connection id=0")-count("outcome=dial_failed"))
		require.Equal(t, 2, count("outcome=dial_failed"), "one flood does not hide the other faults")
		require.Zero(t, count("outcome=gone"), "a client that leaves early is no fault")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Contains(t, out.String(), `msg="connections with a fault that have no line" outcome=rejected count=1997`)
		flood(sniproxy.Rejected, 4)
		require.Equal(t, 6, count("msg=connection id=0")-count("outcome=dial_failed"), "a new second allows new lines")
		close(a.lines)
		<-done
		require.Contains(t, out.String(), "outcome=rejected count=1\n", "the end of the log counts the rest too")
		refusals, others := a.lastFaults()
		require.Len(t, refusals, keptFaults)
		require.Len(t, others, 2, "a flood of refusals hides no other fault")
	})
}

func TestFaults(t *testing.T) {
	reset := fmt.Errorf("wrapped: %w", relay.ErrClientReset)
	for _, tt := range []struct {
		name  string
		stats sniproxy.Stats
		want  bool
	}{
		{"clean end", sniproxy.Stats{Outcome: sniproxy.Relayed}, false},
		{"reset after an answer", sniproxy.Stats{Outcome: sniproxy.Relayed, ToClient: 100, Err: reset}, false},
		{"reset before an answer", sniproxy.Stats{Outcome: sniproxy.Relayed, Err: reset}, true},
		{"other error after an answer", sniproxy.Stats{Outcome: sniproxy.Relayed, ToClient: 100, Err: errors.New("bad")}, true},
		{"client left early", sniproxy.Stats{Outcome: sniproxy.Gone, Err: errors.New("left")}, false},
		{"unknown host", sniproxy.Stats{Outcome: sniproxy.NotFound, Err: errors.New("not found")}, true},
	} {
		require.Equal(t, tt.want, isFault(tt.stats), tt.name)
	}
}

// It is no fault if a client resets its connection after the answer instead of closing it.
func TestResetAfterAnswerIsNoFault(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.http))
	c, err := net.Dial("tcp", p.http)
	require.NoError(t, err)
	conn := c.(*net.TCPConn)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 4096))
	require.NoError(t, err)
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), "outcome=relayed name=a.test") })
	require.NotContains(t, p.stderr.String(), "level=WARN")
}
