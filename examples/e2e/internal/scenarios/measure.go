//go:build linux

package scenarios

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
)

// memory is the resident memory of a process in bytes.
type memory struct {
	now, most int64
}

const megabyte = 1e6

func (m memory) String() string {
	return fmt.Sprintf("%.1f MB at rest, %.1f MB at most", float64(m.now)/megabyte, float64(m.most)/megabyte)
}

// memoryOf reads /proc/PID/status.
func memoryOf(p *lab.Process) (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return m, err
	}
	for field, to := range map[string]*int64{"VmRSS:": &m.now, "VmHWM:": &m.most} {
		if *to, err = kilobytes(b, field); err != nil {
			return m, fmt.Errorf("memory of %s: %w", p.Name, err)
		}
	}
	return m, nil
}

func kilobytes(status []byte, field string) (int64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(string(bytes.TrimSpace(rest)), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", field)
}

// processorTime returns the processor time that a process has used so far.
func processorTime(p *lab.Process) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): utime and stime are fields 14 and 15. Field 2, in parentheses, may contain
	// spaces.
	_, rest, _ := bytes.Cut(b, []byte(") "))
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.PID(), b)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on all architectures
}

// received returns how many bytes the machine has received on its link, headers included.
func received(m *lab.Machine) (n int64, err error) {
	err = m.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "eth0:"); ok {
				n, err = strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				return err
			}
		}
		return fmt.Errorf("machine %s has no eth0", m.Name)
	})
	return n, err
}

// quantile returns the q-quantile of the values, for q from 0 to 1: the smallest value x in values
// such that at least the share q of all values is x or less.
func quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// slowness measures how busy the machine is: the time that a computation takes now, divided by the
// time that it takes on an idle machine. 1 means that the machine is idle.
type slowness struct {
	stop func()

	mu   sync.Mutex
	seen []float64
}

const (
	// sample is the processor time that watchSlowness uses to measure the slowness once. It is about
	// the processor time that a terminator needs to handle one event of a cluster.
	sample      = 20 * time.Millisecond
	sampleEvery = 300 * time.Millisecond
	// seldom is the time between two measurements of the function WatchSlowness. It is longer than
	// sampleEvery, the usual time between two measurements: WatchSlowness measures during every
	// scenario, and each measurement uses processor time.
	seldom = time.Second
)

// WatchSlowness measures the slowness of the machine until somebody calls the function "stop". The
// function "slow" returns the median of the samples so far, or 1 without samples.
func WatchSlowness(ctx context.Context) (slow func() float64, stop func()) {
	s := watchSlowness(ctx, seldom)
	return func() float64 { return s.at(0.5) }, s.stop
}

// watchSlowness takes samples of the slowness of the machine, until somebody calls the function in
// the field "stop". For each sample, it computes until its thread has used a fixed processor time
// (the constant "sample"). The slowness is the time that this computation takes, divided by its
// processor time.
func watchSlowness(ctx context.Context, every time.Duration) *slowness {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s := &slowness{stop: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		// Stay on one thread, because threadTime measures the processor time of one thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for pause(ctx, every) == nil {
			start, used := time.Now(), threadTime()
			for threadTime()-used < sample {
			}
			s.add(float64(time.Since(start)) / float64(threadTime()-used))
		}
	}()
	return s
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("e2e: " + err.Error()) // every Linux has this clock
	}
	return time.Duration(t.Nano())
}

func (s *slowness) add(x float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, x)
}

// The method "at" returns the q-quantile of the measured slowness, or 1 (not slower than usual) if
// nothing has been measured.
func (s *slowness) at(q float64) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		return 1
	}
	return quantile(s.seen, q)
}
