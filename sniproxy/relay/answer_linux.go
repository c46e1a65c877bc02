//go:build amd64 || arm64

package relay

import "golang.org/x/sys/unix"

// maxLingerReads bounds how much a client that was answered may still send before others
// have a turn. For how long it may go on is bounded by lingerTimeout.
const maxLingerReads = 16

// sendAnswer writes Step.Data to the client and ends that direction.
func (f *flow) sendAnswer() {
	s, step := &f.side[clientSide], &f.opening.step
	if len(step.Data) > 0 {
		n, e := sysWrite(s.fd, step.Data)
		if e != noError && e != unix.EAGAIN {
			f.finish(BySession, step.Err)
			return
		}
		f.side[backendSide].taken += int64(n)
		step.Data = step.Data[n:]
		if len(step.Data) > 0 {
			f.blocked(s)
			return
		}
	}
	sysShutdown(s.fd)
	f.phase = phaseLinger
	f.linger()
}

// linger waits for the end of a client that was answered.
func (f *flow) linger() {
	more := f.discard()
	switch {
	case f.side[clientSide].eof:
		f.finish(BySession, f.opening.step.Err)
	case more:
		f.again()
	}
}

// discard reads and forgets what the client still sends: closing a socket with unread bytes
// would send RST, and the client might lose the answer. It returns true if there may be
// more by now.
func (f *flow) discard() (more bool) {
	s := &f.side[clientSide]
	for range maxLingerReads {
		if s.eof {
			return false
		}
		n, e := sysRead(s.fd, f.loop.scratch)
		if e == unix.EAGAIN {
			return false
		}
		s.eof = e != noError || n == 0
	}
	return true
}
