package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

// record is the content of a Lease.
type record struct {
	holder            string // "" means that nobody holds the Lease
	duration          time.Duration
	acquired, renewed time.Time // by the clock of the holder
	transitions       int32     // how often the holder changed
}

// lock reads and writes a Lease. Update fails if the Lease has changed since the last call.
type lock interface {
	Get(context.Context) (record, error)
	Create(context.Context, record) error
	Update(context.Context, record) error
}

// candidate is the algorithm of leaderelection.LeaderElector in client-go, with the same times: the
// package of client-go compiles the clients and informers of every API group, 310 packages.
//
// Clocks of different machines are never compared. A candidate takes a Lease over when it has seen
// the same record for the duration in that record.
type candidate struct {
	lock     lock
	identity string
	log      *slog.Logger
	leader   func(name string)

	observed record
	since    time.Time // when this process first saw the record
	reported string    // last name that leader was called with
}

// run waits until this process holds the Lease, calls begin with a context that ends with the term,
// renews the Lease until ctx ends or renewing fails for renewDeadline, and releases it then.
func (c *candidate) run(ctx context.Context, begin func(context.Context)) {
	for !c.attempt(ctx) {
		// The random part keeps the candidates apart.
		if !sleep(ctx, retryPeriod+rand.N(retryPeriod*12/10)) {
			return
		}
	}
	term, end := context.WithCancel(ctx)
	defer end()
	go begin(term)
	for c.renew(ctx) && sleep(ctx, retryPeriod) {
	}
	end()
	c.release()
}

// renew tries for renewDeadline, and reports whether it renewed the Lease.
func (c *candidate) renew(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	for ctx.Err() == nil {
		if c.attempt(ctx) {
			return true
		}
		sleep(ctx, retryPeriod)
	}
	return false
}

// attempt acquires or renews the Lease once, and reports whether this process holds it now.
func (c *candidate) attempt(ctx context.Context) bool {
	held, err := c.acquireOrRenew(ctx)
	if err != nil && ctx.Err() == nil {
		c.log.Error("the lease can be neither acquired nor renewed", "err", err)
	}
	if c.observed.holder != c.reported {
		c.reported = c.observed.holder
		c.leader(c.reported)
	}
	return held
}

func (c *candidate) acquireOrRenew(ctx context.Context) (held bool, err error) {
	now := time.Now()
	next := record{holder: c.identity, duration: leaseDuration, acquired: now, renewed: now}
	if c.observed.holder == c.identity && c.valid(now) {
		next.acquired, next.transitions = c.observed.acquired, c.observed.transitions
		if c.write(ctx, next, c.lock.Update) == nil {
			return true, nil
		}
		// Somebody else has written the Lease, or this write came through without an answer.
	}
	old, err := c.lock.Get(ctx)
	if apierrors.IsNotFound(err) {
		err = c.write(ctx, next, c.lock.Create)
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	if old != c.observed {
		c.observed, c.since = old, time.Now()
	}
	switch {
	case old.holder == c.identity:
		next.acquired, next.transitions = old.acquired, old.transitions
	case old.holder != "" && c.valid(now):
		return false, nil
	default:
		next.transitions = old.transitions + 1
	}
	err = c.write(ctx, next, c.lock.Update)
	return err == nil, err
}

// valid reports whether the holder of the Lease may still believe that it leads.
func (c *candidate) valid(now time.Time) bool { return now.Before(c.since.Add(c.observed.duration)) }

func (c *candidate) write(ctx context.Context, r record, write func(context.Context, record) error) error {
	err := write(ctx, r)
	if err == nil {
		c.observed, c.since = r, time.Now()
	}
	return err
}

// release gives a Lease that this process holds to the next candidate, which need not wait for
// leaseDuration.
func (c *candidate) release() {
	ctx, cancel := context.WithTimeout(context.Background(), renewDeadline)
	defer cancel()
	old, err := c.lock.Get(ctx) // the version to replace
	if err == nil && c.observed.holder == c.identity {
		now := time.Now()
		err = c.write(ctx, record{duration: time.Second, acquired: now, renewed: now, transitions: old.transitions}, c.lock.Update)
	}
	if err != nil && !errors.Is(err, errHeldByAnother) {
		c.log.Warn("the lease cannot be released", "err", err)
	}
}

// sleep reports whether d has passed; otherwise ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// leaseLock implements lock with an API server.
type leaseLock struct {
	client          rest.Interface
	namespace, name string
	lease           *coordinationv1.Lease // as last read or written
}

// codecs contains the objects of one API group.
var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // errors
	utilruntime.Must(coordinationv1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme)
}()

func newLeaseLock(config *rest.Config, namespace, name string) (*leaseLock, error) {
	config = rest.CopyConfig(config)
	config.Timeout = renewDeadline / 2
	config.ContentType = runtime.ContentTypeJSON // one small object
	config.AcceptContentTypes = runtime.ContentTypeJSON
	config.APIPath, config.GroupVersion = "/apis", &coordinationv1.SchemeGroupVersion
	config.NegotiatedSerializer = codecs.WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return &leaseLock{client: client, namespace: namespace, name: name}, nil
}

// Get implements lock.
func (l *leaseLock) Get(ctx context.Context) (record, error) {
	err := l.do(ctx, l.client.Get().Name(l.name))
	if err != nil {
		return record{}, err
	}
	var r record
	spec := l.lease.Spec
	if spec.HolderIdentity != nil {
		r.holder = *spec.HolderIdentity
	}
	if spec.LeaseDurationSeconds != nil {
		r.duration = time.Duration(*spec.LeaseDurationSeconds) * time.Second
	}
	if spec.LeaseTransitions != nil {
		r.transitions = *spec.LeaseTransitions
	}
	if spec.AcquireTime != nil {
		r.acquired = spec.AcquireTime.UTC()
	}
	if spec.RenewTime != nil {
		r.renewed = spec.RenewTime.UTC()
	}
	return r, nil
}

// Create implements lock.
func (l *leaseLock) Create(ctx context.Context, r record) error {
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
		Spec:       r.spec(),
	}
	return l.do(ctx, l.client.Post().Body(lease))
}

// Update implements lock.
func (l *leaseLock) Update(ctx context.Context, r record) error {
	if l.lease == nil {
		return errors.New("lease: Update before Get or Create")
	}
	lease := l.lease.DeepCopy()
	lease.Spec = r.spec()
	return l.do(ctx, l.client.Put().Name(l.name).Body(lease))
}

// do sends a request and keeps the Lease that the API server answers.
func (l *leaseLock) do(ctx context.Context, r *rest.Request) error {
	lease := new(coordinationv1.Lease)
	if err := r.Namespace(l.namespace).Resource("leases").Do(ctx).Into(lease); err != nil {
		return err
	}
	l.lease = lease
	return nil
}

func (r record) spec() coordinationv1.LeaseSpec {
	seconds := int32(r.duration / time.Second)
	return coordinationv1.LeaseSpec{
		HolderIdentity: &r.holder, LeaseDurationSeconds: &seconds, LeaseTransitions: &r.transitions,
		AcquireTime: &metav1.MicroTime{Time: r.acquired}, RenewTime: &metav1.MicroTime{Time: r.renewed},
	}
}
