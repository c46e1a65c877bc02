package lease

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/internal/kubeclient/leasestest"
)

// process is a process that takes part in an election.
type process struct {
	stop    func() // stops the process, and waits for it
	gateway *gateway

	mu       sync.Mutex
	terms    []controller.Term
	leaders  []string
	connects int
}

// gateway is the network between a process and the API server.
type gateway struct {
	leaseClient
	mu    sync.Mutex
	fault func(ctx context.Context) error // what happens to each request; nil means that it passes
}

func (g *gateway) pass(ctx context.Context) error {
	g.mu.Lock()
	fault := g.fault
	g.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx)
}

func (g *gateway) set(fault func(ctx context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = fault
}

func (g *gateway) Get(ctx context.Context, name string, o metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	return g.leaseClient.Get(ctx, name, o)
}

func (g *gateway) Create(ctx context.Context, l *coordinationv1.Lease, o metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	return g.leaseClient.Create(ctx, l, o)
}

func (g *gateway) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	return g.leaseClient.Update(ctx, l, o)
}

var errRefused = errors.New("connection refused")

func refuse(context.Context) error { return errRefused }

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// start starts a process in the election for the Lease "lease" of the API server.
func start(t *testing.T, api leaseClient, identity string) *process {
	p := &process{gateway: &gateway{leaseClient: api}}
	e := &election{
		connect: func() (leaseClient, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.connects++
			return p.gateway, nil
		},
		namespace: "ns", name: "lease", identity: identity, log: slog.New(slog.DiscardHandler),
		begin: func(term controller.Term) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.terms = append(p.terms, term)
		},
		leader: func(name string, self bool) {
			if self {
				name += " (self)"
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.leaders = append(p.leaders, name)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.run(ctx) }()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	synctest.Wait()
	return p
}

// term returns the last term of the process.
func (p *process) term(t *testing.T) controller.Term {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotEmpty(t, p.terms, "the process has not led")
	return p.terms[len(p.terms)-1]
}

// leads reports whether the process may write.
func (p *process) leads() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.terms) > 0 && p.terms[len(p.terms)-1].Guard() == nil
}

func isDone(term controller.Term) bool {
	select {
	case <-term.Done:
		return true
	default:
		return false
	}
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// spec returns the spec of the Lease. Without a Lease it is empty.
func spec(t *testing.T, api leaseClient) coordinationv1.LeaseSpec {
	lease, err := api.Get(t.Context(), "lease", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return coordinationv1.LeaseSpec{}
	}
	require.NoError(t, err)
	return lease.Spec
}

// change changes the Lease as another process or a user.
func change(t *testing.T, api leaseClient, change func(*coordinationv1.Lease)) {
	lease, err := api.Get(t.Context(), "lease", metav1.GetOptions{})
	require.NoError(t, err)
	change(lease)
	_, err = api.Update(t.Context(), lease, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func holdAs(name string) func(*coordinationv1.Lease) {
	return func(l *coordinationv1.Lease) {
		now := metav1.NowMicro()
		l.Spec.HolderIdentity, l.Spec.RenewTime = &name, &now
	}
}

func TestALeaderThatRenewsStaysTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		p := start(t, api, "self")
		term := p.term(t)
		acquired := spec(t, api).AcquireTime
		for range 100 {
			after(retryPeriod)
			require.NoError(t, term.Guard())
		}
		got := spec(t, api)
		require.Equal(t, "self", *got.HolderIdentity)
		require.EqualValues(t, 15, *got.LeaseDurationSeconds)
		require.EqualValues(t, 0, *got.LeaseTransitions)
		require.True(t, acquired.Equal(got.AcquireTime))
		require.LessOrEqual(t, time.Since(got.RenewTime.Time), retryPeriod)
		require.Len(t, p.terms, 1)

		p.stop()
		require.Error(t, term.Guard())
		require.True(t, isDone(term))
		require.Empty(t, *spec(t, api).HolderIdentity, "it releases the Lease")
		require.Equal(t, []string{"", "self (self)", ""}, p.leaders)
	})
}

// TestALeaderThatCannotRenew: the term ends renewDeadline after the last renewal, even if nobody
// calls Guard.
func TestALeaderThatCannotRenew(t *testing.T) {
	for name, fault := range map[string]func(context.Context) error{"refused": refuse, "no answer": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := leasestest.New()
				p := start(t, api, "self")
				term := p.term(t)
				p.gateway.set(fault) // the last renewal is the first write
				after(renewDeadline - time.Millisecond)
				require.False(t, isDone(term))
				require.NoError(t, term.Guard())
				after(time.Millisecond)
				require.True(t, isDone(term))
				require.ErrorIs(t, term.Guard(), errExpired)
				require.Equal(t, []string{"", "self (self)", ""}, p.leaders)

				p.gateway.set(nil)
				after(requestTimeout + 2*retryPeriod)
				require.True(t, p.leads(), "it leads again")
				require.Greater(t, p.connects, 1, "with a new configuration")
				require.ErrorIs(t, term.Guard(), errExpired, "the end of a term is final")
			})
		})
	}
}

