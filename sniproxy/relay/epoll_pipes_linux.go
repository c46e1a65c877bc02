//go:build amd64 || arm64

package relay

import "golang.org/x/sys/unix"

const (
	// pipeSize is what a pipe should hold. More of it means fewer calls for a
	// gigabyte; an unprivileged user may have 64 MiB of it (pipe-user-pages-soft).
	pipeSize = 512 << 10
	// minPipeSize is what a pipe must hold to be worth it. Beyond its limit a user
	// gets pipes of 8 KiB, through which splice(2) is slower than copying.
	minPipeSize = 64 << 10
)

// pipe is a kernel buffer between two calls of splice(2).
type pipe struct {
	r, w int32
	size int
	n    int // bytes in it
}

func (p *pipe) close() {
	sysClose(p.r)
	sysClose(p.w)
}

// pipePool lends the pipes of one loop. A epollConn has one only while bytes are in it.
type pipePool struct {
	free    []*pipe
	made    int
	limit   int
	skip    int // so many times take does not try to make one, after it failed
	newPipe func() (*pipe, bool)
}

// pauseAfterFailure keeps a lack of descriptors from costing a failed call for each read.
const skipAfterFailure = 256

// take returns an empty pipe, nil if there is none.
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

// give takes a pipe back; with bytes left in it, it is of no use any more.
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

// openPipe makes a pipe. It fails for want of descriptors and of memory that a user may
// have in pipes.
func openPipe() (*pipe, bool) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, false
	}
	return usePipe(fds, pipeSize)
}

// usePipe makes a pipe as large as it may be.
func usePipe(fds [2]int, want int) (*pipe, bool) {
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
