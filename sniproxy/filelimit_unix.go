//go:build unix

package sniproxy

import "syscall"

// fileLimit returns how many descriptors the process may have, or 0 if this is not known.
func fileLimit() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return uint64(r.Cur)
}
