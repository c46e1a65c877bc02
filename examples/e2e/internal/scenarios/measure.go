//go:build linux

package scenarios

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
)

// memory is what a process holds of the machine's memory (resident set), in bytes.
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

// processorTime is what a process has used so far.
func processorTime(p *lab.Process) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): utime and stime are the fields 14 and 15; the second one, in
	// parentheses, may hold spaces.
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
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 everywhere
}

// received returns how many bytes the machine has received on its link, with all headers.
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

// quantile returns the least of the values that a share q of them does not exceed.
func quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
