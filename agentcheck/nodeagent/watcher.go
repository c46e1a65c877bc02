package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/nodeselect"
)

// Watcher keeps the state of one node's agent up to date with a live cluster. Set its
// fields, then Run it once.
//
// What it asks the API server for does not grow with the number of nodes: its own
// node, the nodes that one of the signals selects, and how many there are. Of the
// Services it follows those of the types NodePort and LoadBalancer, since no others
// can be reached from outside, and keeps of each that has no annotation its port
// numbers alone. It needs the verbs list and watch on nodes and services.
type Watcher struct {
	Rules Rules
	// Config says how to reach the API server.
	Config *rest.Config
	// Objects, if it is not nil, is followed instead of an API server. It calls
	// changed, from one goroutine, with all objects whenever they have changed, until
	// ctx ends; manifest.WatchDir with a directory is such a function. Its problems
	// come before those of the State.
	Objects func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error
	// Files are looked at every second: while one of them exists, the node asks to be
	// drained.
	Files []string
	// Recount is how often the nodes are counted. 0 means a minute.
	Recount time.Duration
	// Logger, if not nil, gets a line when a file cannot be looked at. What happens
	// to the cluster stands in the State.
	Logger *slog.Logger

	once  sync.Once
	poked chan struct{}

	mu   sync.Mutex
	asks []Ask
	feed feed
}

// Times of a Watcher.
const (
	// settle is how long to wait for further changes once there is one: a list of
	// thousands of events should not make thousands of states.
	settle       = 50 * time.Millisecond
	lookInterval = time.Second
	minRecount   = time.Second
)

// feed is where a Watcher sees its cluster.
type feed interface {
	// run follows the cluster until ctx ends, and calls poke when it sees something
	// else. What it started has ended when it returns.
	run(ctx context.Context, poke func()) error
	// view returns what is seen now. The error says why nothing is, or why it may be
	// out of date: whole says which.
	view() (v view, problems []nodeselect.Problem, whole bool, err error)
	// recount asks for the number of nodes to be looked up again soon.
	recount()
	// contact is when the cluster was last heard.
	contact() time.Time
	// missing is the error about an own node that is not there.
	missing(v view, node string) error
}

func (w *Watcher) init() { w.once.Do(func() { w.poked = make(chan struct{}, 1) }) }

func (w *Watcher) poke() {
	select {
	case w.poked <- struct{}{}:
	default:
	}
}

// Ask sets what asks for the node's drain besides the cluster and the files: a command,
// say. It replaces what was set before; without arguments nothing does. It may be
// called at any time, from any goroutine.
func (w *Watcher) Ask(asks ...Ask) {
	w.init()
	w.mu.Lock()
	w.asks = slices.Clone(asks)
	w.mu.Unlock()
	w.poke()
}

// Contact returns when the API server was last heard, the zero time if never. On a
// quiet cluster that is once for each Recount. It may be called from any goroutine.
func (w *Watcher) Contact() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.feed == nil {
		return time.Time{}
	}
	return w.feed.contact()
}

// Run follows the cluster until ctx ends, and returns its error. It calls changed with
// each State that differs from the one before, one after the other; the first one
// comes when everything has been listed. All that Run started has ended when it
// returns.
//
// While the API server cannot be reached, or refuses, the last State stays in force
// with its Err set: so drains go on, and hold-downs end. If that is so from the
// beginning, the State has no Answers. A cluster that does not have the node is the
// error ErrNoNode if it never had it; a node that is gone later drains, unless most of
// the others are gone too.
func (w *Watcher) Run(ctx context.Context, changed func(State)) error {
	w.init()
	f, err := w.newFeed()
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.feed = f
	w.mu.Unlock()

	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.run(running, w.poke) }()
	err = w.follow(ctx, f, ended, changed)
	cancel()
	if feedErr := <-ended; err == nil {
		err = feedErr
	}
	return err
}

func (w *Watcher) newFeed() (feed, error) {
	switch {
	case w.Rules.Node == "":
		return nil, errors.New("agentcheck/nodeagent: Rules.Node is empty")
	case w.Objects != nil:
		return &objectsFeed{rules: w.Rules, follow: w.Objects}, nil
	case w.Config == nil:
		return nil, errors.New("agentcheck/nodeagent: Watcher has neither Config nor Objects")
	}
	return newCluster(w.Config, w.Rules, w.recountInterval())
}

func (w *Watcher) recountInterval() time.Duration {
	if w.Recount <= 0 {
		return time.Minute
	}
	return max(w.Recount, minRecount)
}

// follow makes states until ctx or the feed ends. An end of the feed is put back, for
// whoever waits for it.
func (w *Watcher) follow(ctx context.Context, f feed, ended chan error, changed func(State)) error {
	var (
		tracker = Tracker{Rules: w.Rules}
		look    = newLooker(w.Files, w.Logger)
		last    State
		any     bool // a state with answers has been made
		due     = time.NewTimer(0)
		ticks   <-chan time.Time
	)
	defer due.Stop()
	if len(w.Files) > 0 {
		ticker := time.NewTicker(lookInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	var dueAt time.Time // zero if the timer is not set
	schedule := func(at time.Time) {
		if dueAt.IsZero() || at.Before(dueAt) {
			dueAt = at
			due.Reset(time.Until(at))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return nil
		case <-w.poked:
			schedule(time.Now().Add(settle))
			continue
		case <-ticks:
			if !look.again() {
				continue
			}
		case <-due.C:
		}
		dueAt = time.Time{}
		v, problems, whole, err := f.view()
		var s State
		switch {
		case whole && !any && v.node == nil:
			return f.missing(v, w.Rules.Node)
		case whole:
			any = true
			if v.node == nil && !v.counted {
				f.recount()
			}
			w.mu.Lock()
			v.own = slices.Concat(w.asks, look.found)
			w.mu.Unlock()
			s = tracker.state(time.Now(), v)
			s.Problems = slices.Concat(problems, s.Problems)
			if s.Err = err; err != nil {
				s.Err = fmt.Errorf("agentcheck/nodeagent: the last good state stays in force: %w", err)
			}
			if next := tracker.Next(); !next.IsZero() {
				schedule(next)
			}
		case err != nil:
			s.Err = fmt.Errorf("agentcheck/nodeagent: no state yet: %w", err)
		default:
			continue
		}
		if s.equal(last) {
			continue
		}
		if s.Drain.Wanted && (s.Drain.Draining != last.Drain.Draining || s.Drain.Waiting != last.Drain.Waiting) {
			f.recount()
		}
		last = s
		changed(s)
	}
}

// equal says whether there is nothing to tell of s after o.
func (s State) equal(o State) bool {
	return slices.Equal(s.Answers, o.Answers) && slices.Equal(s.Problems, o.Problems) && s.Drain == o.Drain &&
		fmt.Sprint(s.Err) == fmt.Sprint(o.Err)
}
