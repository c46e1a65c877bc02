package controller

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
)

// Status is the state of a Controller at one moment.
type Status struct {
	// Clusters has the order of Controller.Clusters. It is nil until Run has read the routes.
	Clusters []ClusterStatus
	// Unread are the names of the declaration files that have not been read since the start.
	Unread []string
	// Started is true once every cluster has answered and all declarations have been read, or once
	// StartTimeout is over. While Started is false, the Controller does not try to apply a
	// configuration.
	Started bool
	// Leading is true while this process may write to the directory. Without an Elector, Leading is
	// always true.
	Leading bool
	// Leader is the name of the process that leads. It is "" if there is no Elector, or if the
	// Elector knows no leader.
	Leader string
	// InForce is true once an attempt to apply a configuration has shown that HAProxy runs the
	// configuration in the directory.
	InForce bool
	// Servers is the number of servers in the configuration that was last applied.
	Servers int
	// Refused describes the latest change, if Limit has refused it or if it could not be applied. It
	// is nil if the latest change is in force.
	Refused *kube.Changes
	// MayForce is true if Limit has refused the change in Refused. Then Force can apply this change.
	MayForce bool
	// Waiting describes a change that Limit and HAProxy accept, but whose reload the Controller
	// delays. It is nil if there is no such change.
	Waiting *Waiting
	// Hold describes the hold that keeps earlier routes in force. It is nil without a hold, and while
	// another process leads.
	Hold *HoldStatus
	// Canary describes declared routes that Controller.Canary has not approved yet. It is nil if the
	// declared routes are approved, while there is a hold, and while another process leads.
	Canary *CanaryStatus
	// Fleet describes Controller.Fleet. It is nil without a Fleet.
	Fleet *FleetStatus
	// Reloads describes the reloads of HAProxy.
	Reloads ReloadCounts
	// JournalErrors counts the attempts to apply a configuration after which Run could not read
	// Controller.Journal or append an entry to it.
	JournalErrors int
	// Outcome and Err are the result of the last attempt to apply a configuration. Before the first
	// attempt, Outcome is "".
	Outcome Outcome
	Err     error
}

// ClusterStatus is the state of a cluster.
type ClusterStatus struct {
	Name string
	// Connectivity says whether the API server of the cluster answers. It is kube.Never until the
	// first answer.
	Connectivity kube.Connectivity
	// Nodes and Services are the numbers of the cluster's nodes and services, as far as the
	// Controller knows them.
	Nodes, Services int
}

// Ready returns nil if a configuration is in force. If another process leads, and this process
// could take over, Ready returns nil too. In all other cases it returns an error, which names the
// clusters that have not answered, and the declarations that have not been read.
func (s Status) Ready() error {
	switch {
	case s.InForce || !s.Leading && s.Started:
		return nil
	case s.Err != nil:
		return fmt.Errorf("no configuration is in force: %w", s.Err)
	}
	reason := "no configuration is in force yet"
	for _, name := range s.Unread {
		reason += "; waiting for " + name
	}
	for _, c := range s.Clusters {
		if c.Connectivity.State == kube.Never {
			reason += "; waiting for " + c.Name
		}
	}
	return errors.New(reason)
}

// String returns the faults of the Controller as text, one line for each, without a final line
// feed. It returns "" if there are no faults.
func (s Status) String() string {
	var lines []string
	if !s.Leading {
		line := "standing by"
		if s.Leader != "" {
			line += "; " + s.Leader + " leads"
		}
		lines = append(lines, line)
	}
	for _, name := range s.Unread {
		lines = append(lines, "routes of "+name+": not read since the start")
	}
	for _, c := range s.Clusters {
		if !c.Connectivity.Unreachable() {
			continue
		}
		state := string(c.Connectivity.State)
		if c.Connectivity.State == kube.Never {
			state = "not seen yet"
		}
		line := fmt.Sprintf("cluster %s: %s since %s", c.Name, state, c.Connectivity.Since.UTC().Format(time.RFC3339))
		if c.Connectivity.Reason != "" {
			line += ": " + c.Connectivity.Reason
		}
		lines = append(lines, line)
	}
	switch {
	case s.Fleet == nil:
	case s.Fleet.Err != nil:
		lines = append(lines, s.Fleet.String())
	case s.Fleet.Version == "" && s.Hold != nil:
		lines = append(lines, "the orders of the fleet: there are none, so this terminator keeps the last known ones")
	}
	if s.Hold != nil {
		lines = append(lines, s.Hold.String())
	}
	if s.Canary != nil {
		lines = append(lines, s.Canary.String())
	}
	if s.Err != nil {
		lines = append(lines, fmt.Sprintf("%s: %v", s.Outcome, s.Err))
	}
	return strings.Join(lines, "\n")
}

