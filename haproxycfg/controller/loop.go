package controller

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// loop makes an attempt to apply the latest inputs whenever its schedule says that an attempt is
// due. loop calls the functions in its fields from the goroutine of run.
type loop struct {
	inbox *inbox
	apply func(ctx context.Context, in inputs, now time.Time, allowed permit) Attempt
	// The loop calls the function "seen" when new inputs arrive, before it tries to apply them.
	// started is false while the loop still waits until each source has answered once.
	seen func(in inputs, started bool)
	// The loop calls the function "applied" after each attempt to apply a configuration, except
	// after an attempt that failed because this process is no longer the leader.
	applied func(Attempt)
	// The loop calls the function "leads" with true when the term of this process as the leader
	// begins, and with false when the term ends.
	leads func(bool)

	schedule     schedule
	force        startForce
	startTimeout time.Duration
	recheck      time.Duration

	terms  <-chan Term // nil: this process always leads
	forced chan forceRequest

	calls chan loopCall

	// adopt follows the orders of operators in the inputs; nil means no orders. While this process
	// leads, the loop calls it before each attempt to apply a configuration, and when new inputs
	// arrive.
	adopt func(context.Context, inputs) (again bool, err error)

	term Term // the term of this process; the zero Term while another process leads

	clock func() time.Time // nil means time.Now
}

func (l *loop) now() time.Time {
	if l.clock != nil {
		return l.clock()
	}
	return time.Now()
}

// forceRequest is a request for an attempt to apply a configuration. The attempt ignores Limit for
// the change with this ID. If id is empty, the attempt obeys Limit for every change. The loop sends
// the Attempt to the channel "reply", whose capacity is 1.
type forceRequest struct {
	id    string
	reply chan Attempt
}

// ErrNotLeading is the error of Controller.Force if another process leads, because only the leader
// may apply changes.
var ErrNotLeading = errors.New("another terminator leads")

// run returns when ctx ends.
func (l *loop) run(ctx context.Context) {
	start := time.NewTimer(l.startTimeout)
	defer start.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	recheck := time.Tick(l.recheck)
	for ctx.Err() == nil {
		if wait, ok := l.schedule.due(l.now()); ok && l.leading() {
			if wait == 0 {
				l.attempt(ctx, never)
				continue
			}
			due.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-due.C:
		case <-l.inbox.wake:
			in := l.inbox.latest()
			l.schedule.changed(in.answered())
			l.seen(in, l.schedule.started)
			if in.shared != nil && l.leading() {
				// Follow new shares of shifts even if it is not time to apply a configuration. Ignore
				// an error here: the next attempt to apply a configuration reports the same error.
				_, _ = l.callGracefully(ctx, l.adopt)
			}
		case <-start.C:
			l.schedule.startTimeoutOver()
			l.seen(l.inbox.latest(), true)
		case <-recheck:
			l.schedule.recheck()
		case term := <-l.terms:
			l.beginTerm(term)
		case <-l.term.Done:
			l.endTerm()
		case request := <-l.forced:
			request.reply <- l.forceNow(ctx, request.id)
		case request := <-l.calls:
			request.reply <- l.call(ctx, request.do)
		}
	}
}

// If this process leads, the method "call" runs the function in the argument "do". If the first
// result of this function is true, the method then makes an attempt to apply a configuration.
func (l *loop) call(ctx context.Context, do func(context.Context, inputs) (again bool, err error)) (r callResult) {
	if !l.leading() {
		return callResult{err: ErrNotLeading}
	}
	again, err := l.callGracefully(ctx, do)
	switch {
	case !again:
	case l.schedule.started:
		r.attempt = l.attempt(ctx, never)
	default:
		r.attempt = Attempt{Outcome: Failed, Err: errNotStarted}
	}
	r.err = err
	return r
}

func (l *loop) callGracefully(ctx context.Context, do func(context.Context, inputs) (again bool, err error)) (again bool, err error) {
	applying, done := graceful(ctx, l.term.Done)
	defer done()
	return do(applying, l.inbox.latest())
}

var errNotStarted = errors.New("not all clusters have answered, or not all routes have been read yet")

func (l *loop) forceNow(ctx context.Context, id string) Attempt {
	switch {
	case !l.leading():
		return Attempt{Outcome: Failed, Err: ErrNotLeading}
	case !l.schedule.started:
		return Attempt{Outcome: Failed, Err: errNotStarted}
	}
	return l.attempt(ctx, func(change string) bool { return id == change })
}

func (l *loop) attempt(ctx context.Context, asked permit) Attempt {
	l.schedule.begin()
	applying, done := graceful(ctx, l.term.Done)
	defer done()
	in := l.inbox.latest()
	complete := len(in.routes.Unread) == 0
	allowed := asked
	if complete {
		allowed = l.force.extend(asked)
	}
	a := l.apply(applying, in, l.now(), allowed)
	switch {
	case a.Outcome == Waits:
		if id := a.Change.ID(); complete && l.force.active || asked(id) {
			// The operator has forced this change, and its reload waits. Remember the permission
			// until the change is in force.
			l.force = startForce{active: true, id: cmp.Or(l.force.id, id)}
		}
		l.schedule.waiting(l.now(), a.retry)
	case a.Outcome != Failed:
		if complete {
			l.force = startForce{}
		}
		l.schedule.succeeded(l.now())
	case l.leading():
		l.schedule.failed(l.now())
	case ctx.Err() == nil:
		return a // the term ended during the attempt, so the next leader applies the inputs
	}
	l.applied(a)
	return a
}

