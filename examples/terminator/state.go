package main

import (
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// state is all that a configuration is made of, at a moment. It is a value: what it
// holds is not changed once it is there.
type state struct {
	table         routes.Table
	routeProblems []routes.Problem
	clusters      []clusterState // in the order of -cluster
}

// clusterState is what is known of a cluster.
type clusterState struct {
	name      string
	objects   nodeselect.Objects
	selection *nodeselect.Selection // nil: to be made from the objects
	problems  []nodeselect.Problem  // of its manifests
	// synced tells that the objects were read, now or before: without it there is
	// nothing but err.
	synced bool
	err    error     // why the cluster does not answer; nil while it does
	since  time.Time // when err came or went
}

// contact is the contact of a cluster that was synced.
func (c *clusterState) contact() kube.Connectivity {
	if c.err != nil {
		return kube.Connectivity{State: kube.LastKnown, Since: c.since, Reason: c.err.Error()}
	}
	return kube.Connectivity{State: kube.Live, Since: c.since}
}

// inbox is where sources leave what they read last. What was not taken yet is
// replaced, so that it never holds more than one state, however slow the taker.
type inbox struct {
	// wake has an element after a change that was not taken yet.
	wake chan struct{}

	mu    sync.Mutex
	state state
}

func newInbox(sources []source, now time.Time) *inbox {
	in := &inbox{wake: make(chan struct{}, 1)}
	for _, c := range sources {
		in.state.clusters = append(in.state.clusters, clusterState{name: c.name, since: second(now)})
	}
	return in
}

// second is as exact as a person wants to know it.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// take returns the latest state.
func (in *inbox) take() state {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.state
	s.clusters = append([]clusterState(nil), s.clusters...)
	return s
}

func (in *inbox) change(f func(*state)) {
	in.mu.Lock()
	f(&in.state)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *inbox) routes(table routes.Table, problems []routes.Problem) {
	in.change(func(s *state) { s.table, s.routeProblems = table, problems })
}

// cluster changes what is known of the i-th cluster; since is kept as long as the
// cluster answers, or does not answer.
func (in *inbox) cluster(i int, now time.Time, f func(*clusterState)) {
	in.change(func(s *state) {
		c := &s.clusters[i]
		wasSynced, wasAway := c.synced, c.err != nil
		f(c)
		if c.synced != wasSynced || c.err != nil != wasAway {
			c.since = second(now)
		}
	})
}

// away notes why the i-th cluster does not answer, for the only one that follows it. To
// be told the same again wakes nobody.
func (in *inbox) away(i int, now time.Time, err error) {
	in.mu.Lock()
	was := in.state.clusters[i].err
	in.mu.Unlock()
	if was == nil || was.Error() != err.Error() {
		in.cluster(i, now, func(c *clusterState) { c.err = err })
	}
}

// answered tells whether all clusters were read.
func (s state) answered() bool {
	for i := range s.clusters {
		if !s.clusters[i].synced {
			return false
		}
	}
	return true
}
