package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/filelock"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// ErrStopped means that HAProxy is stopping or has stopped, and that the Supervisor will not start
// it again, because somebody has called Drain or because Run has ended.
var ErrStopped = errors.New("supervisor: HAProxy is stopped")

// ErrInUse means that another Supervisor runs an HAProxy in Options.RunDir.
var ErrInUse = errors.New("supervisor: another Supervisor runs HAProxy in this directory")

// Supervisor runs one HAProxy. Its methods are safe for concurrent use.
type Supervisor struct {
	options Options

	drain chan struct{} // closed by Drain
	kill  chan struct{} // closed if the ctx of Drain ends before HAProxy does
	ended chan struct{} // closed when Run has ended
	wake  chan struct{} // ends a wait

	alerts alerts // the alerts that HAProxy has printed

	reloading sync.Mutex // held by Reload
	reporting sync.Mutex // held while the state changes and Changed is called

	mu      sync.Mutex
	begun   bool          // true after a call of Run, or of Drain before Run
	state   State         // see State
	changed chan struct{} // closed at the next change of state
	drained bool          // true if drain is closed
	killed  bool          // true if kill is closed
}

// New checks the options and returns a Supervisor. It starts no process. If Options.Haproxy is
// empty and the machine has no haproxy, the error says how to install it.
func New(o Options) (*Supervisor, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Supervisor{
		options: o,
		drain:   make(chan struct{}), kill: make(chan struct{}), ended: make(chan struct{}),
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}, nil
}

// State returns the current state.
func (s *Supervisor) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// watch returns the state, and a channel. The next change of the state closes the channel.
func (s *Supervisor) watch() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

func (s *Supervisor) update(change func(*State)) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	change(&s.state)
	state := s.state
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.options.Changed != nil {
		s.options.Changed(state)
	}
}

// Run starts HAProxy, and starts it again each time that it has ended. When ctx ends, Run sends
// SIGTERM to HAProxy, and SIGKILL after Options.StopTimeout. It returns nil when ctx or Drain has
// ended HAProxy and all its workers. It returns an error if it cannot create RunDir or is called
// twice, and [ErrInUse] if any other Supervisor uses RunDir.
//
// If the process of the Supervisor dies, Linux sends SIGTERM to HAProxy's master, and the master
// ends its workers.
func (s *Supervisor) Run(ctx context.Context) error {
	s.mu.Lock()
	begun, drained := s.begun, s.drained
	s.begun = true
	s.mu.Unlock()
	if drained {
		return nil
	}
	if begun {
		return errors.New("supervisor: Run was called twice")
	}
	defer close(s.ended)
	defer s.update(func(st *State) { *st = State{Phase: Stopped, Starts: st.Starts, attempt: st.attempt} })
	if err := os.MkdirAll(s.options.RunDir, 0o700); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	unlock, err := filelock.TryLock(filepath.Join(s.options.RunDir, lockFile))
	if errors.Is(err, filelock.ErrLocked) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer unlock()
	// A call of Drain ends this context. That stops a start of HAProxy that is in progress, or the
	// wait before the next start.
	untilDrain, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.drain:
			cancel()
		case <-untilDrain.Done():
		}
	}()

	delays := backoff{minDelay: s.options.MinDelay, maxDelay: s.options.MaxDelay, stable: s.options.Stable}
	for {
		var ran time.Duration
		p, err := s.start(untilDrain)
		if err == nil {
			began := time.Now()
			err = s.wait(ctx, p)
			ran = time.Since(began)
		}
		if untilDrain.Err() != nil {
			return nil
		}
		s.pause(untilDrain, delays.failed(ran, rand.Float64()), err)
		if untilDrain.Err() != nil {
			return nil
		}
	}
}

// pause waits for the duration d before the next start of HAProxy. A call of Reload ends the pause
// early. If Config is missing, only a call of Reload ends the pause. The program that writes the
// missing file also calls Reload. If HAProxy had already started by then, this Reload would start a
// second worker beside the first one.
func (s *Supervisor) pause(ctx context.Context, d time.Duration, cause error) {
	select {
	case <-s.wake: // remove a signal that came before this wait
	default:
	}
	var next time.Time
	var over <-chan time.Time
	if !errors.Is(cause, errNoConfig) {
		next, over = time.Now().Add(d), time.After(d)
	}
	s.update(func(st *State) {
		*st = State{Phase: Waiting, Starts: st.Starts, Err: cause, Next: next, attempt: st.attempt}
	})
	select {
	case <-ctx.Done():
	case <-over:
	case <-s.wake:
	}
}

// start starts HAProxy with Config or, if that fails, with LastGood.
func (s *Supervisor) start(ctx context.Context) (*haproxyproc.Process, error) {
	s.update(func(st *State) { *st = State{Phase: Starting, Starts: st.Starts, attempt: st.attempt + 1} })
	p, err := s.launch(ctx, s.options.Config)
	if err == nil {
		s.update(func(st *State) { st.Phase, st.PID, st.Starts = Running, p.Pid(), st.Starts+1 })
		return p, nil
	}
	if s.options.LastGood == "" || ctx.Err() != nil {
		return nil, err
	}
	p, err2 := s.launch(ctx, s.options.LastGood)
	if errors.Is(err2, errNoConfig) {
		return nil, err
	}
	if err2 != nil {
		return nil, errors.Join(err, fmt.Errorf("nor with the last good configuration: %w", err2))
	}
	if s.options.Pending != "" {
		if failed := os.WriteFile(s.options.Pending, nil, 0o644); failed != nil {
			err = errors.Join(err, fmt.Errorf("supervisor: mark the configuration as pending: %w", failed))
		}
	}
	s.update(func(st *State) {
		st.Phase, st.PID, st.Starts, st.OnLastGood, st.Err = Running, p.Pid(), st.Starts+1, true, err
	})
	return p, nil
}

