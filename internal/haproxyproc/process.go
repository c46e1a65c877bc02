// Package haproxyproc runs a real HAProxy as a child process, for tests and for programs that show
// a whole system on one machine.
//
//	p, err := haproxyproc.Start(ctx, haproxyproc.Options{
//		Config:      "/tmp/x/haproxy.cfg",
//		StatsSocket: "/tmp/x/stats.sock", // the socket that the configuration names
//	})
//	if err != nil { … } // it contains the end of HAProxy's output
//	defer p.Stop()
//
// Start returns when HAProxy answers on its sockets. With Options.MasterSocket, HAProxy runs in
// master-worker mode, which a reload needs.
//
// Stop ends the whole process group. On Linux, the kernel also ends HAProxy if the parent dies
// without a call of Stop. The package does not restart an HAProxy that has ended by itself; package
// haproxycfg/supervisor does.
//
// If the parent is process 1 of a container, Process waits for the orphaned workers of a dead
// master, so that they do not stay as zombies.
package haproxyproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// ErrNotFound means that this machine has no haproxy. The text says how to install it.
var ErrNotFound = errors.New("haproxyproc: no haproxy on PATH, /usr/sbin or /usr/local/sbin; get it with: apt-get install haproxy (or run make demo, make test)")

// Find returns the path of haproxy. It searches PATH, and then /usr/sbin and /usr/local/sbin, which
// are often missing in the PATH of a user. If there is no haproxy, Find returns [ErrNotFound].
func Find() (string, error) {
	if p, err := exec.LookPath("haproxy"); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, "haproxy")); err == nil {
			return p, nil
		}
	}
	return "", ErrNotFound
}

// Options say what to run. Config is required. At least one of StatsSocket and MasterSocket is
// required.
type Options struct {
	// Path is the path of the haproxy binary. If it is empty, Start calls [Find].
	Path string
	// Config is the configuration file.
	Config string
	// More are further configuration files, which HAProxy loads after Config.
	More []string
	// StatsSocket is the Unix socket in the configuration's line "stats socket". Start waits until
	// HAProxy answers on StatsSocket and on MasterSocket. If one of the two is empty, Start waits
	// only for the other.
	StatsSocket string
	// MasterSocket is the Unix socket for the master's command line. If it is not empty, HAProxy
	// runs in master-worker mode.
	MasterSocket string
	// Dir is the working directory of HAProxy. Empty means the directory of this process.
	Dir string
	// Output receives the text that HAProxy prints. nil means that nothing receives it. Only one
	// goroutine at a time calls Write.
	Output io.Writer
	// ReadyTimeout bounds Start; 0 means 1 minute.
	ReadyTimeout time.Duration
	// StopTimeout is how long Stop waits after SIGTERM before it sends SIGKILL. 0 means 5 s.
	StopTimeout time.Duration
}

// Process is a running HAProxy. Its methods are safe for concurrent use.
type Process struct {
	cmd         *exec.Cmd
	out         *tail
	done        chan struct{}
	err         error // the result of cmd.Wait, set before done is closed
	stopTimeout time.Duration
	stopOnce    sync.Once
}

// Start runs HAProxy until [Process.Stop], and waits until it answers on its sockets. If HAProxy
// ends, or is not ready before ctx or Options.ReadyTimeout ends, Start stops HAProxy and returns a
// [*StartError].
func Start(ctx context.Context, o Options) (*Process, error) {
	if o.Config == "" {
		return nil, errors.New("haproxyproc: no configuration file given")
	}
	if o.StatsSocket == "" && o.MasterSocket == "" {
		return nil, errors.New("haproxyproc: no socket given that shows whether HAProxy is ready")
	}
	if o.Path == "" {
		var err error
		if o.Path, err = Find(); err != nil {
			return nil, err
		}
	}
	p := &Process{
		out:         &tail{next: o.Output},
		done:        make(chan struct{}),
		stopTimeout: cmp.Or(max(o.StopTimeout, 0), 5*time.Second),
	}
	p.cmd = command(o)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	// If a worker outlives its master, it keeps the output pipe open, and Wait would wait for the
	// end of the pipe. WaitDelay ends this wait 2 s after the end of the master.
	p.cmd.WaitDelay = 2 * time.Second

	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("haproxyproc: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(o.ReadyTimeout, 0), time.Minute))
	defer cancel()
	if err := p.waitReady(ctx, o); err != nil {
		p.Stop()
		return nil, &StartError{Err: err, Output: p.Output()}
	}
	return p, nil
}

func command(o Options) *exec.Cmd {
	args := []string{"-f", o.Config}
	for _, file := range o.More {
		args = append(args, "-f", file)
	}
	if o.MasterSocket != "" {
		args = append(args, "-W", "-S", o.MasterSocket)
	} else {
		args = append(args, "-db") // stay in the foreground, even if the file says "daemon"
	}
	cmd := exec.Command(o.Path, args...)
	cmd.Dir = o.Dir
	setProcAttr(cmd)
	return cmd
}

// run starts the child and waits for its end. It locks its goroutine to one thread, because Linux
// sends the parent-death signal when the thread that started the child ends.
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
	reapGroup(p.cmd.Process.Pid)
	close(p.done)
}

