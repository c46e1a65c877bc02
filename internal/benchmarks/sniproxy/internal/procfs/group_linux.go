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

// Group is a process group: a router with all its processes.
type Group int

// Processes returns the processes of the group that have not ended.
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
			continue // the process has ended in the meantime
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

// hasEnded reports whether err means that a process has ended since Processes listed it. The files
// of such a process are gone (ENOENT) or cannot be read (ESRCH), and the clock of its processor
// time does not exist (EINVAL).
func hasEnded(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
}

// CPU is processor time.
type CPU struct {
	// Total is the processor time inside and outside the kernel. Its resolution is 1 ns.
	Total time.Duration
	// User is the processor time outside the kernel. Its resolution is 10 ms for each process.
	User time.Duration
}

// CPU returns the processor time of all processes in the group, including their ended threads.
func (g Group) CPU() (CPU, error) {
	processes, err := g.Processes()
	if err != nil {
		return CPU{}, err
	}
	var sum CPU
	for _, p := range processes {
		total, err := processTime(p.PID)
		if hasEnded(err) {
			continue
		}
		if err != nil {
			return CPU{}, err
		}
		sum.Total += total
		sum.User += p.User
	}
	return sum, nil
}

// processTime reads the processor-time clock of another process, because utime and stime in /proc
// are rounded to ticks of 10 ms. The id of the clock is as in clock_getcpuclockid(3): the
// complement of the process id in the upper bits, and 2, the scheduler's clock, in the lower three
// bits.
func processTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("procfs: processor time of %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory returns the memory of all processes in the group.
func (g Group) Memory() (Memory, error) {
	processes, err := g.Processes()
	if err != nil {
		return Memory{}, err
	}
	var sum Memory
	for _, p := range processes {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID))
		if hasEnded(err) {
			continue
		}
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

// Descriptors returns the number of open files of all processes in the group.
func (g Group) Descriptors() (int, error) {
	processes, err := g.Processes()
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, p := range processes {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
		if hasEnded(err) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("procfs: %w", err)
		}
		sum += len(files)
	}
	return sum, nil
}

// Busy returns how long processor cpu has been busy since the machine started.
func Busy(cpu int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("procfs: %w", err)
	}
	return ParseBusy(data, cpu)
}
