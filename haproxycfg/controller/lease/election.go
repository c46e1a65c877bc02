package lease

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/haproxycfg/controller"
)

var (
	errHeldByAnother = errors.New("lease: another process holds the Lease")
	errDeleted       = errors.New("lease: the Lease was deleted")
)

// leaseClient contains those methods of a client of Leases that an election calls.
type leaseClient interface {
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// election is one run of an Elector. Only one goroutine uses it.
type election struct {
	connect         func() (leaseClient, error)
	namespace, name string
	identity        string
	begin           func(controller.Term)
	leader          func(name string, self bool)
	log             *slog.Logger

	client leaseClient // nil before the first request, and after an error
	// The field "lease" is the Lease as this process has last read or written it; nil means that
	// the Lease does not exist. The field "since" is the time, by the clock of this process, at
	// which the process first saw the last write of a leader. The election does not use the times
	// in the Lease, because the clocks of the processes may differ.
	lease *coordinationv1.Lease
	since time.Time

	told    string // the name in the last call of leader
	lastErr string // the last error in the log
}

// run takes part in the election until ctx ends.
func (e *election) run(ctx context.Context) {
	e.leader("", false)
	for ctx.Err() == nil {
		t, err := e.acquire(ctx)
		e.logError(ctx, err)
		if t != nil {
			e.lead(ctx, t)
		}
		select {
		case <-time.After(e.pause()):
		case <-ctx.Done():
		}
	}
	e.tell("")
}

// pause returns the time until the next attempt to acquire the Lease. The pause ends at the latest
// when the Lease expires. It is partly random, so that the processes try at different times.
func (e *election) pause() time.Duration {
	pause := retryPeriod + rand.N(retryPeriod/2)
	if e.holder() != "" {
		if left := e.duration() - time.Since(e.since); left > 0 {
			pause = min(pause, left)
		}
	}
	return pause
}

// acquire makes one attempt to acquire the Lease. If another process holds the Lease, acquire
// returns a nil term and no error.
func (e *election) acquire(ctx context.Context) (*term, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	t, err := e.tryAcquire(ctx)
	if err != nil {
		e.client = nil // perhaps its credentials have expired
	}
	return t, err
}

func (e *election) tryAcquire(ctx context.Context) (*term, error) {
	if e.client == nil {
		client, err := e.connect()
		if err != nil {
			return nil, err
		}
		e.client = client
	}
	if err := e.read(ctx); err != nil {
		return nil, err
	}
	holder := e.holder()
	if holder != "" && holder != e.identity && time.Since(e.since) < e.duration() {
		e.tell(holder)
		return nil, nil
	}
	now := time.Now()
	err := e.write(ctx, func(spec *coordinationv1.LeaseSpec) {
		transitions := int32(0)
		if spec.LeaseTransitions != nil {
			transitions = *spec.LeaseTransitions
		}
		if e.lease != nil && holder != e.identity {
			transitions++
		}
		spec.AcquireTime, spec.LeaseTransitions = nil, &transitions
		e.renewal(spec, now)
	})
	switch {
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		return nil, nil // another process was faster
	case err != nil:
		return nil, err
	}
	return newTerm(now), nil
}

// lead runs while this process leads: it keeps the Lease until this process loses it or ctx ends.
func (e *election) lead(ctx context.Context, t *term) {
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		e.begin(controller.Term{Guard: t.guard, Done: t.done})
	}()
	e.tell(e.identity)
	e.keep(ctx, t)
	// End the term before the process releases the Lease: another process may then lead at once.
	t.end()
	e.tell("")
	e.log.Warn("this terminator does not lead any more")
	if err := e.release(context.WithoutCancel(ctx)); err != nil {
		e.log.Warn("cannot release the Lease", "lease", e.namespace+"/"+e.name, "err", err)
	}
	e.client = nil
	<-begun
}

// keep renews the Lease until this process loses it or ctx ends.
func (e *election) keep(ctx context.Context, t *term) {
	for {
		select {
		case <-time.After(min(retryPeriod, time.Until(t.deadline()))):
		case <-t.done: // guard has ended the term
		case <-ctx.Done():
			return
		}
		// If this process was suspended, its term may have ended in the meantime. Then the process
		// must not renew the Lease.
		if t.guard() != nil {
			return
		}
		renewing, cancel := context.WithDeadline(ctx, t.deadline())
		now := time.Now()
		err := e.renew(renewing, now)
		cancel()
		if err == nil {
			t.renew(now)
		}
		e.logError(ctx, err)
		if errors.Is(err, errHeldByAnother) {
			return
		}
	}
}

