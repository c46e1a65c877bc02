package leases_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/kubeclient/leasestest"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/leases"
)

func newStore() (leases.Store, *leasestest.Leases) {
	f := leasestest.New()
	return leases.Store{Client: f, Cluster: "eu-1"}, f
}

var now = time.Date(2026, 1, 2, 10, 32, 0, 0, time.UTC)

func grant(node string) gate.Grant {
	return gate.Grant{Node: node, Holder: "kured", Taken: now, TTL: time.Hour}
}

func take(s leases.Store, nodes ...string) error {
	return s.Decide(context.Background(), func([]gate.Grant) (c leases.Changes, err error) {
		for _, n := range nodes {
			c.Taken = append(c.Taken, grant(n))
		}
		return c, nil
	})
}

func TestGrantsAreStoredAndEnd(t *testing.T) {
	s, f := newStore()
	require.NoError(t, take(s, "b", "a"))
	got, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []gate.Grant{grant("a"), grant("b")}, utc(got))

	away := grant("a")
	away.Went, away.Back = now.Add(time.Minute), now.Add(2*time.Minute)
	require.NoError(t, s.Decide(t.Context(), func([]gate.Grant) (leases.Changes, error) {
		return leases.Changes{Updated: []gate.Grant{away}, Ended: []gate.Grant{grant("b")}}, nil
	}))
	got, err = leases.Store{Client: f, Cluster: "eu-1"}.List(t.Context()) // another process
	require.NoError(t, err)
	require.Equal(t, []gate.Grant{away}, utc(got))

	other, err := leases.Store{Client: f, Cluster: "eu-2"}.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, other)

	_, err = s.Release(t.Context(), "a", "somebody")
	require.ErrorContains(t, err, "kured holds the grant for a")
	found, err := s.Release(t.Context(), "a", "kured")
	require.NoError(t, err)
	require.True(t, found)
	found, err = s.Release(t.Context(), "a", "")
	require.NoError(t, err)
	require.False(t, found)
}

func TestAManualGrantStaysManual(t *testing.T) {
	s, _ := newStore()
	manual := grant("a")
	manual.Manual = true
	require.NoError(t, s.Decide(t.Context(), func([]gate.Grant) (leases.Changes, error) { return leases.Changes{Taken: []gate.Grant{manual}}, nil }))
	away := manual
	away.Went = now.Add(time.Minute)
	require.NoError(t, s.Decide(t.Context(), func([]gate.Grant) (leases.Changes, error) { return leases.Changes{Updated: []gate.Grant{away}}, nil }))
	got, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []gate.Grant{away}, utc(got))
}

// TestALeaseThatSomebodyEdited: a Lease counts as a grant even if somebody has removed fields from
// it.
func TestALeaseThatSomebodyEdited(t *testing.T) {
	s, f := newStore()
	require.NoError(t, take(s, "a.example"))
	l, err := f.Get(t.Context(), "eu-1.a.example", metav1.GetOptions{})
	require.NoError(t, err)
	l.Annotations, l.Spec = map[string]string{"headgate.dev/grant-went": "yesterday"}, coordinationv1.LeaseSpec{}
	_, err = f.Update(t.Context(), l, metav1.UpdateOptions{})
	require.NoError(t, err)
	got, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.WithinDuration(t, time.Now(), got[0].Taken, time.Hour, "the time of the Lease itself")
	got[0].Taken = time.Time{}
	require.Equal(t, []gate.Grant{{Node: "a.example", Holder: "unknown"}}, got)
}

func TestGrantsThatCannotBeStored(t *testing.T) {
	s, _ := newStore()
	for _, g := range []gate.Grant{
		{Node: "a", Taken: now, TTL: time.Hour},
		{Node: "a", Holder: "two words", Taken: now, TTL: time.Hour},
		{Node: "a", Holder: "kured", Taken: now},
	} {
		require.Error(t, s.Decide(t.Context(), func([]gate.Grant) (leases.Changes, error) {
			return leases.Changes{Taken: []gate.Grant{g}}, nil
		}), g)
	}
	require.ErrorContains(t, leases.Store{Client: s.Client, Cluster: "EU 1"}.Decide(t.Context(), nil), "no name of a cluster")
}