func (p *Process) waitReady(ctx context.Context, o Options) error {
	tick := time.Tick(5 * time.Millisecond)
	for {
		last := probe(ctx, o)
		if last == nil {
			select {
			case <-p.done: // another process answered on that socket
			default:
				return nil
			}
		}
		select {
		case <-p.done:
			return ended(p.err)
		case <-ctx.Done():
			return fmt.Errorf("haproxy is not ready: %w (last probe: %v)", ctx.Err(), last)
		case <-tick:
		}
	}
}

// ended returns the error for an HAProxy that has ended with the status.
func ended(status error) error {
	if status == nil {
		return errors.New("haproxy ended before it was ready")
	}
	return fmt.Errorf("haproxy ended before it was ready: %w", status)
}

// probe returns nil if HAProxy answers on each socket. In master-worker mode, it asks both the
// master and the worker, because either of them may be ready last. The master passes a command with
// the prefix "@1" to worker 1, which is the present worker, because there was no reload since the
// start.
func probe(ctx context.Context, o Options) error {
	for _, s := range []runtimeapi.Socket{
		{Path: o.StatsSocket, Timeout: time.Second},
		{Path: o.MasterSocket, Worker: "@1", Timeout: time.Second},
	} {
		if s.Path == "" {
			continue
		}
		answer, err := s.Do(ctx, "show info")
		if err != nil {
			return err
		}
		if !strings.Contains(answer, "\nPid:") {
			return errors.New("no process answered")
		}
	}
	return nil
}

// Pid returns the process ID of HAProxy. In master-worker mode, it is the ID of the master.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when HAProxy has ended, whatever the reason is.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits until HAProxy has ended. If the exit status is 0, Err returns nil. Otherwise it returns
// the status as an error.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Output returns the last 64 KiB that HAProxy has printed.
func (p *Process) Output() string { return p.out.String() }

// Stop ends HAProxy and its workers with SIGTERM, and with SIGKILL after Options.StopTimeout, and
// waits until they have ended. A second call only waits.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		terminate(p.cmd.Process)
		select {
		case <-p.done:
		case <-time.After(p.stopTimeout):
			killGroup(p.cmd.Process.Pid)
			_ = p.cmd.Process.Kill()
		}
	})
	<-p.done
}

// SoftStop sends SIGUSR1: HAProxy accepts no new connections after the time of its setting "grace",
// and ends with its last connection. SoftStop does not wait for the end; use [Process.Done].
func (p *Process) SoftStop() { softStop(p.cmd.Process) }

// StartError is the error of Start if HAProxy did not become ready.
type StartError struct {
	Err    error
	Output string // the last part of the text that HAProxy printed
}

// Error returns the alerts in Output. If Output has no alert, Error returns all of Output.
func (e *StartError) Error() string {
	if alerts := Alerts(e.Output); len(alerts) > 0 {
		return fmt.Sprintf("haproxyproc: %v; HAProxy says: %s", e.Err, strings.Join(alerts, "; "))
	}
	return fmt.Sprintf("haproxyproc: %v; it printed:\n%s", e.Err, e.Output)
}

func (e *StartError) Unwrap() error { return e.Err }

const tailSize = 64 << 10

// tail is a Writer that keeps the last tailSize bytes, and passes all bytes on to another Writer,
// the field "next".
type tail struct {
	mu   sync.Mutex
	buf  []byte
	next io.Writer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	if t.next != nil {
		// Ignore the error of next.Write. If this method returned it, package exec would stop
		// reading HAProxy's output and close the pipe, and HAProxy would get SIGPIPE at its next
		// message.
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