// status is a Status that several goroutines may read and change.
type status struct {
	mu     sync.Mutex
	now    Status
	unsure bool // an attempt has failed, so HAProxy may not run the configuration on disk
	// changing is true while an attempt to apply a configuration changes files or HAProxy. torn is
	// true if such an attempt has failed and no later attempt has succeeded. Then the files and
	// HAProxy may differ.
	changing, torn bool
}

func (s *status) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *status) change(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.now)
}

func (s *status) seen(in inputs, started bool) {
	clusters := make([]ClusterStatus, len(in.clusters))
	for i := range in.clusters {
		c := &in.clusters[i]
		clusters[i] = ClusterStatus{Name: c.name, Connectivity: c.connectivity(), Nodes: len(c.Objects.Nodes), Services: len(c.Objects.Services)}
	}
	var shared *FleetStatus
	if x := in.shared; x != nil {
		shared = &FleetStatus{Read: x.read, Version: x.snapshot.Version, Err: x.err, Since: x.since}
	}
	s.change(func(now *Status) {
		now.Clusters, now.Unread, now.Started, now.Fleet = clusters, in.routes.Unread, started, shared
	})
}

func (s *status) applied(a Attempt) {
	s.change(func(now *Status) {
		now.Outcome, now.Err, now.Waiting = a.Outcome, a.Err, nil
		errors.As(a.Err, &now.Waiting)
		s.torn = a.Outcome != Written && a.Outcome != Unchanged && (s.torn || s.changing && a.Outcome == Failed)
		s.changing = false
		s.unsure = s.unsure || a.Outcome == Failed
		// After a refusal, and while a change waits, HAProxy runs the configuration on disk, with
		// two exceptions. If an earlier attempt failed (unsure), HAProxy may not have loaded the
		// configuration on disk. If the first configuration is refused (ErrNoServers), there is no
		// configuration on disk.
		now.InForce = now.InForce || a.Outcome == Written || a.Outcome == Unchanged ||
			(a.Outcome == Refused || a.Outcome == Waits) && !s.unsure && !errors.Is(a.Err, ErrNoServers)
	})
}

func (s *status) forgetAttempt() {
	s.change(func(now *Status) { now.Outcome, now.Err, now.Waiting, now.Hold, now.Canary = "", nil, nil, nil, nil })
}

// setChanging records that an attempt to apply a configuration begins to change files or HAProxy.
// After the attempt, the caller calls the method "applied", which records that the attempt changes
// nothing any more.
func (s *status) setChanging() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = true
}

func (s *status) setLeader(name string, self bool) {
	s.change(func(now *Status) { now.Leading, now.Leader = self, name })
}

func (s *status) setInForce(servers int) {
	s.change(func(now *Status) { now.Servers, now.Refused, now.MayForce = servers, nil, false })
}

func (s *status) setReloads(counts ReloadCounts) {
	s.change(func(now *Status) { now.Reloads = counts })
}

func (s *status) setRefused(c *kube.Changes, mayForce bool) {
	s.change(func(now *Status) { now.Refused, now.MayForce = c, mayForce })
}

func (s *status) setHold(h *HoldStatus, k *CanaryStatus) {
	s.change(func(now *Status) { now.Hold, now.Canary = h, k })
}