// TestManyProcessesDecide: each of 16 processes wants a grant, and the function "decide" allows 3
// grants at a time. A process releases its grant, and then takes another one. There are never more
// than 3 grants, although all processes read and write at the same time.
func TestManyProcessesDecide(t *testing.T) {
	s, f := newStore()
	const limit, processes, rounds = 3, 16, 5
	var taken atomic.Int32
	var group sync.WaitGroup
	failed := make(chan error, processes)
	for p := range processes {
		group.Go(func() {
			node := fmt.Sprint("n", p)
			for done := 0; done < rounds; {
				got := false
				err := s.Decide(t.Context(), func(grants []gate.Grant) (leases.Changes, error) {
					got = len(grants) < limit
					decided := slices.DeleteFunc(slices.Clone(grants), func(g gate.Grant) bool { return g.Pending })
					if len(decided) > limit {
						return leases.Changes{}, fmt.Errorf("%d grants: %v", len(decided), decided)
					}
					if !got {
						return leases.Changes{}, nil
					}
					return leases.Changes{Taken: []gate.Grant{grant(node)}}, nil
				})
				if errors.Is(err, leases.ErrBusy) {
					continue
				}
				if err == nil && got {
					if n := taken.Add(1); n > limit {
						err = fmt.Errorf("%d processes have a grant", n)
					}
					taken.Add(-1)
					for released := false; err == nil && !released; {
						_, err = s.Release(t.Context(), node, "kured")
						if released = err == nil; errors.Is(err, leases.ErrBusy) {
							err = nil
						}
					}
					done++
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	require.Equal(t, 1, f.Len(), "only the decision Lease is left")
}

// TestAProcessThatEndsHalfway makes one request fail, before or after the effect of the request,
// and also all later requests. It does this for each request in turn. Every Lease that the process
// leaves behind is either pending, or a grant that the process was allowed to get. A pending Lease
// counts as a grant, and another process removes it after PendingTimeout.
func TestAProcessThatEndsHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed := errors.New("killed")
		for _, after := range []bool{false, true} {
			for at, done := 1, false; !done; at++ {
				s, f := newStore()
				n := 0
				f.Fail = func(string, string) (error, error) {
					n++
					switch {
					case n < at:
						return nil, nil
					case n == at && after:
						return nil, killed
					}
					return killed, nil
				}
				done = take(s, "a", "b", "c") == nil
				f.Fail = nil
				left, err := s.List(t.Context())
				require.NoError(t, err)
				decided := slices.DeleteFunc(slices.Clone(left), func(g gate.Grant) bool { return g.Pending })
				if done {
					require.Len(t, decided, 3)
					break
				}
				time.Sleep(leases.PendingTimeout + time.Second)
				later, err := s.List(t.Context())
				require.NoError(t, err)
				require.ElementsMatch(t, decided, later)
			}
		}
	})
}

// TestAProcessThatIsSuspended: a process is suspended in the middle of a decision. Meanwhile,
// another process removes its pending Leases. So the first process gets no grant.
func TestAProcessThatIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore()
		resume := make(chan bool)
		decided := false
		slow := slowLeases{Client: f, update: func() {
			if !decided { // before the decision Lease is written
				decided = true
				<-resume
			}
		}}
		result := make(chan error)
		go func() { result <- take(leases.Store{Client: slow, Cluster: "eu-1"}, "a") }()
		synctest.Wait()
		got, err := s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.True(t, got[0].Pending)
		time.Sleep(leases.PendingTimeout + time.Second)
		got, err = s.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, got)
		require.NoError(t, take(s, "b"))
		close(resume)
		require.NoError(t, <-result, "it decides again")
		got, err = s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 2)
	})
}

// slowLeases calls the function "update" before each Update.
type slowLeases struct {
	leases.Client
	update func()
}

func (s slowLeases) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	s.update()
	return s.Client.Update(ctx, l, o)
}

func utc(grants []gate.Grant) []gate.Grant {
	for i, g := range grants {
		grants[i].Taken = g.Taken.UTC()
	}
	return grants
}