// TestAProcessThatWasSuspended: Guard fails before any timer has fired.
func TestAProcessThatWasSuspended(t *testing.T) {
	for name, since := range map[string]func(time.Time) time.Time{
		"the process":                func(now time.Time) time.Time { return now },
		"the machine, and its clock": func(now time.Time) time.Time { return now.Round(0) },
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerm(since(time.Now()).Add(-renewDeadline))
			require.ErrorIs(t, term.guard(), errExpired)
			select {
			case <-term.done:
			default:
				t.Fatal("the caller of guard stops writing now, so the process must stop leading too")
			}
			term.renew(time.Now())
			require.ErrorIs(t, term.guard(), errExpired, "the end of a term is final")
		})
	}
}

// TestAnotherProcessTakesTheLease: the leader stops at once, and leaves the Lease to the other
// process.
func TestAnotherProcessTakesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		p := start(t, api, "self")
		term := p.term(t)
		change(t, api, holdAs("other"))
		after(retryPeriod)
		require.True(t, isDone(term))
		require.ErrorIs(t, term.Guard(), errExpired)
		require.Equal(t, "other", *spec(t, api).HolderIdentity)

		after(2 * retryPeriod)
		require.Equal(t, []string{"", "self (self)", "", "other"}, p.leaders)
		p.stop()
		require.Equal(t, "other", *spec(t, api).HolderIdentity)
	})
}

// TestTwoProcesses: at no time do both processes lead.
func TestTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		a, b := start(t, api, "a"), start(t, api, "b")
		neverBoth := func(until func() bool) {
			for begin := time.Now(); !until(); after(10 * time.Millisecond) {
				require.False(t, a.leads() && b.leads(), "both processes lead")
				require.Less(t, time.Since(begin), time.Minute)
			}
		}
		require.True(t, a.leads())
		after(time.Minute)
		require.Empty(t, b.terms)
		require.Equal(t, []string{"", "a"}, b.leaders)

		// The process a loses its network. The process b leads when the Lease has expired.
		a.gateway.set(refuse)
		lost := time.Now()
		neverBoth(b.leads)
		require.GreaterOrEqual(t, time.Since(lost), leaseDuration-retryPeriod)
		require.LessOrEqual(t, time.Since(lost), 20*time.Second, "the documentation promises this time")
		require.EqualValues(t, 1, *spec(t, api).LeaseTransitions)
		a.gateway.set(nil)
		after(time.Minute)
		require.False(t, a.leads())
		require.Equal(t, []string{"", "a (self)", "", "b"}, a.leaders)

		// The process b stops, and releases the Lease.
		stopped := time.Now()
		b.stop()
		neverBoth(a.leads)
		require.LessOrEqual(t, time.Since(stopped), 5*time.Second, "the documentation promises this time")
	})
}

// TestALabelDoesNotProlongALease: the time of a Lease starts with a write of its holder.
func TestALabelDoesNotProlongALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		_, err := api.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "lease"}}, metav1.CreateOptions{})
		require.NoError(t, err)
		change(t, api, holdAs("dead"))
		p := start(t, api, "self")
		for range 14 {
			after(time.Second)
			change(t, api, func(l *coordinationv1.Lease) { l.Labels = map[string]string{"at": time.Now().String()} })
			require.False(t, p.leads())
		}
		after(time.Second + 2*retryPeriod)
		require.True(t, p.leads())
	})
}

// TestARenewalSurvivesOtherChanges: a leader stays the leader if somebody edits or deletes the
// Lease.
func TestARenewalSurvivesOtherChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		p := start(t, api, "self")
		term := p.term(t)
		change(t, api, func(l *coordinationv1.Lease) { l.Labels = map[string]string{"a": "b"} })
		after(retryPeriod)
		lease, err := api.Get(t.Context(), "lease", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "b"}, lease.Labels)
		require.NoError(t, api.Delete(t.Context(), "lease", metav1.DeleteOptions{}))
		after(renewDeadline)
		require.NoError(t, term.Guard())
		require.Equal(t, "self", *spec(t, api).HolderIdentity)

		require.NoError(t, api.Delete(t.Context(), "lease", metav1.DeleteOptions{}))
		p.stop()
		require.Equal(t, 0, api.Len(), "a process that stops does not create the Lease")
	})
}

// TestALeaseThatCannotBeCreated: there is no namespace.
func TestALeaseThatCannotBeCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := leasestest.New()
		api.Fail = func(verb, _ string) (before, after error) {
			if verb == "create" {
				before = apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "ns")
			}
			return before, nil
		}
		p := start(t, api, "self")
		after(time.Minute)
		require.Empty(t, p.terms)
		require.Greater(t, p.connects, 10, "the process tries again, each time with a new configuration")
		require.False(t, slices.ContainsFunc(p.leaders, func(s string) bool { return s != "" }))
	})
}