// renew makes one attempt to renew the Lease. If somebody has deleted the Lease, renew creates it.
// If another process holds the Lease, the error is errHeldByAnother.
func (e *election) renew(ctx context.Context, now time.Time) error {
	renewal := func(spec *coordinationv1.LeaseSpec) { e.renewal(spec, now) }
	err := e.writeAsHolder(ctx, renewal)
	if errors.Is(err, errDeleted) {
		err = e.write(ctx, renewal)
	}
	return err
}

// release removes the holder from the Lease, so that another process can acquire the Lease at once.
// It does nothing if another process is the holder.
func (e *election) release(ctx context.Context) error {
	if e.holder() != e.identity {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := e.writeAsHolder(ctx, func(spec *coordinationv1.LeaseSpec) {
		nobody, second, now := "", int32(1), metav1.NowMicro()
		spec.HolderIdentity, spec.LeaseDurationSeconds = &nobody, &second
		spec.AcquireTime, spec.RenewTime = &now, &now
	})
	if errors.Is(err, errHeldByAnother) || errors.Is(err, errDeleted) {
		return nil
	}
	return err
}

func (e *election) renewal(spec *coordinationv1.LeaseSpec, now time.Time) {
	renewed, seconds := metav1.NewMicroTime(now), int32(leaseDuration/time.Second)
	spec.HolderIdentity, spec.LeaseDurationSeconds, spec.RenewTime = &e.identity, &seconds, &renewed
	if spec.AcquireTime == nil {
		spec.AcquireTime = &renewed
	}
}

// writeAsHolder writes the Lease. If the Lease has changed since this process last read it,
// writeAsHolder reads the Lease again, and writes it only if this process is still the holder. The
// error is errDeleted if the Lease no longer exists, and errHeldByAnother if another process is the
// holder.
func (e *election) writeAsHolder(ctx context.Context, change func(*coordinationv1.LeaseSpec)) error {
	err := e.write(ctx, change)
	if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
		return err
	}
	if err := e.read(ctx); err != nil {
		return err
	}
	switch {
	case e.lease == nil:
		return errDeleted
	case e.holder() != e.identity:
		return errHeldByAnother
	}
	return e.write(ctx, change)
}

// write writes the Lease. The API server refuses the write if the Lease has changed since this
// process last read it.
func (e *election) write(ctx context.Context, change func(*coordinationv1.LeaseSpec)) (err error) {
	next := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: e.name}}
	if e.lease != nil {
		next = e.lease.DeepCopy()
	}
	change(&next.Spec)
	if e.lease == nil {
		next, err = e.client.Create(ctx, next, metav1.CreateOptions{})
	} else {
		next, err = e.client.Update(ctx, next, metav1.UpdateOptions{})
	}
	if err == nil {
		e.observe(next)
	}
	return err
}

func (e *election) read(ctx context.Context) error {
	lease, err := e.client.Get(ctx, e.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease, err = nil, nil
	}
	if err == nil {
		e.observe(lease)
	}
	return err
}

// observe stores the Lease, or nil if the API server has none. A write of a leader also sets since,
// so that the time until the Lease expires begins again. Another change, such as a new label, does
// not prolong the Lease.
func (e *election) observe(lease *coordinationv1.Lease) {
	if lease == nil || e.lease == nil || holder(lease) != e.holder() ||
		!lease.Spec.RenewTime.Equal(e.lease.Spec.RenewTime) || !lease.Spec.AcquireTime.Equal(e.lease.Spec.AcquireTime) {
		e.since = time.Now()
	}
	e.lease = lease
}

func (e *election) holder() string { return holder(e.lease) }

func holder(lease *coordinationv1.Lease) string {
	if lease == nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// duration returns the time after which the Lease expires if its holder does not renew it.
func (e *election) duration() time.Duration {
	if seconds := e.lease.Spec.LeaseDurationSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return leaseDuration
}

func (e *election) tell(name string) {
	if name == e.told {
		return
	}
	e.told = name
	e.leader(name, name == e.identity)
	if name != "" {
		e.log.Info("leader", "is", name, "self", name == e.identity)
	}
}

// logError logs an error, unless it is the same as the last one.
func (e *election) logError(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != e.lastErr && ctx.Err() == nil {
		e.log.Error("cannot take part in the election", "lease", e.namespace+"/"+e.name, "err", err)
	}
	e.lastErr = text
}
