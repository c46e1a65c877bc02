package controller

import (
	"context"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
)

// Rehearsal shows what Controller.Run would do with live clusters, but without API servers and
// without a clock: the caller passes the answers of the API servers, and the time. So a program can
// find out within seconds what a Controller would do in an outage of hours.
//
// A Rehearsal makes the same decisions as Run, and also writes and reloads. So give it a directory
// of its own in Controller.Dir, with a function Reload that reloads no HAProxy. A Rehearsal calls
// no source of Controller.Clusters, and ignores the Elector. Only one goroutine at a time may use
// it.
type Rehearsal struct {
	c        *Controller
	in       *inbox
	loop     *loop
	clusters []rehearsed
	now      time.Time
	rechecks time.Time // the next time at which the nodes are judged again
	deadline time.Time // the end of StartTimeout, after which the start no longer waits
}

// rehearsed is a cluster of a Rehearsal.
type rehearsed struct {
	*live.Replay
	states liveStates
}

// Rehearse begins a Rehearsal at the time "now". It reads the routes, the certificates, and the
// report in the directory Dir, and returns an error if it cannot read one of them. To rehearse a
// restart of the program, begin a second Rehearsal with another Controller of the same directory.
func (c *Controller) Rehearse(ctx context.Context, now time.Time) (*Rehearsal, error) {
	c.init()
	if err := c.check(); err != nil {
		return nil, err
	}
	declared, err := c.Routes.Read()
	if err != nil {
		return nil, err
	}
	last, err := c.readReport()
	if err != nil {
		return nil, err
	}
	r := &Rehearsal{
		c: c, in: newInbox(c.Clusters, now), now: now,
		rechecks: now.Add(live.RecheckInterval), deadline: now.Add(c.startTimeout()),
	}
	r.in.setRoutes(declared)
	if c.Certificates != nil {
		files, err := c.readCertificates(ctx, last)
		if err != nil {
			return nil, err
		}
		r.in.setCertificates(files)
	}
	refs := kube.Refs(declared.Table)
	for i, k := range c.Clusters {
		start := c.start(i, last)
		replay := live.NewReplay(start.Selector, start.Current)
		replay.SetRefs(refs[k.Name])
		r.clusters = append(r.clusters, rehearsed{replay, liveStates{trusted: !serves(start.Current)}})
	}
	c.status.setLeader("", true)
	r.loop = c.newLoop(r.in, func() time.Time { return r.now })
	r.seen()
	return r, nil
}

// Now returns the time of the Rehearsal.
func (r *Rehearsal) Now() time.Time { return r.now }

// List tells the Rehearsal that the API server of the cluster c.Clusters[i] has sent complete lists
// of its nodes and services, as it does at the start; see live.Replay.List.
func (r *Rehearsal) List(i int, objects nodeselect.Objects) { r.clusters[i].List(objects, r.now) }

// Watch tells the Rehearsal that the API server of c.Clusters[i] has reported changes. objects are
// all nodes and services after the changes; see live.Replay.Watch.
func (r *Rehearsal) Watch(i int, objects nodeselect.Objects) { r.clusters[i].Watch(objects, r.now) }

// Fail tells the Rehearsal that from now on, requests to the API server of c.Clusters[i] fail with
// err. If err is nil, requests succeed again; see live.Replay.Fail.
func (r *Rehearsal) Fail(i int, err error) { r.clusters[i].Fail(err, r.now) }

// Advance sets the time of the Rehearsal to "until", and makes the attempts that Run would have
// made by then, except the attempts every 30 s without a change. All answers of API servers since
// the last Advance (List, Watch and Fail) arrive together, before the time changes.
// Controller.Attempted receives times of the Rehearsal. If ctx ends, Advance stops and returns the
// error of ctx.
func (r *Rehearsal) Advance(ctx context.Context, until time.Time) error {
	r.take()
	for ctx.Err() == nil {
		next, attempt := r.next()
		if next.After(until) {
			if until.After(r.now) {
				r.now = until
			}
			return nil
		}
		if next.After(r.now) {
			r.now = next
		}
		switch {
		case attempt:
			r.loop.attempt(ctx, never)
		case !r.loop.schedule.started && !r.now.Before(r.deadline):
			r.loop.schedule.startTimeoutOver()
			r.loop.seen(r.in.latest(), true)
		default:
			r.rechecks = r.now.Add(live.RecheckInterval)
			r.take()
		}
	}
	return ctx.Err()
}

// next returns the time of the next event at which Run would act: an attempt to apply changes, a
// recheck of the clusters, or the end of StartTimeout. attempt is true if this event is an attempt.
func (r *Rehearsal) next() (at time.Time, attempt bool) {
	at = r.rechecks
	if !r.loop.schedule.started && r.deadline.Before(at) {
		at = r.deadline
	}
	if wait, ok := r.loop.schedule.due(r.now); ok && !r.now.Add(wait).After(at) {
		return r.now.Add(wait), true
	}
	return at, false
}

// take passes the new state of each cluster to the loop, if the state has changed.
func (r *Rehearsal) take() {
	changed := false
	for i := range r.clusters {
		if s, ok := r.clusters[i].Update(r.now); ok {
			r.in.setCluster(i, r.now, r.clusters[i].states.of(s))
			changed = true
		}
	}
	if changed {
		r.seen()
	}
}

// seen tells the loop that some input has changed. In a real Controller, loop.run does this.
func (r *Rehearsal) seen() {
	in := r.in.latest()
	r.loop.schedule.changed(in.answered())
	r.loop.seen(in, r.loop.schedule.started)
}
