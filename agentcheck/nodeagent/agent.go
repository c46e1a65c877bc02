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
	// reopenInterval is the pause before the next attempt to open a port. Usually another process
	// has the port for a moment, such as the agent that this one replaces.
	reopenInterval = time.Second
	// activeTime is how long a drain waits for an HAProxy after its last check. It is several times
	// the usual agent-inter.
	activeTime = 30 * time.Second
	// progressInterval is how often Drain looks at the progress.
	progressInterval = 20 * time.Millisecond
)

// Agent is a complete node agent: its Listeners answer with the State of its Watcher. It also
// drains the node on command and reports which HAProxies have received the answer "drain". Set the
// fields, then call Run once. The other methods may be called at any time, from any goroutine.
type Agent struct {
	Watcher   *Watcher
	Listeners *Listeners
	// Changed, if not nil, receives each State after the Listeners follow it, with the error of
	// Listeners.Update. A State without Answers does not change the ports. While a port cannot be
	// opened, Run tries again every second and calls Changed again with the same State. All calls
	// come from one goroutine.
	Changed func(State, error)

	mu     sync.Mutex
	since  time.Time // of the drain command; zero if there is none
	status DrainStatus
	checks map[checker]lastCheck
	swept  time.Time // when checkers without a check in activeTime were last removed
}

// checker is an address that checks one port of the agent, usually one HAProxy process. If several
// servers of an HAProxy use the same agent port, they count as one checker.
type checker struct {
	addr    netip.Addr
	service string // "" for the node
}

func (c checker) String() string { return fmt.Sprintf("%s (%s)", c.addr, cmp.Or(c.service, "node")) }

// lastCheck has the times of the last check of a checker, and of the last one with the answer
// drain.
type lastCheck struct{ any, drain time.Time }

// Run answers until ctx ends or the Watcher fails, and returns the error of Watcher.Run. It leaves
// the ports open: call Listeners.Shutdown or Listeners.Close after it.
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

// follow updates the Listeners to each new State until ctx ends.
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

// Drain requests a drain of the node with the reason "drain command". It returns when every HAProxy
// that has made a check in the last 30 s has received the answer "drain". If ctx ends first, it
// returns the error of ctx. In both cases it returns the progress of the drain.
//
// The request stays until EndDrain. A second call of Drain does not change the time of the request.
func (a *Agent) Drain(ctx context.Context) (DrainProgress, error) {
	a.mu.Lock()
	if a.since.IsZero() {
		a.since = time.Now()
	}
	since := a.since
	a.mu.Unlock()
	a.Watcher.SetRequests(DrainRequest{Reason: "drain command", Since: since})

	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		progress := a.progress(since)
		if progress.Done() {
			return progress, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return a.progress(since), ctx.Err()
		}
	}
}

// EndDrain removes the request of Drain. It returns the time of the request, and false if there was
// none.
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

// DrainProgress is the progress of a drain by command.
type DrainProgress struct {
	Since  time.Time   // of the request
	Status DrainStatus // of the last State
	// Informed is the number of HAProxies that have received the answer "drain" since the request.
	// An HAProxy counts once for the node and once for each Service that it checks. HAProxies
	// without a check in the last 30 s are left out. Informed is 0 until the drain is effective.
	Informed int
	// Uninformed are the other HAProxies, as "address (namespace/name)" or "address (node)". It is
	// empty until the drain is effective.
	Uninformed []string
}

// Done reports whether the node drains and Uninformed is empty.
func (p DrainProgress) Done() bool { return p.Status.Effective && len(p.Uninformed) == 0 }

// Waits reports whether the drain waits until fewer other nodes drain.
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
