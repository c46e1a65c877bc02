package peer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/procfs"
)

// Starter starts processes on one processor, which they inherit from the thread that
// starts them. The kernel ends them when that thread ends (PR_SET_PDEATHSIG), however
// it does, so it is one thread that lives until Close.
type Starter struct {
	starts chan func()
	done   chan struct{}
}

// NewStarter starts the thread.
func NewStarter(core int) (*Starter, error) {
	s := &Starter{starts: make(chan func()), done: make(chan struct{})}
	pinned := make(chan error)
	go s.run(core, pinned)
	if err := <-pinned; err != nil {
		<-s.done
		return nil, fmt.Errorf("peer: affinity: %w", err)
	}
	return s, nil
}

func (s *Starter) run(core int, pinned chan<- error) {
	defer close(s.done)
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	err := pin(0, core)
	pinned <- err
	if err != nil {
		return
	}
	for start := range s.starts {
		start()
	}
}

// Close ends the thread. Whoever has started a process stops it before.
func (s *Starter) Close() {
	close(s.starts)
	<-s.done
}

// Process is a running router, with all processes that it has started.
type Process struct {
	procfs.Group
	cmd    *exec.Cmd
	output tail
	ended  chan struct{}
	state  error
}

// Start writes the files of the plan into the directory and starts it.
func (s *Starter) Start(ctx context.Context, dir string, plan Plan) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for name, data := range plan.Files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
	}
	p := &Process{cmd: exec.Command(plan.Args[0], plan.Args[1:]...), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = 2 * time.Second // for output, if a process got away
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if plan.ForwardsTerm {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	started := make(chan error)
	s.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	p.Group = procfs.Group(p.cmd.Process.Pid)
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	defer close(p.ended)
	p.state = p.cmd.Wait()
}

// Err is nil while the first process runs, and says with its last words why it ended.
func (p *Process) Err() error {
	select {
	case <-p.ended:
		return fmt.Errorf("peer: %s ended (%v): %s", filepath.Base(p.cmd.Path), p.state, p.output.String())
	default:
		return nil
	}
}

// Output is the end of what the router has written.
func (p *Process) Output() string { return p.output.String() }

// Stop kills the whole group and waits for its first process.
func (p *Process) Stop() {
	_ = syscall.Kill(-int(p.Group), syscall.SIGKILL)
	<-p.ended
}

// tail keeps the last kilobyte that is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	t.end = t.end[max(0, len(t.end)-1024):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}
