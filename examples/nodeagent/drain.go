package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

// Times of a drain by command.
const (
	// lately is how long ago a balancer has asked at most to be waited for: several
	// times the intervals that are in use.
	lately      = 30 * time.Second
	longestWait = 10 * time.Minute
	lookAgain   = 20 * time.Millisecond
)

// drainer drains the node by command, and knows which balancers have been told.
type drainer struct {
	ask  func(...nodeagent.Ask) // of the Watcher
	stop <-chan struct{}        // closed when the agent stops
	log  *slog.Logger

	mu    sync.Mutex
	since time.Time // of the command, zero if there is none
	drain nodeagent.Drain
	asked map[balancer]question
	swept time.Time // when those who ask no more were last dropped
}

// balancer is a process that asks for one answer. An address that checks one port for
// several servers counts once.
type balancer struct {
	addr    netip.Addr
	service string
}

func (b balancer) String() string { return fmt.Sprintf("%s (%s)", b.addr, cmp.Or(b.service, "node")) }

// question is when a balancer last asked, and when it was last told to drain.
type question struct{ last, told time.Time }

// finished takes note of a check that is over.
func (d *drainer) finished(service string, x agentcheck.Exchange) {
	addr, ok := x.Request.RemoteAddr.(*net.TCPAddr)
	if !ok || x.Err != nil {
		return
	}
	b := balancer{addr.AddrPort().Addr().Unmap(), service}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[balancer]question{}
	}
	q, known := d.asked[b]
	if !known && now.Sub(d.swept) > time.Second { // so that the map does not grow for ever
		d.swept = now
		for b, q := range d.asked {
			if now.Sub(q.last) > lately {
				delete(d.asked, b)
			}
		}
	}
	q.last = now
	if x.Reply.Admin >= agentcheck.Drain {
		q.told = now
	}
	d.asked[b] = q
}

// state takes note of what is answered from now on.
func (d *drainer) state(drain nodeagent.Drain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drain = drain
}

// handler serves POST and DELETE of /drain.
func (d *drainer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /drain", cli.LocalOnly(http.HandlerFunc(d.begin)))
	mux.Handle("DELETE /drain", cli.LocalOnly(http.HandlerFunc(d.end)))
	return mux
}

// begin asks for a drain, and answers when all balancers know, or when the time of the
// parameter wait is over. Its statuses: 200 done, 409 the node waits for others, 504
// some balancers do not know yet, 503 the agent stops.
func (d *drainer) begin(w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > longestWait {
			http.Error(w, fmt.Sprintf("wait=%s: want a duration, at most %s", text, longestWait), http.StatusBadRequest)
			return
		}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + 10*time.Second))

	d.mu.Lock()
	if d.since.IsZero() {
		d.since = time.Now()
		d.log.Info("drain command")
	}
	since := d.since
	d.mu.Unlock()
	d.ask(nodeagent.Ask{Reason: "drain command", Since: since})

	over := time.NewTimer(wait)
	defer over.Stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		status, text := d.progress(since, time.Now())
		if status == http.StatusOK {
			fmt.Fprintln(w, text)
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-d.stop:
			_, text = d.progress(since, time.Now())
			http.Error(w, "the agent stops; "+text, http.StatusServiceUnavailable)
			return
		case <-over.C:
			http.Error(w, text, status)
			return
		}
	}
}

// progress says how far a drain since a time is at another.
func (d *drainer) progress(since, now time.Time) (status int, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	began := "draining since " + since.UTC().Format(time.RFC3339)
	if !d.drain.Effective {
		if !d.drain.Wanted {
			return http.StatusGatewayTimeout, "the agent does not answer with it yet"
		}
		return http.StatusConflict, fmt.Sprintf("not drained: %d of %d nodes drain, no more than %d may", d.drain.Draining, d.drain.Total, d.drain.Limit)
	}
	told := 0
	var ignorant []string
	for b, q := range d.asked {
		switch {
		case now.Sub(q.last) > lately:
		case !q.told.Before(since):
			told++
		default:
			ignorant = append(ignorant, b.String())
		}
	}
	if len(ignorant) > 0 {
		slices.Sort(ignorant)
		return http.StatusGatewayTimeout, began + ", but not told yet: " + strings.Join(ignorant, ", ")
	}
	return http.StatusOK, fmt.Sprintf("%s; %d checks have been told, which are all that came within %s", began, told, lately)
}

// end takes the command back.
func (d *drainer) end(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	was := d.since
	d.since = time.Time{}
	d.mu.Unlock()
	d.ask()
	if was.IsZero() {
		fmt.Fprintln(w, "no drain command was in force")
		return
	}
	d.log.Info("drain command taken back")
	fmt.Fprintln(w, "the drain command of "+was.UTC().Format(time.RFC3339)+" is taken back")
}
