// Package procfs reads from /proc how much memory, processor time and descriptors a group of
// processes uses.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc, 1/USER_HZ s. USER_HZ is 100 on every architecture that Go
// supports, even if the kernel is built with another HZ.
const tick = time.Second / 100

// Stat contains some fields of /proc/PID/stat.
type Stat struct {
	PID     int
	Command string
	State   byte
	Group   int
	// User is the processor time of the process in user mode, and System its processor time in the
	// kernel. Both include the threads that have ended. Both are multiples of 10 ms.
	User, System time.Duration
}

// ParseStat parses /proc/PID/stat. The command may contain spaces and parentheses, so ParseStat
// counts the fields from the last closing parenthesis (proc_pid_stat(5)).
func ParseStat(data []byte) (Stat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Stat{}, errors.New("procfs: stat without a command")
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data[:open])))
	if err != nil {
		return Stat{}, fmt.Errorf("procfs: stat: %w", err)
	}
	fields := strings.Fields(string(data[end+1:])) // fields[0] is field 3 of the file
	if len(fields) < 13 || len(fields[0]) != 1 {
		return Stat{}, errors.New("procfs: stat is cut short")
	}
	s := Stat{PID: pid, Command: string(data[open+1 : end]), State: fields[0][0]}
	var user, system int64
	for _, f := range []struct {
		field int
		to    *int64
	}{{14, &user}, {15, &system}} {
		if *f.to, err = strconv.ParseInt(fields[f.field-3], 10, 64); err != nil {
			return Stat{}, fmt.Errorf("procfs: stat: %w", err)
		}
	}
	if s.Group, err = strconv.Atoi(fields[5-3]); err != nil {
		return Stat{}, fmt.Errorf("procfs: stat: %w", err)
	}
	s.User, s.System = time.Duration(user)*tick, time.Duration(system)*tick
	return s, nil
}

// Memory is the memory of one or more processes in KiB.
type Memory struct {
	// RSS is the resident memory of all the processes together. A page that several processes map
	// counts once for each of them.
	RSS int64
	// PSS is the memory of all processes together, like RSS. But if several processes map a page,
	// PSS counts the page only once: the kernel divides its size among these processes.
	PSS int64
}

// ParseSmaps parses /proc/PID/smaps_rollup, whose numbers are exact. The numbers in the files statm
// and status are not exact: the kernel adds changes to them in batches for each processor.
func ParseSmaps(data []byte) (Memory, error) {
	var m Memory
	var err error
	if m.RSS, err = kibibytes(data, "Rss:"); err != nil {
		return Memory{}, err
	}
	if m.PSS, err = kibibytes(data, "Pss:"); err != nil {
		return Memory{}, err
	}
	return m, nil
}

func kibibytes(data []byte, key string) (int64, error) {
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, key)
		if !ok {
			continue
		}
		number, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		if !ok {
			return 0, fmt.Errorf("procfs: %s is not in kB", key)
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("procfs: %s %w", key, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("procfs: no %s", key)
}

// ParseBusy parses /proc/stat and returns how long a processor was neither idle nor waiting for a
// disk. Time that the host took from a virtual machine counts as busy, because it disturbs a
// measurement too.
func ParseBusy(data []byte, cpu int) (time.Duration, error) {
	name := "cpu" + strconv.Itoa(cpu)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != name {
			continue
		}
		var busy time.Duration
		// The first eight values are user nice system idle iowait irq softirq steal. The loop
		// leaves out the guest times that follow, because user already includes them.
		for i, field := range fields[1:min(len(fields), 9)] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("procfs: %s: %w", name, err)
			}
			if i != 3 && i != 4 {
				busy += time.Duration(n) * tick
			}
		}
		return busy, nil
	}
	return 0, fmt.Errorf("procfs: no processor %d", cpu)
}
