package sniproxy

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/relay"
)

// If no descriptor is free for a connection to an upstream, the Server closes connections whose
// clients have not named a host, and tries again later.
func TestConnectingWaitsForDescriptors(t *testing.T) {
	noMore := os.NewSyscallError("socket", syscall.EMFILE)
	for name, tt := range map[string]struct {
		failures int
		action   relay.Action
	}{
		"descriptors return": {2, relay.Connect},
		"still none":         {4, relay.Answer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Lookup: &askedFor{}}
				require.NoError(t, s.init())
				on := &listener{srv: s, port: 443}
				idle := s.accept(on, stillConn{}).(*session)
				c := stillConn{resumed: make(chan relay.Step, 1)}
				n := s.accept(on, c).(*session)
				step := n.Hello(hellotest.Hello{Name: "a.example"}.Wire(), nil)
				begin := time.Now()
				for range tt.failures {
					require.Equal(t, relay.Connect, step.Action)
					require.EqualValues(t, viaLookup, step.Addr.Port())
					if step = n.DialFailed(noMore); step.Action == relay.Wait {
						step = <-c.resumed
					}
				}
				require.Equal(t, tt.action, step.Action)
				require.True(t, s.conns.Evicted(idle))
				require.Less(t, time.Since(begin), 5*time.Second)
				n.Done(relay.Result{})
				if tt.action == relay.Answer {
					require.Equal(t, DialFailed, n.outcome)
					require.ErrorIs(t, n.err, syscall.EMFILE)
					require.EqualValues(t, 80, n.answer)
				}
				idle.Done(relay.Result{Phase: relay.PhaseHello})
				require.Equal(t, Limited, idle.outcome)
			})
		})
	}
}

func TestStatsInWords(t *testing.T) {
	require.Equal(t, "accept", PhaseAccept.String())
	require.Equal(t, "relay", PhaseRelay.String())
	require.Equal(t, "unknown(9)", Phase(9).String())
	require.Equal(t, "open", Open.String())
	require.Equal(t, "lookup_failed", LookupFailed.String())
	require.Equal(t, "aborted", Aborted.String())
	require.Equal(t, "unknown(99)", Outcome(99).String())
}

// The Peekers of hostlookup answer at once if they can, and otherwise return ErrWouldWait.
func TestPeekers(t *testing.T) {
	ep := hostlookup.Endpoint{Host: "a.example", Addr: "198.51.100.1"}
	list, _, err := hostlookup.ParseHosts("", []byte(`[{"host":"a.example","endpoint":"198.51.100.1"}]`))
	require.NoError(t, err)
	file := &hostlookup.File{Path: t.TempDir() + "/hosts.json"}
	cache := &hostlookup.Cache{}
	defer cache.Close()
	for name, l := range map[string]hostlookup.Lookup{"hosts": list, "file": file, "cache": cache} {
		t.Run(name, func(t *testing.T) {
			i := l.(hostlookup.Peeker)
			switch l {
			case file:
				_, err := i.Peek("a.example")
				require.Equal(t, hostlookup.ErrWouldWait, err, "not read yet")
				require.NoError(t, os.WriteFile(file.Path, []byte(`[{"host":"a.example","endpoint":"198.51.100.1"}]`), 0o600))
				require.NoError(t, file.Load())
			case cache:
				_, err := i.Peek("a.example")
				require.Equal(t, hostlookup.ErrWouldWait, err)
				require.NoError(t, cache.Set("a.example", ep))
			}
			got, err := i.Peek("a.example")
			require.NoError(t, err)
			require.Equal(t, ep.Addr, got.Addr)
			if l != cache {
				_, err = i.Peek("b.example")
				require.ErrorIs(t, err, hostlookup.ErrNotFound)
			}
		})
	}
	_, ok := any(hostlookup.Func(nil)).(hostlookup.Peeker)
	require.False(t, ok)
}

// An idle connection should need at most 1 KiB of memory, including the memory of the engine.
func TestSessionsAreSmall(t *testing.T) {
	require.LessOrEqual(t, sizeOfSession, uintptr(320))
}