func (l *loop) beginTerm(t Term) {
	if t.err() != nil {
		return // the term ended before the loop received it
	}
	l.term = t
	l.schedule.restart()
	l.leads(true)
}

func (l *loop) endTerm() {
	l.term = Term{}
	l.leads(false)
}

// leading reports whether this process is the leader and may write files. If its term as the leader
// has ended, leading calls endTerm before it returns false.
func (l *loop) leading() bool {
	if l.guard() == nil {
		return true
	}
	if l.term.Guard != nil {
		l.endTerm()
	}
	return false
}

// guard returns nil while this process may write. Otherwise it returns the reason why the process
// may not write.
func (l *loop) guard() error {
	if l.terms == nil {
		return nil
	}
	return l.term.err()
}

// stopGrace is how long a running attempt to apply a configuration may continue after the context
// of Run has ended. If a reload is interrupted, nobody knows its outcome, and the next process has
// to reload HAProxy again.
const stopGrace = 5 * time.Second

// graceful returns a context for an attempt to apply a configuration. The context ends when the
// channel in the argument "over" is closed, or stopGrace (5 s) after ctx has ended. The caller must
// call the function "done" after the attempt.
func graceful(ctx context.Context, over <-chan struct{}) (applying context.Context, done func()) {
	applying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() {
		select {
		case <-over:
		case <-ctx.Done():
			select {
			case <-over:
			case <-time.After(stopGrace):
			case <-applying.Done():
			}
		case <-applying.Done():
		}
		cancel()
	})
	return applying, func() { cancel(); following.Wait() }
}

// sleep returns after d, or earlier if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// inputs are the routes, clusters and certificates from which a configuration is built. Nobody
// changes the slices and objects in them.
type inputs struct {
	routes       Declarations
	clusters     []cluster // in the order of Controller.Clusters
	certificates certs.Files
	declared     int           // number of calls of inbox.setRoutes before
	shared       *sharedOrders // nil without Controller.Fleet
}

// cluster is the state of one cluster.
type cluster struct {
	ClusterState
	name  string
	since time.Time // when the cluster last stopped or began to answer
}

// connectivity returns the state of the connection to the cluster, for the report: Never if the
// cluster has not answered since the start, LastKnown if it does not answer now, and otherwise
// Live.
func (c *cluster) connectivity() kube.Connectivity {
	connectivity := kube.Connectivity{State: kube.Live, Since: c.since}
	switch {
	case !c.Synced:
		connectivity.State = kube.Never
	case c.Err != nil:
		connectivity.State = kube.LastKnown
	}
	if c.Err != nil {
		connectivity.Reason = c.Err.Error()
	}
	return connectivity
}

// answered reports whether every cluster has answered, and all routes and the orders of the fleet
// have been read, since the start.
func (in inputs) answered() bool {
	if len(in.routes.Unread) > 0 || in.shared != nil && !in.shared.read {
		return false
	}
	for i := range in.clusters {
		if !in.clusters[i].Synced {
			return false
		}
	}
	return true
}

// inbox contains the latest inputs. Each source replaces its own part of the inputs. A source never
// waits for the goroutine that reads the inputs.
type inbox struct {
	// wake contains one element while there are changed inputs that the reader of the inputs has
	// not noticed yet, and otherwise none. The reader waits for this element.
	wake chan struct{}

	mu     sync.Mutex
	inputs inputs
}

func newInbox(clusters []Cluster, now time.Time) *inbox {
	in := &inbox{wake: make(chan struct{}, 1)}
	for _, c := range clusters {
		in.inputs.clusters = append(in.inputs.clusters, cluster{name: c.Name, since: toSeconds(now)})
	}
	return in
}

// toSeconds returns t in UTC and without fractions of a second, so that people can read the times
// in the report.
func toSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// latest returns the inputs.
func (in *inbox) latest() inputs {
	in.mu.Lock()
	defer in.mu.Unlock()
	latest := in.inputs
	latest.clusters = append([]cluster(nil), latest.clusters...)
	return latest
}

func (in *inbox) change(f func(*inputs)) {
	in.mu.Lock()
	f(&in.inputs)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *inbox) setRoutes(d Declarations) {
	in.change(func(latest *inputs) { latest.routes, latest.declared = d, latest.declared+1 })
}

// setCertificates sets the certificates. If they are the same as before, setCertificates does not
// wake the reader of the inputs.
func (in *inbox) setCertificates(files certs.Files) {
	in.mu.Lock()
	same := files.Equal(in.inputs.certificates)
	in.mu.Unlock()
	if !same {
		in.change(func(latest *inputs) { latest.certificates = files })
	}
}

// setCluster sets the state of cluster number i. If the new state is not Synced, setCluster uses
// only its Err.
func (in *inbox) setCluster(i int, now time.Time, state ClusterState) {
	in.change(func(latest *inputs) {
		c := &latest.clusters[i]
		wasSynced, wasAway := c.Synced, c.Err != nil
		if state.Synced {
			c.ClusterState = state
		} else {
			c.Err = state.Err
		}
		if c.Synced != wasSynced || c.Err != nil != wasAway {
			c.since = toSeconds(now)
		}
	})
}

// setUnreachable stores err as the reason why cluster number i does not answer. It does nothing if
// the reason is the same, because a source that fails every second must not cause an attempt every
// second. For each cluster, only one goroutine may call it.
func (in *inbox) setUnreachable(i int, now time.Time, err error) {
	in.mu.Lock()
	was := in.inputs.clusters[i].Err
	in.mu.Unlock()
	if was == nil || was.Error() != err.Error() {
		in.setCluster(i, now, ClusterState{Err: err})
	}
}
