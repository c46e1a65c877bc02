package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a process group: a router with all processes that it started.
type Group int

// Processes lists the processes of the group that have not ended.
func (g Group) Processes() ([]Stat, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("procfs: %w", err)
	}
	var found []Stat
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", d.Name(), "stat"))
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := ParseStat(data)
		if err != nil {
			return nil, err
		}
		if s.Group == int(g) && s.State != 'Z' && s.State != 'X' {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("procfs: no process in group %d", int(g))
	}
	return found, nil
}

// CPU is the time that the processes have used.
type CPU struct {
	// Total is exact to the nanosecond.
	Total time.Duration
	// User is the part outside the kernel, quantised to 10 ms a process.
	User time.Duration
}

// CPU adds up what all processes of the group, with threads that have ended, have used.
func (g Group) CPU() (CPU, error) {
	processes, err := g.Processes()
	if err != nil {
		return CPU{}, err
	}
	var sum CPU
	for _, p := range processes {
		total, err := processTime(p.PID)
		if err != nil {
			return CPU{}, err
		}
		sum.Total += total
		sum.User += p.User
	}
	return sum, nil
}

// processTime reads the processor-time clock of another process, which counts what the
// scheduler counts, while utime and stime are cut to ticks. The number of that clock is
// made as clock_getcpuclockid(3) does: the complement of the process id, and 2 for the
// scheduler's clock.
func processTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("procfs: processor time of %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory adds up what the processes of the group hold.
func (g Group) Memory() (Memory, error) {
	processes, err := g.Processes()
	if err != nil {
		return Memory{}, err
	}
	var sum Memory
	for _, p := range processes {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID))
		if err != nil {
			return Memory{}, fmt.Errorf("procfs: %w", err)
		}
		m, err := ParseSmaps(data)
		if err != nil {
			return Memory{}, err
		}
		sum.RSS += m.RSS
		sum.PSS += m.PSS
	}
	return sum, nil
}

// Descriptors counts the open files of all processes of the group.
func (g Group) Descriptors() (int, error) {
	processes, err := g.Processes()
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, p := range processes {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("procfs: %w", err)
		}
		sum += len(files)
	}
	return sum, nil
}

// Busy is how long a processor has not been idle since the machine started.
func Busy(cpu int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("procfs: %w", err)
	}
	return ParseBusy(data, cpu)
}
