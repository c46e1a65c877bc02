package haproxyproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// Options say what to run. Config and one of the two sockets are required.
type Options struct {
	// Path of the haproxy binary. Empty means [Find].
	Path string
	// Config is the configuration file.
	Config string
	// StatsSocket is the unix socket that the configuration's "stats socket"
	// line names: HAProxy is ready when it answers there, and on MasterSocket
	// if there is one.
	StatsSocket string
	// MasterSocket, if not empty, turns on master-worker mode with the
	// master's command line on this unix socket.
	MasterSocket string
	// Dir is the working directory. Empty means that of this process.
	Dir string
	// Output also receives what HAProxy prints. Nil means nowhere. Writes
	// come from one goroutine at a time.
	Output io.Writer
	// ReadyTimeout bounds Start. Zero means 20 seconds.
	ReadyTimeout time.Duration
	// StopTimeout is how long Stop waits after SIGTERM before it sends
	// SIGKILL. Zero means 5 seconds.
	StopTimeout time.Duration
}

// Process is a running HAProxy. Its methods are safe for concurrent use.
type Process struct {
	cmd         *exec.Cmd
	out         *tail
	done        chan struct{}
	err         error // of Wait; read after done
	stopTimeout time.Duration
	stopOnce    sync.Once
}

// Start runs HAProxy and waits until it answers on its socket. ctx bounds this
// wait alone: the process goes on after ctx ends, until [Process.Stop]. When
// HAProxy ends or is not ready in time, nothing is left running and the error
// is a [*StartError].
func Start(ctx context.Context, o Options) (*Process, error) {
	if o.Config == "" {
		return nil, errors.New("haproxyproc: no configuration file given")
	}
	probe, err := newProbe(o)
	if err != nil {
		return nil, err
	}
	if o.Path == "" {
		if o.Path, err = Find(); err != nil {
			return nil, err
		}
	}
	p := &Process{
		out:         &tail{next: o.Output},
		done:        make(chan struct{}),
		stopTimeout: orDefault(o.StopTimeout, 5*time.Second),
	}
	p.cmd = command(o)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	// A worker that outlives its master holds the output pipe open.
	p.cmd.WaitDelay = 2 * time.Second

	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("haproxyproc: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(o.ReadyTimeout, 20*time.Second))
	defer cancel()
	if err := p.waitReady(ctx, probe); err != nil {
		p.Stop()
		return nil, &StartError{Err: err, Output: p.Output()}
	}
	return p, nil
}

func command(o Options) *exec.Cmd {
	args := []string{"-f", o.Config}
	if o.MasterSocket != "" {
		args = append(args, "-W", "-S", o.MasterSocket)
	} else {
		args = append(args, "-db") // stay in the foreground whatever the file says
	}
	cmd := exec.Command(o.Path, args...)
	cmd.Dir = o.Dir
	setProcAttr(cmd)
	return cmd
}

// run owns the child from start to end. It keeps its thread, because Linux
// sends the parent-death signal when the *thread* that forked ends.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	killGroup(p.cmd.Process.Pid) // a worker must not outlive its master
	close(p.done)
}

func (p *Process) waitReady(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		last := probe(ctx)
		if last == nil {
			select {
			case <-p.done: // somebody else answered on that socket
			default:
				return nil
			}
		}
		select {
		case <-p.done:
			return errors.Join(errors.New("haproxy ended before it was ready"), p.err)
		case <-ctx.Done():
			return fmt.Errorf("haproxy is not ready: %w (last probe: %v)", ctx.Err(), last)
		case <-tick.C:
		}
	}
}

// Pid is the process id of HAProxy, of the master in master-worker mode.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when HAProxy has ended, by itself or by Stop.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how HAProxy ended; it waits for that. Nil means exit status 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Output returns the last 64 KiB of what HAProxy has printed so far.
func (p *Process) Output() string { return p.out.String() }

// Stop ends HAProxy with its workers and waits until it is gone: SIGTERM, and
// SIGKILL after Options.StopTimeout. It may be called more than once.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		terminate(p.cmd.Process)
		t := time.NewTimer(p.stopTimeout)
		defer t.Stop()
		select {
		case <-p.done:
		case <-t.C:
			killGroup(p.cmd.Process.Pid)
			_ = p.cmd.Process.Kill()
		}
	})
	<-p.done
}

// StartError tells why HAProxy did not come up.
type StartError struct {
	Err    error
	Output string // the end of what HAProxy printed
}

func (e *StartError) Error() string {
	return fmt.Sprintf("haproxyproc: %v; it printed:\n%s", e.Err, e.Output)
}

func (e *StartError) Unwrap() error { return e.Err }

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
