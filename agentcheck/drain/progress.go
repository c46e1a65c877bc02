package drain

import (
	"fmt"
	"strings"
	"time"
)

// State is a step of a drain.
type State uint8

const (
	Serving  State = iota // no drain: readiness succeeds
	Draining              // readiness fails; the server serves new requests until Delay is over
	Waiting               // Delay is over; requests or connections are still open
	Done                  // Delay is over, and nothing is open that the drain waits for
	Expired               // Timeout is over, and requests or connections are still open
)

var stateNames = []string{Serving: "serving", Draining: "draining", Waiting: "waiting", Done: "done", Expired: "expired"}

// String returns the name of the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Over reports whether the drain is over: Done or Expired.
func (s State) Over() bool { return s == Done || s == Expired }

const (
	defaultDelay   = 10 * time.Second
	defaultTimeout = 15 * time.Second
)

// Settings are the times of a drain.
type Settings struct {
	// Delay is the time after the beginning of a drain in which the server still serves new
	// requests, until balancers notice that readiness fails. Make it longer than the balancer's
	// interval between checks, times the number of checks that must fail. 0 means 10s, and a
	// negative value means no delay.
	Delay time.Duration
	// Timeout is how long the drain waits for requests and connections after the end of Delay. 0
	// means 15s, and a negative Timeout means that the drain does not wait.
	Timeout time.Duration
}

func (s Settings) delay() time.Duration   { return resolve(s.Delay, defaultDelay) }
func (s Settings) timeout() time.Duration { return resolve(s.Timeout, defaultTimeout) }

func resolve(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return max(d, 0)
}

// Load counts the open connections and requests at one moment. The zero Load means that nothing is
// open.
type Load struct {
	Connections int // all open connections
	Idle        int // open connections without a request; the drain does not wait for them
	Requests    int // requests whose handlers are running
	// Oldest is the longest time for which an open connection has been busy. 0 means that no
	// connection is busy. For HTTP/1, this is the age of the request. For HTTP/2, it is the time
	// since the connection was last idle. For other protocols, it is the age of the connection.
	Oldest time.Duration
}

func (l Load) busy() bool { return l.Connections > l.Idle || l.Requests > 0 }

// add returns the sum of two Loads.
func (l Load) add(m Load) Load {
	return Load{
		Connections: l.Connections + m.Connections, Idle: l.Idle + m.Idle,
		Requests: l.Requests + m.Requests, Oldest: max(l.Oldest, m.Oldest),
	}
}

// String returns text such as "3 connections (2 idle), 1 request, oldest 12s".
func (l Load) String() string {
	var b strings.Builder
	b.WriteString(plural(l.Connections, "connection"))
	if l.Idle > 0 {
		fmt.Fprintf(&b, " (%d idle)", l.Idle)
	}
	b.WriteString(", " + plural(l.Requests, "request"))
	if l.Oldest > 0 {
		b.WriteString(", oldest " + seconds(l.Oldest))
	}
	return b.String()
}

// Progress describes a drain at one moment.
type Progress struct {
	State State
	// Since is when the drain began. It is zero if the State is Serving.
	Since time.Time
	// Stopping is true after a call of Shutdown. The drain then cannot be undone.
	Stopping bool
	// DelayLeft is how much of Delay is still to come. It is 0 unless the State is Draining.
	DelayLeft time.Duration
	// Left is the longest time that the drain can still last. It is 0 if there is no drain, or if
	// the drain is over.
	Left time.Duration
	Load
}

// Progress computes the progress of a drain at the time "now". The argument "began" is the start of
// the drain, or zero without a drain. The argument "stopped" is the time of the call of Shutdown,
// or zero without a call. If Shutdown was called after the end of Delay, Timeout begins at this
// call.
func (s Settings) Progress(began, stopped, now time.Time, load Load) Progress {
	p := Progress{Stopping: !stopped.IsZero(), Since: began, Load: load}
	if began.IsZero() {
		return p
	}
	delayEnds := began.Add(s.delay())
	waitBegins := delayEnds
	if stopped.After(waitBegins) {
		waitBegins = stopped
	}
	ends := waitBegins.Add(s.timeout())
	switch {
	case now.Before(delayEnds):
		p.State, p.DelayLeft, p.Left = Draining, delayEnds.Sub(now), ends.Sub(now)
	case !load.busy():
		p.State = Done
	case now.Before(ends):
		p.State, p.Left = Waiting, ends.Sub(now)
	default:
		p.State = Expired
	}
	return p
}

// String returns one line for operators, such as
//
//	waiting for 3 connections, 1 request, oldest 12s, at most 18s more
func (p Progress) String() string {
	switch p.State {
	case Serving:
		return "serving " + p.Load.String()
	case Draining:
		return fmt.Sprintf("draining, serves new requests for %s more; %v; at most %s more", seconds(p.DelayLeft), p.Load, seconds(p.Left))
	case Waiting:
		return fmt.Sprintf("waiting for %v, at most %s more", p.Load, seconds(p.Left))
	case Done:
		return "done; " + p.Load.String()
	case Expired:
		return "the timeout is over; still open: " + p.Load.String()
	}
	return p.State.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// seconds formats d in whole seconds. It rounds up, so that the result is 0s only if no time is
// left.
func seconds(d time.Duration) string {
	return ((d + time.Second - 1) / time.Second * time.Second).String()
}
