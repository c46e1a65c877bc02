package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/procfs"
	"github.com/headgate/headgate/internal/freeport"
)

// Starter starts processes that run on the same processors. A process inherits the processors from
// the thread that starts it, and dies with this thread (PR_SET_PDEATHSIG). So a Starter has one
// thread, which lives until Close.
type Starter struct {
	cores  int
	starts chan func()
	done   chan struct{}
}

// NewStarter starts the thread of a Starter.
func NewStarter(cores ...int) (*Starter, error) {
	s := &Starter{cores: len(cores), starts: make(chan func()), done: make(chan struct{})}
	pinned := make(chan error)
	go s.run(cores, pinned)
	if err := <-pinned; err != nil {
		<-s.done
		return nil, fmt.Errorf("peer: affinity: %w", err)
	}
	return s, nil
}

func (s *Starter) run(cores []int, pinned chan<- error) {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
	err := pin(0, cores...)
	pinned <- err
	if err != nil {
		return
	}
	for start := range s.starts {
		start()
	}
}

// Close ends the thread that starts the routers. The caller must stop all routers first.
func (s *Starter) Close() {
	close(s.starts)
	<-s.done
}

// Process is a running router with all its processes.
type Process struct {
	procfs.Group
	Began   time.Time // when the process started, after its files were written
	cmd     *exec.Cmd
	output  tail
	ended   chan struct{}
	state   error
	stopped func() // ends the reservation of the port, and removes the directory; nil without them
}

// Launch starts a router in a new directory below parent, and sets the fields Dir, Listen and Cores
// of the setup. It reserves a free port of 127.0.0.1 for the router, because a router that chooses a
// port itself cannot report it. Process.Stop ends this reservation, and removes the directory.
func (s *Starter) Launch(ctx context.Context, parent string, r Router, setup Setup) (*Process, netip.AddrPort, error) {
	port, release, err := freeport.Hold("127.0.0.1", 0)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	setup.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	setup.Dir, err = os.MkdirTemp(parent, "router-")
	if err != nil {
		release()
		return nil, netip.AddrPort{}, err
	}
	setup.Cores = s.cores
	stopped := func() {
		release()
		_ = os.RemoveAll(setup.Dir) // the owner of parent removes what is left
	}
	p, err := s.Start(ctx, setup.Dir, r.Plan(setup))
	if err != nil {
		stopped()
		return nil, netip.AddrPort{}, err
	}
	p.stopped = stopped
	return p, setup.Listen, nil
}

// Start writes the files of the plan into dir and starts the router.
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
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", s.cores))
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = 2 * time.Second // limits the wait for output if a process left the group
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if plan.ForwardsTerm {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	p.Began = time.Now()
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

// Err returns nil while the router's first process runs. After that process has ended, Err returns
// an error with the reason and with the last lines of its output.
func (p *Process) Err() error {
	select {
	case <-p.ended:
		return fmt.Errorf("peer: %s ended (%v): %s", filepath.Base(p.cmd.Path), p.state, p.output.String())
	default:
		return nil
	}
}

// Output returns the last part of the text that the router has written to its output.
func (p *Process) Output() string { return p.output.String() }

// Stop kills all processes of the router, and waits until the process that Start started has ended.
func (p *Process) Stop() {
	_ = syscall.Kill(-int(p.Group), syscall.SIGKILL)
	<-p.ended
	if p.stopped != nil {
		p.stopped()
		p.stopped = nil
	}
}

// tail is a writer that keeps the last kilobyte written to it.
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

// Cores returns the processors that this process may run on.
func Cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("peer: affinity: %w", err)
	}
	var cores []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores, nil
}

// PinSelf binds every thread of this process to the given processors. A new thread inherits the
// processors of the thread that starts it. Threads may start while PinSelf runs, so it repeats
// until it finds no new thread.
func PinSelf(cores ...int) error {
	pinned := make(map[int]bool)
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("peer: affinity: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || pinned[id] {
				continue
			}
			pinned[id], again = true, true
			if err := pin(id, cores...); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("peer: affinity: %w", err)
			}
		}
	}
	return nil
}

func pin(thread int, cores ...int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	return unix.SchedSetaffinity(thread, &set)
}
