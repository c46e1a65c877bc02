//go:build amd64 || arm64

package relay

import "golang.org/x/sys/unix"

// A pipe carries bulk data between two sockets with splice(2), without a copy to user space. In
// BenchmarkBulk a GiB takes 0.27 s of processor time with pipes and 0.52 s without.

const (
	// pipeSize is the size of a pipe in bytes. A larger pipe needs fewer system calls. But all
	// pipes of an unprivileged user together may have 64 MiB (pipe-user-pages-soft).
	pipeSize = 512 << 10
	// minPipeSize is the smallest useful size of a pipe in bytes. A user above the limit of 64 MiB
	// gets pipes of 8 KiB, and splice(2) through such a pipe is slower than copying.
	minPipeSize = 64 << 10
)

// pipe is a pipe of the kernel. r and w are its descriptors for reading and writing.
type pipe struct {
	r, w int32
	size int
	n    int // bytes in the pipe
}

func (p *pipe) close() {
	sysClose(p.r)
	sysClose(p.w)
}

// pipePool lends the pipes of one loop. A connection has a pipe only while bytes are in the pipe.
type pipePool struct {
	free    []*pipe
	made    int // pipes that exist, free or lent
	limit   int // the largest value of made
	skip    int // this many further calls of the method get do not try to make a pipe
	newPipe func() (*pipe, bool)
}

// After get has failed to make a pipe, the next skipAfterFailure calls of get do not try to make
// one. So while the process has no free descriptor, only few reads cost a failed system call.
const skipAfterFailure = 256

// get returns an empty pipe. It returns nil if no pipe is free and no further pipe can be made.
func (p *pipePool) get() *pipe {
	if n := len(p.free); n > 0 {
		got := p.free[n-1]
		p.free = p.free[:n-1]
		return got
	}
	if p.made >= p.limit {
		return nil
	}
	if p.skip > 0 {
		p.skip--
		return nil
	}
	got, ok := p.newPipe()
	if !ok {
		p.skip = skipAfterFailure
		return nil
	}
	p.made++
	return got
}

// put returns an empty pipe to the pool. If the pipe is not empty, put closes the pipe instead.
func (p *pipePool) put(got *pipe) {
	if got.n > 0 {
		got.close()
		p.made--
		return
	}
	p.free = append(p.free, got)
}

func (p *pipePool) close() {
	for _, f := range p.free {
		f.close()
	}
	p.made -= len(p.free)
	p.free = nil
}

// openPipe makes a pipe. It returns false if the process has no free descriptors, or if the pipe is
// smaller than minPipeSize.
func openPipe() (*pipe, bool) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, false
	}
	return growPipe(fds, pipeSize)
}

// growPipe requests the wanted size for a pipe with the two descriptors fds. If the system refuses
// and the size is below minPipeSize, it closes the pipe and returns false.
func growPipe(fds [2]int, want int) (*pipe, bool) {
	p := &pipe{r: int32(fds[0]), w: int32(fds[1])}
	size, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, want)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(fds[1]), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || size < minPipeSize {
		p.close()
		return nil, false
	}
	p.size = size
	return p, true
}
