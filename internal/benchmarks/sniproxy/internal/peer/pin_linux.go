package peer

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Cores lists the processors that this process may run on.
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

// PinSelf keeps every thread of this process on some processors. Threads that start
// later inherit that from the thread that starts them; those that start meanwhile are
// caught by looking until a round finds nothing new.
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
