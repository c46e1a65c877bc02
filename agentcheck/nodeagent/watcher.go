package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/debounce"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/nodeselect"
)

// Watcher keeps the State of one node's agent up to date with a live cluster. Set its fields, then
// call Run once.
//
// The load on the API server does not grow with the number of nodes. The Watcher watches its own
// node and the nodes that the Signals select, and it regularly reads the number of all nodes. It
// watches the Services of the types NodePort and LoadBalancer, and keeps only the port numbers of a
// Service without annotations. It needs the verbs list and watch on nodes and services.
type Watcher struct {
	Rules Rules
	// Config describes how to reach the API server.
	Config *rest.Config
	// Objects, if not nil, replaces the API server. It calls changed, from one goroutine, with all
	// objects after each change, and returns when ctx ends. manifest.WatchDir with a directory is
	// such a function. State.Problems begins with the problems that Objects reports.
	Objects func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error
	// Files are paths on the node. While one of the files exists, a drain of the node is requested.
	// The Watcher notices a change within about a second.
	Files []string
	// CountInterval is the interval at which the Watcher counts the nodes, at least 1 s. 0 means a
	// minute.
	CountInterval time.Duration
	// Logger, if not nil, gets a line when the state of a file of Files cannot be read. Other
	// errors are in State.Err.
	Logger *slog.Logger

	once    sync.Once
	changes *debounce.Timer

	mu       sync.Mutex
	contact  time.Time
	requests []DrainRequest // of SetRequests
	files    []drainFile
}

// settleTime is the delay from a change to the next State: thousands of changes in a row must not
// cause thousands of States.
const settleTime = 50 * time.Millisecond

// source is the cluster of a Watcher: an API server or the objects of a function.
type source interface {
	// run follows the cluster until ctx ends, and calls notify after each change. All its
	// goroutines have ended when it returns.
	run(ctx context.Context, notify func()) error
	// snapshot returns the present state of the cluster.
	snapshot() snapshot
	// recount makes the source read the number of nodes soon.
	recount()
}

func (w *Watcher) notify() {
	w.once.Do(func() { w.changes = debounce.New(settleTime, settleTime) })
	w.changes.Notify()
}

// SetRequests sets the drain requests that come from outside of the cluster and of Files, such as a
// command of the operator. It replaces the requests of the previous call; without arguments it
// removes them. It may be called at any time, from any goroutine.
func (w *Watcher) SetRequests(requests ...DrainRequest) {
	w.mu.Lock()
	w.requests = slices.Clone(requests)
	w.mu.Unlock()
	w.notify()
}

// LastContact returns when the API server last answered, the zero time if never. On a quiet cluster
// it advances once in each CountInterval. It may be called from any goroutine.
func (w *Watcher) LastContact() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.contact
}

// Run follows the cluster until ctx ends, and returns the error of ctx. It calls changed with each
// State that differs from the last one, one at a time. The first call comes when the whole cluster
// has been listed. All goroutines of Run have ended when it returns.
//
// While the API server does not answer or refuses, the last State stays in force, with Err set.
// Drains continue and hold-downs end as usual. If the API server does not answer from the start,
// the State has no Answers. Run returns ErrNoNode if the cluster does not have the node at the
// start. A node that is deleted later drains, unless most other nodes are missing too.
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

// follow calls changed with new States until ctx ends. It returns an error only for a missing node.
func (w *Watcher) follow(ctx context.Context, src source, changed func(State)) error {
	tracker := Tracker{Rules: w.Rules}
	next := time.NewTimer(time.Hour) // until the tracker's next time
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
		default: // not everything has been listed yet
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

// ownRequests returns the drain requests for the node that no object shows.
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

// drainFile is the last known state of one of Watcher.Files.
type drainFile struct {
	exists  bool
	request DrainRequest
	err     string // of the last stat, "" if it succeeded
}

// readFiles updates the state of the files. If stat fails for another reason than a missing file,
// the last state stays, and readFiles returns the error.
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
		info, err := os.Stat(path)
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

// objectsSource is the source of Watcher.Objects: a function that reports all objects at once.
type objectsSource struct {
	rules  Rules
	follow func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error

	mu       sync.Mutex
	objects  nodeselect.Objects
	problems []nodeselect.Problem
	last     time.Time // of the last call; zero before the first
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
