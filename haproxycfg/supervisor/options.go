package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// Options are the settings of a Supervisor. Config and RunDir are required.
type Options struct {
	// Haproxy is the path of the haproxy binary. Empty means that New searches PATH, /usr/sbin and
	// /usr/local/sbin.
	Haproxy string
	// Config is the path of the configuration file. The file may be missing when Run begins.
	// HAProxy then does not start until somebody creates the file and calls Reload.
	Config string
	// LastGood is the path of the configuration file that the Supervisor starts if HAProxy does not
	// start with Config, for example haproxy.cfg.last-good of package deploy; empty means none.
	LastGood string
	// Pending is the path of a file that the Supervisor creates when it starts HAProxy with
	// LastGood, for example haproxy.cfg.reload-pending of package deploy; empty means none. Without
	// this file, Apply of package deploy would assume that HAProxy runs Config.
	Pending string
	// RunDir is a directory for the master's socket that only this user can enter. The Supervisor
	// creates it if it is missing. One Supervisor at a time can use it. The path has at most 85
	// bytes, because the path of a Unix socket has at most 107.
	RunDir string
	// StateFile is the file that the configuration names as server-state-file; empty means none.
	// The Supervisor empties the file before each start, because the state in the file is from the
	// last reload, and may be old.
	StateFile string
	// MinDelay is the first wait before a restart; 0 means 100 ms. MaxDelay is the longest wait; 0
	// means 30 s. Stable is the time that HAProxy must have run so that the next wait is MinDelay
	// again; 0 means 1 minute.
	MinDelay, MaxDelay, Stable time.Duration
	// ReadyTimeout is the longest time of one start; 0 means 1 minute. In this time HAProxy reads
	// its whole configuration.
	ReadyTimeout time.Duration
	// StopTimeout is how long Run waits for HAProxy to end after SIGTERM, before it sends SIGKILL;
	// 0 means 5 s.
	StopTimeout time.Duration
	// Changed, if not nil, receives each new state, one call at a time. Changed may call State, but
	// no other method of the Supervisor.
	Changed func(State)
	// Log, if not nil, receives each line that HAProxy prints to its standard output and error,
	// without the line end. Calls come one at a time. HAProxy drops lines of its access log while Log
	// blocks.
	Log func(line string)
}

// State is the state of HAProxy.
type State struct {
	Phase Phase
	// PID is the process ID of the master in the phases Running and Draining, and 0 otherwise.
	PID int
	// Starts is the number of times that HAProxy has become ready.
	Starts int
	// OnLastGood is true if HAProxy runs with the file Options.LastGood because it did not start
	// with Config.
	OnLastGood bool
	// Err is not nil in two cases. In the phase Waiting, it says why HAProxy ended or did not
	// start. In the phase Running with OnLastGood, it says why HAProxy did not start with Config.
	Err error
	// Next is the time of the next start in the phase Waiting. It is zero if HAProxy waits for a
	// call of Reload, because Config is missing.
	Next time.Time

	attempt int // the number of starts that have begun
}

// Phase is the state of HAProxy and the Supervisor.
type Phase int

// The phases.
const (
	Stopped  Phase = iota // Run has not begun, or has ended
	Starting              // HAProxy reads its configuration
	Running               // HAProxy serves requests
	Waiting               // HAProxy does not run; State.Next is the time of the next start
	Draining              // HAProxy has received SIGUSR1
)

// String returns the phase as a word in lower case.
func (p Phase) String() string {
	names := [...]string{"stopped", "starting", "running", "waiting", "draining"}
	if p < 0 || int(p) >= len(names) {
		return fmt.Sprintf("phase %d", int(p))
	}
	return names[p]
}

// String returns the state in one line.
func (s State) String() string {
	text := s.Phase.String()
	switch {
	case s.OnLastGood:
		text += " with the last good configuration: " + fmt.Sprint(s.Err)
	case s.Err != nil:
		text += ": " + s.Err.Error()
	}
	return text
}

const (
	masterSocket = "master.sock"
	configLink   = "running.cfg"
	lockFile     = "lock" // Run holds a lock on this file
	maxRunDir    = 85     // in bytes; HAProxy appends up to 10 bytes to the name of a socket
)

func (o Options) withDefaults() (Options, error) {
	if o.Config == "" || o.RunDir == "" {
		return o, errors.New("supervisor: Config and RunDir are required")
	}
	for _, path := range []*string{&o.Config, &o.LastGood, &o.Pending, &o.RunDir} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return o, fmt.Errorf("supervisor: %w", err)
		}
	}
	if len(o.RunDir) > maxRunDir {
		return o, fmt.Errorf("supervisor: the path %s has %d bytes; the path of a directory for Unix sockets has at most %d", o.RunDir, len(o.RunDir), maxRunDir)
	}
	if o.Haproxy == "" {
		var err error
		if o.Haproxy, err = haproxyproc.Find(); err != nil {
			return o, err
		}
	}
	o.MinDelay = cmp.Or(max(o.MinDelay, 0), 100*time.Millisecond)
	o.MaxDelay = max(cmp.Or(max(o.MaxDelay, 0), 30*time.Second), o.MinDelay)
	o.Stable = cmp.Or(max(o.Stable, 0), time.Minute)
	o.ReadyTimeout = cmp.Or(max(o.ReadyTimeout, 0), time.Minute)
	return o, nil
}

// Master returns the socket of HAProxy's master.
func (s *Supervisor) Master() runtimeapi.Socket {
	return runtimeapi.Socket{Path: filepath.Join(s.options.RunDir, masterSocket)}
}
