package agentcheck_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// A HAProxy checks a Server that reads names, and a Server that ignores the names that HAProxy
// sends.
func TestServerAndHAProxy(t *testing.T) {
	replies := []agentcheck.Reply{
		{State: up, Admin: ready, Weight: percent(75)},
		{State: up, Admin: drain, Weight: percent(100), Reason: "cordoned"},
		{State: fail, Admin: ready, Weight: percent(0), MaxConn: limit(30), Reason: "disk\nfull"},
		{State: stopped, Admin: maint, Weight: percent(300)},
		{Weight: percent(1), MaxConn: limit(1<<32 - 1)},
		{},
	}
	for _, readName := range []bool{true, false} {
		t.Run(fmt.Sprintf("ReadName=%v", readName), func(t *testing.T) {
			var servers []rigServer
			want := make(map[string]agentcheck.Reply)
			for i, r := range replies {
				s := rigServer{name: fmt.Sprintf("s%d", i), weight: 100}
				servers = append(servers, s)
				want[s.name] = r
				if !readName {
					want[s.name] = replies[2] // the same for all servers
				}
			}
			asked := newTally(len(servers))
			s := &agentcheck.Server{
				ReadName: readName,
				Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
					if !readName {
						return replies[2]
					}
					return want[q.Name]
				}),
				Finished: func(x agentcheck.Exchange) {
					if x.Err == nil {
						asked.add(x.Request.Name)
					}
				},
			}
			l := listen(t)
			startOn(t, s, l)
			dir := haproxytest.Dir(t)
			haproxytest.Start(t, dir, rigConfig(dir, patient, l.Addr().(*net.TCPAddr).Port, servers))
			r := &rig{socket: runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}}

			if readName {
				for _, s := range servers {
					asked.wait(t, s.name, 3)
				}
			} else { // the count includes health checks, so each server has at least 3 checks
				asked.wait(t, "", 8*len(servers))
			}
			got := r.look(t)
			for _, s := range servers {
				m := newModel(100).apply(want[s.name])
				m.requireSame(t, got[s.name])
				line, err := want[s.name].AppendLine(nil)
				require.NoError(t, err)
				requireShown(t, string(line), got[s.name].agent)
			}
		})
	}
}

// tally counts events by name. A test can wait for a count.
type tally struct {
	mu    sync.Mutex
	count map[string]int
	added chan struct{} // has a value after an event
}

func newTally(names int) *tally {
	return &tally{count: make(map[string]int, names), added: make(chan struct{}, 1)}
}

func (c *tally) add(name string) {
	c.mu.Lock()
	c.count[name]++
	c.mu.Unlock()
	select {
	case c.added <- struct{}{}:
	default:
	}
}

func (c *tally) wait(t *testing.T, name string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		have := c.count[name]
		c.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-c.added:
		case <-deadline:
			t.Fatalf("%q was asked for %d times, not %d", name, have, n)
		}
	}
}
