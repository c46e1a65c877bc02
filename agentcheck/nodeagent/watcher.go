package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/debounce"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/nodeselect"
)

// Watcher follows a live cluster, and computes a new State of one node's agent after each change.
// Set its fields, then call Run once. It needs permission to list and watch nodes and services.
//
// A Watcher watches its own node, the nodes that the Signals select, and the Services of the types
// NodePort and LoadBalancer; it only counts the other nodes. So its load on the API server does not
// grow with the number of nodes.
type Watcher struct {
	Rules Rules
	// Config describes how to reach the API server.
	Config *rest.Config
	// Objects, if not nil, replaces the API server; a function that calls manifest.WatchDir is an
	// example. It must call "changed" with all objects of the cluster at the start and after each
	// change, from one goroutine, and must return when ctx ends. State.Problems begins with the
	// problems that it passes.
	Objects func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error
	// Files are paths on the node. While a file exists at one of these paths, the Watcher has a
	// drain request for the node. The Watcher notices a change within about a second.
	Files []string
	// CountInterval is the time between two counts of the nodes, at least 1 s. 0 means 1 min.
	CountInterval time.Duration
	// Logger, if not nil, gets a line if the Watcher cannot find out whether a file of Files
	// exists. Other errors are in State.Err.
	Logger *slog.Logger

	once    sync.Once
	changes *debounce.Timer

	mu       sync.Mutex
	contact  time.Time
	requests []DrainRequest // the arguments of the last SetRequests
	files    []drainFile
}

// settleTime is the delay from a change to the next State. All changes during this time lead to one
// State, so thousands of changes in a row do not cause thousands of States.
const settleTime = 50 * time.Millisecond

// source is where a Watcher reads its cluster: an API server, or the function Watcher.Objects.
type source interface {
	// run follows the cluster until ctx ends, and calls the function "notify" after each change.
	// When run returns, all its goroutines have ended.
	run(ctx context.Context, notify func()) error
	// snapshot returns what the source knows about the cluster now.
	snapshot() snapshot
	// recount tells the source to read the number of all nodes of the cluster soon, without waiting
	// for CountInterval.
	recount()
}

func (w *Watcher) notify() {
	w.once.Do(func() { w.changes = debounce.New(settleTime, settleTime) })
	w.changes.Notify()
}

// SetRequests sets drain requests from other places than objects and Files, such as a command of
// the operator. They replace the requests of the previous call. SetRequests may be called at any
// time, from any goroutine.
func (w *Watcher) SetRequests(requests ...DrainRequest) {
	w.mu.Lock()
	w.requests = slices.Clone(requests)
	w.mu.Unlock()
	w.notify()
}

// LastContact returns when the API server last answered, or the zero time. Even without changes in
// the cluster, the result advances about once in each CountInterval. Any goroutine may call
// LastContact.
func (w *Watcher) LastContact() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.contact
}

// Run follows the cluster until ctx ends, and returns the error of ctx. It calls "changed" with
// each State that differs from the previous one; the calls do not overlap. When Run returns, all
// its goroutines have ended.
//
// The first State with Answers follows the first complete list of the cluster. While requests to
// the API server fail, the Watcher keeps the Answers and sets Err.
//
// If the first complete list does not contain the node, Run returns ErrNoNode. If the Node object
// is deleted later, the node drains, unless too many other Node objects are missing too.
func (w *Watcher) Run(ctx context.Context, changed func(State)) error {
	src, err := w.newSource()
	if err != nil {
		return err
	}
	_ = w.readFiles() // before the first State; filewatch tries again after an error
	w.notify()

	running, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	if len(w.Files) > 0 {
		files := filewatch.Watcher{Paths: w.Files, Recheck: time.Second}
		background.Go(func() { files.Run(running, w.readFiles) })
	}
	var sourceErr error
	background.Go(func() {
		defer stop()
		sourceErr = src.run(running, w.notify)
	})
	err = w.follow(running, src, changed)
	stop()
	background.Wait()
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return sourceErr
}

func (w *Watcher) newSource() (source, error) {
	switch {
	case w.Rules.Node == "":
		return nil, errors.New("agentcheck/nodeagent: Rules.Node is empty")
	case w.Objects != nil:
		return &objectsSource{rules: w.Rules, follow: w.Objects}, nil
	case w.Config == nil:
		return nil, errors.New("agentcheck/nodeagent: Watcher has neither Config nor Objects")
	}
	return newCluster(w.Config, w.Rules, w.CountInterval)
}

