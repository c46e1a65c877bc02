package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/agentcheck"
)

const (
	// reopenInterval is the pause before Run tries again to open a port that another process still
	// uses. Usually the other process is the old agent, which ends a moment after the start of this
	// process.
	reopenInterval = time.Second
	// A drain that a command has begun waits until HAProxies have received the answer "drain". It
	// waits only for those HAProxies that have made a check within the last activeTime. activeTime
	// is several times the usual agent-inter.
	activeTime = 30 * time.Second
	// progressInterval is how often Drain checks which HAProxies have received the answer "drain".
	progressInterval = 20 * time.Millisecond
)

// Agent is a complete node agent. Its Watcher computes States, and its Listeners answer HAProxy
// with the last State. Set the fields, then call Run once. Several goroutines may call the other
// methods, at any time.
type Agent struct {
	Watcher   *Watcher
	Listeners *Listeners
	// Changed, if not nil, receives each new State. If the State has Answers, Run first passes it
	// to Listeners.Update, and the second argument is the error of Update. If a port cannot be
	// opened, Run tries again every second, and calls Changed after each attempt. All calls come
	// from one goroutine.
	Changed func(State, error)

	mu     sync.Mutex
	since  time.Time // the time of the drain command; zero without a drain command
	status DrainStatus
	checks map[checker]lastCheck
	swept  time.Time // when checkers without a check in activeTime were last removed
}

// checker is one address that checks one port of the agent. Usually it is one HAProxy process. If
// an HAProxy checks the same agent port for several of its servers, it still counts as one checker.
type checker struct {
	addr    netip.Addr
	service string // "namespace/name" of the Service; "" for the port of the node
}

func (c checker) String() string { return fmt.Sprintf("%s (%s)", c.addr, cmp.Or(c.service, "node")) }

// lastCheck contains two times for one HAProxy that checks the agent. The field "any" is the time
// of its last check, and the field "drain" is the time of its last check that the agent answered
// with "drain".
type lastCheck struct{ any, drain time.Time }

// Run answers HAProxy until ctx ends or Watcher.Run fails, and returns the error of Watcher.Run.
// The ports are still open when Run returns. To close them, call Listeners.Shutdown or
// Listeners.Close.
func (a *Agent) Run(ctx context.Context) error {
	finished := a.Listeners.Finished
	a.Listeners.Finished = func(service string, x agentcheck.Exchange) {
		if finished != nil {
			finished(service, x)
		}
		a.recordCheck(service, x)
	}
	states := make(chan State)
	running, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	var err error
	watching.Go(func() {
		defer stop()
		err = a.Watcher.Run(running, func(s State) {
			select {
			case states <- s:
			case <-running.Done():
			}
		})
	})
	a.follow(running, states)
	watching.Wait()
	return err
}

// follow applies each new State to the Listeners, until ctx ends.
func (a *Agent) follow(ctx context.Context, states <-chan State) {
	var state State
	reopen := time.NewTimer(0)
	<-reopen.C
	defer reopen.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case state = <-states:
		case <-reopen.C:
		}
		var err error
		if state.Answers != nil {
			if err = a.Listeners.Update(state); err != nil {
				reopen.Reset(reopenInterval)
			}
			a.mu.Lock()
			a.status = state.Drain
			a.mu.Unlock()
		}
		if a.Changed != nil {
			a.Changed(state, err)
		}
	}
}

func (a *Agent) recordCheck(service string, x agentcheck.Exchange) {
	addr, ok := x.Request.RemoteAddr.(*net.TCPAddr)
	if !ok || x.Err != nil {
		return
	}
	from := checker{addr.AddrPort().Addr().Unmap(), service}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks == nil {
		a.checks = map[checker]lastCheck{}
	}
	last, known := a.checks[from]
	if !known && now.Sub(a.swept) > time.Second { // otherwise the map would grow without a bound
		a.swept = now
		for c, l := range a.checks {
			if now.Sub(l.any) > activeTime {
				delete(a.checks, c)
			}
		}
	}
	last.any = now
	if x.Reply.Admin >= agentcheck.Drain {
		last.drain = now
	}
	a.checks[from] = last
}

// Drain requests a drain of the node, with the reason "drain command". It waits until each HAProxy
// that has made a check in the last 30 s has received the answer "drain", or until ctx ends. It
// returns the progress even with an error.
//
// The request stays in force until EndDrain. A second call of Drain does not change the time of the
// request.
func (a *Agent) Drain(ctx context.Context) (DrainProgress, error) {
	a.mu.Lock()
	if a.since.IsZero() {
		a.since = time.Now()
	}
	since := a.since
	a.mu.Unlock()
	a.Watcher.SetRequests(DrainRequest{Reason: "drain command", Since: since})

	tick := time.Tick(progressInterval)
	for {
		progress := a.progress(since)
		if progress.Done() {
			return progress, nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return a.progress(since), ctx.Err()
		}
	}
}

// EndDrain ends the drain that a call of Drain has requested, and returns the time of that request.
// ok is false if no drain was requested.
func (a *Agent) EndDrain() (since time.Time, ok bool) {
	a.mu.Lock()
	since, a.since = a.since, time.Time{}
	a.mu.Unlock()
	a.Watcher.SetRequests()
	return since, !since.IsZero()
}

func (a *Agent) progress(since time.Time) DrainProgress {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := DrainProgress{Since: since, Status: a.status}
	if !p.Status.Effective {
		return p
	}
	now := time.Now()
	for from, last := range a.checks {
		switch {
		case now.Sub(last.any) > activeTime:
		case last.drain.Before(since):
			p.Uninformed = append(p.Uninformed, from.String())
		default:
			p.Informed++
		}
	}
	slices.Sort(p.Uninformed)
	return p
}

// DrainProgress is the progress of the drain that the command `nodeagent drain` has requested.
type DrainProgress struct {
	Since  time.Time   // the time of the request
	Status DrainStatus // the field Drain of the last State
	// Informed is the number of HAProxies that have received the answer "drain" since the request.
	// An HAProxy that checks several agent ports counts once for each port. An HAProxy without a
	// check in the last 30 s does not count.
	Informed int
	// Uninformed are the HAProxies that have made a check in the last 30 s but have not received
	// the answer "drain". An element is "address (namespace/name)" for the port of a Service, or
	// "address (node)". Uninformed is empty until the node drains.
	Uninformed []string
}

// Done reports whether the drain has begun, and every HAProxy that has made a check in the last
// 30 s has received the answer "drain". Then Status.Effective is true and Uninformed is empty.
func (p DrainProgress) Done() bool { return p.Status.Effective && len(p.Uninformed) == 0 }

// Waits reports whether the drain has not begun yet because too many other nodes drain.
func (p DrainProgress) Waits() bool { return p.Status.Requested && !p.Status.Effective }

// String describes the progress in one sentence.
func (p DrainProgress) String() string {
	began := "draining since " + p.Since.UTC().Format(time.RFC3339)
	switch {
	case p.Waits():
		return fmt.Sprintf("the node waits: %d of %d nodes drain, at most %d may", p.Status.Draining, p.Status.Total, p.Status.Limit)
	case !p.Status.Effective:
		return "the answers of the agent do not show the drain yet"
	case !p.Done():
		return began + ", but these HAProxies do not know yet: " + strings.Join(p.Uninformed, ", ")
	}
	return fmt.Sprintf("%s; all HAProxies that asked within %s know, %d answers", began, activeTime, p.Informed)
}