// errNoConfig says that no configuration file exists.
var errNoConfig = errors.New("no configuration yet")

func (s *Supervisor) launch(ctx context.Context, config string) (*haproxyproc.Process, error) {
	if _, err := os.Stat(config); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("supervisor: %w: %w", errNoConfig, err)
	} else if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := s.link(config); err != nil {
		return nil, err
	}
	if s.options.StateFile != "" {
		// The state file must contain the version of its format ("1") even if it lists no server.
		// HAProxy prints a warning about a file without this version.
		if err := atomicfile.Write(s.options.StateFile, []byte("1\n"), 0o644, nil); err != nil {
			return nil, fmt.Errorf("supervisor: empty the state file: %w", err)
		}
	}
	o := haproxyproc.Options{
		Path: s.options.Haproxy, Config: filepath.Join(s.options.RunDir, configLink),
		MasterSocket: s.Master().Path,
		ReadyTimeout: s.options.ReadyTimeout, StopTimeout: s.options.StopTimeout,
	}
	o.Output = &lines{call: s.line}
	return haproxyproc.Start(ctx, o)
}

// line receives each line that HAProxy prints.
func (s *Supervisor) line(line string) {
	s.alerts.read(line)
	if s.options.Log != nil {
		s.options.Log(line)
	}
}

// The command line of HAProxy names a configuration file, which HAProxy reads at the start and at
// each reload. link makes this file a symbolic link to the file in the argument "config". The
// command line of a running master cannot change. With the link, the master nevertheless reads
// another file at the next reload.
func (s *Supervisor) link(config string) error {
	name := filepath.Join(s.options.RunDir, configLink)
	if target, err := os.Readlink(name); err == nil && target == config {
		return nil
	}
	temporary := name + ".new"
	_ = os.Remove(temporary) // left by a process that died
	if err := os.Symlink(config, temporary); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if err := os.Rename(temporary, name); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	return nil
}

// wait waits until HAProxy ends, and returns the reason. If ctx ends first, wait ends HAProxy. If
// somebody calls Drain first, wait sends SIGUSR1 to HAProxy, and ends HAProxy when the time for the
// drain is over.
func (s *Supervisor) wait(ctx context.Context, p *haproxyproc.Process) error {
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop()
	case <-s.drain:
		s.update(func(st *State) { st.Phase = Draining })
		p.SoftStop()
		select {
		case <-p.Done():
		case <-s.kill:
			p.Stop()
		case <-ctx.Done():
			p.Stop()
		}
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("supervisor: haproxy ended: %w", err)
	}
	return errors.New("supervisor: haproxy ended")
}

// AwaitFirstStart waits until Run has tried once to start HAProxy, or until Run or ctx ends. Before
// the first try, no process listens at the socket that the method Master returns.
func (s *Supervisor) AwaitFirstStart(ctx context.Context) {
	for {
		state, changed := s.watch()
		if state.attempt > 0 && state.Phase != Starting {
			return
		}
		select {
		case <-changed:
		case <-s.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Drain sends SIGUSR1 to HAProxy and waits until it has ended; HAProxy's settings "grace" and
// "hard-stop-after" decide how long this takes. If HAProxy does not run, Drain returns nil.
//
// If ctx ends first, Drain ends HAProxy with SIGTERM, and with SIGKILL after Options.StopTimeout,
// and returns an error that wraps that of ctx.
func (s *Supervisor) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.drained {
		s.drained = true
		close(s.drain)
	}
	if !s.begun {
		s.begun = true
		close(s.ended)
	}
	s.mu.Unlock()
	select {
	case <-s.ended:
		return nil
	default:
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if !s.killed {
		s.killed = true
		close(s.kill)
	}
	s.mu.Unlock()
	<-s.ended
	return fmt.Errorf("supervisor: stopped HAProxy before its last connection ended: %w", ctx.Err())
}

// Reload calls the function "reload", which must make HAProxy load Config. An example of this
// function is the method Reload of a deploy.Reloader for the socket Master. If HAProxy then runs
// with Config, Reload returns nil. Otherwise it returns an error, which also contains the alerts
// that HAProxy has printed during the reload.
//
// If HAProxy does not run, Reload makes the Supervisor start it at once. Before a call of Run,
// Reload waits for this call. After a call of Drain or the end of Run, Reload returns [ErrStopped].
func (s *Supervisor) Reload(ctx context.Context, reload func(context.Context) error) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	first, _ := s.watch()
	for {
		state, changed := s.watch()
		started := state.attempt > first.attempt
		switch {
		case state.Phase == Running && started, state.Phase == Waiting && started:
			return state.Err
		case state.Phase == Running:
			return s.reload(ctx, reload, state.OnLastGood)
		case state.Phase == Draining:
			return ErrStopped
		case state.Phase == Waiting:
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		select {
		case <-changed:
		case <-s.drain:
			return ErrStopped
		case <-s.ended:
			return ErrStopped
		case <-ctx.Done():
			return fmt.Errorf("supervisor: reload: %w", ctx.Err())
		}
	}
}

func (s *Supervisor) reload(ctx context.Context, reload func(context.Context) error, onLastGood bool) error {
	if err := s.link(s.options.Config); err != nil {
		return err
	}
	s.alerts.forget()
	err := reload(ctx)
	if err != nil {
		err = s.alerts.addTo(ctx, err)
	}
	switch {
	case !onLastGood:
	case err != nil:
		return errors.Join(err, s.link(s.options.LastGood))
	default:
		s.update(func(st *State) {
			if st.Phase == Running {
				st.OnLastGood, st.Err = false, nil
			}
		})
	}
	return err
}