// follow passes each new State to the function "changed", until ctx ends. It returns an error only
// if the node does not exist at the start.
func (w *Watcher) follow(ctx context.Context, src source, changed func(State)) error {
	tracker := Tracker{Rules: w.Rules}
	next := time.NewTimer(time.Hour) // fires at the result of Tracker.Next
	defer next.Stop()
	defer w.changes.Stop()
	var last State
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changes.C:
		case <-next.C:
		}
		snap := src.snapshot()
		w.mu.Lock()
		w.contact = snap.contact
		w.mu.Unlock()
		var s State
		switch {
		case snap.complete && snap.node == nil && last.Answers == nil:
			return snap.errNoNode(w.Rules.Node)
		case snap.complete:
			if snap.node == nil && !snap.counted {
				src.recount()
			}
			if snap.err != nil {
				snap.err = fmt.Errorf("agentcheck/nodeagent: the last good state stays in force: %w", snap.err)
			}
			snap.own = w.ownRequests()
			s = tracker.state(time.Now(), snap)
			if at := tracker.Next(); !at.IsZero() {
				next.Reset(time.Until(at))
			}
		case snap.err != nil:
			s.Err = fmt.Errorf("agentcheck/nodeagent: no state yet: %w", snap.err)
		default: // the source has not listed the whole cluster yet
			continue
		}
		if s.equal(last) {
			continue
		}
		if s.Drain.Requested && (s.Drain.Draining != last.Drain.Draining || s.Drain.Waiting != last.Drain.Waiting) {
			src.recount()
		}
		last = s
		changed(s)
	}
}

func (s State) equal(o State) bool {
	return slices.Equal(s.Answers, o.Answers) && slices.Equal(s.Problems, o.Problems) && s.Drain == o.Drain &&
		fmt.Sprint(s.Err) == fmt.Sprint(o.Err)
}

// ownRequests returns the drain requests from SetRequests and from files.
func (w *Watcher) ownRequests() []DrainRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests := slices.Clone(w.requests)
	for _, f := range w.files {
		if f.exists {
			requests = append(requests, f.request)
		}
	}
	return requests
}

// drainFile is the last known state of one file of Watcher.Files.
type drainFile struct {
	exists  bool
	request DrainRequest
	err     string // the error of the last stat; "" if it succeeded
}

// readFiles updates w.files. If it cannot find out whether a file exists, it keeps the last known
// state of this file, and returns the error of stat.
func (w *Watcher) readFiles() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == nil {
		w.files = make([]drainFile, len(w.Files))
	}
	changed := false
	var errs []error
	for i, path := range w.Files {
		f := &w.files[i]
		info, err := inputfile.Stat(path)
		switch {
		case err == nil:
			changed = changed || !f.exists
			*f = drainFile{exists: true, request: DrainRequest{Reason: "file " + path, Since: info.ModTime()}}
		case errors.Is(err, fs.ErrNotExist):
			changed = changed || f.exists
			*f = drainFile{}
		default:
			errs = append(errs, err)
			if err.Error() != f.err && w.Logger != nil {
				w.Logger.Warn("stat of a drain file failed, its last state stays in force", "err", err, "exists", f.exists)
			}
			f.err = err.Error()
		}
	}
	if changed {
		w.notify()
	}
	return errors.Join(errs...)
}

// objectsSource is a source that gets its objects from the function Watcher.Objects.
type objectsSource struct {
	rules  Rules
	follow func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error

	mu       sync.Mutex
	objects  nodeselect.Objects
	problems []nodeselect.Problem
	last     time.Time // the time of the last call of changed; zero before the first call
}

func (o *objectsSource) run(ctx context.Context, notify func()) error {
	return o.follow(ctx, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		o.mu.Lock()
		o.objects, o.problems, o.last = objects, problems, time.Now()
		o.mu.Unlock()
		notify()
	})
}

func (o *objectsSource) snapshot() snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last.IsZero() {
		return snapshot{}
	}
	s := o.rules.snapshot(o.objects)
	s.problems, s.contact = o.problems, o.last
	return s
}

func (o *objectsSource) recount() {} // every snapshot has all nodes
