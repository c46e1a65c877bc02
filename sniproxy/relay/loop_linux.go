//go:build amd64 || arm64

package relay

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many events are taken in one call.
	batch = 128
	// turn bounds what one direction moves before the others of its loop have a turn.
	turn = 1 << 20
	// scratchSize is the size of the one buffer that all flows of a loop share.
	scratchSize = 64 << 10
	// So many of each are kept for the next flow that needs one.
	keptBuffers, keptOpenings = 16, 64
	// breath is after how long without a pause Go's scheduler gets a chance.
	breath = int64(10 * time.Millisecond)
	// nap is a pause that shows that the loop was parked.
	nap = int64(5 * time.Microsecond)
)

// The tokens of what is in a loop's epoll beside the sockets of flows.
const (
	wakeToken     = -1
	acceptorToken = -2 // and less, one for each acceptor
)

// loop is one event loop: one epoll instance, one goroutine, and the flows that it serves.
// All fields but those marked are the goroutine's alone.
//
// The epoll descriptor itself is in Go's poller: while there is nothing to do the goroutine
// is parked like any that waits for a socket, holds no thread and leaves the processor to
// others. A call of epoll_wait(2) that blocks would do neither, and would have the scheduler's
// monitor take the processor away each time.
type loop struct {
	ev     *events
	ep     int
	wake   int32
	file   *os.File // ep, in Go's poller
	raw    syscall.RawConn
	got    [batch]unix.EpollEvent
	rounds int64 // so far
	events int   // of the last round
	more   bool  // there may be more events, of which epoll does not tell again
	now    int64 // nanoseconds since ev.base when the last round began
	left   int64 // when the loop last wanted to park
	rested int64 // when it last came back from being parked
	wheel  wheel
	armed  int64 // when file's read deadline is; 0 is none

	entries   []entry // by token
	unused    []int32 // free tokens
	acceptors []*acceptor
	busy      []*flow // that have used up their turn
	served    []*flow // those of the round before, for runBusy alone
	scratch   []byte
	vectors   [2]unix.Iovec
	pipes     pipePool
	buffers   [][]byte   // of scratchSize, for flows with a slow peer
	openings  []*opening // for flows that do not relay yet
	stopped   bool

	load      atomic.Int32 // flows; for any goroutine
	pipesMade atomic.Int64 // for any goroutine

	mu     sync.Mutex  // guards inbox
	inbox  []func()    // what other goroutines want to have done
	parked atomic.Bool // the loop may be waiting: wake it
}

// entry is what an event's token stands for. The generation tells whether it still does:
// a descriptor may have been closed and its number given out anew within one batch.
type entry struct {
	flow *flow
	gen  uint32
}

func newLoop(ev *events) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	l := &loop{ev: ev, ep: ep, wake: int32(wake), scratch: make([]byte, scratchSize)}
	l.pipes = pipePool{limit: (ev.shared.set.pipes + ev.shared.set.loops - 1) / ev.shared.set.loops, open: openPipe}
	// os.NewFile gives a descriptor to Go's poller if it is non-blocking.
	err = unix.SetNonblock(ep, true)
	l.file = os.NewFile(uintptr(ep), "epoll")
	if err == nil {
		l.raw, err = l.file.SyscallConn()
	}
	if err == nil {
		// A file that is not in the poller refuses deadlines.
		err = l.file.SetReadDeadline(time.Time{})
	}
	if err == nil {
		if e := sysEpollCtl(ep, unix.EPOLL_CTL_ADD, l.wake, unix.EPOLLIN|unix.EPOLLET, wakeToken, 0); e != noError {
			err = e
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) close() {
	l.file.Close()
	sysClose(l.wake)
	l.pipes.close()
	l.pipesMade.Store(0)
}

// post has the loop run task, soon. It may be called from any goroutine.
func (l *loop) post(task func()) {
	l.mu.Lock()
	l.inbox = append(l.inbox, task)
	l.mu.Unlock()
	if l.parked.Swap(false) {
		sysWrite(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// run is the loop. RawConn.Read calls round, parks when that returns false, and calls it
// again when the epoll descriptor has become readable. It ends when the deadline comes,
// which is set to when the wheel has something to do.
func (l *loop) run() {
	defer l.close()
	for round := l.round; !l.stopped; {
		if err := l.raw.Read(round); errors.Is(err, os.ErrDeadlineExceeded) {
			l.armed = 0
			l.file.SetReadDeadline(time.Time{})
		}
	}
	l.runInbox() // what came too late for the loop may still have to close something
}

// round serves what is ready, runs what was posted and looks at the clock, until there is
// nothing more to do now, or for ever.
//
// It parks after a batch of events without asking whether there are more by now: one that
// came meanwhile has made the epoll descriptor readable anew, which Go's poller remembers
// for as long as Read has not returned. That is a call less for each round, of four.
func (l *loop) round(uintptr) bool {
	for {
		l.parked.Store(false)
		n := sysEpollPoll(l.ep, l.got[:])
		l.events = n
		l.tick()
		l.more = n == batch
		for i := range n {
			l.dispatch(&l.got[i])
		}
		l.runInbox()
		l.wheel.advance(l.now, l.expire)
		l.runBusy()
		if l.stopped {
			return true
		}
		if l.more || len(l.busy) > 0 {
			continue
		}
		if next := l.wheel.next(); next != 0 && (l.armed == 0 || next < l.armed) {
			l.armed = next
			l.file.SetReadDeadline(l.ev.base.Add(time.Duration(next)))
		}
		l.parked.Store(true)
		if !l.hasInbox() {
			l.left = int64(time.Since(l.ev.base))
			return false
		}
	}
}

// tick reads the clock. A loop that never parks makes one ordinary call now and then: it
// wakes the scheduler's monitor, which sleeps while only the loop runs, so that other
// goroutines and their sockets get their share.
func (l *loop) tick() {
	l.rounds++
	l.now = int64(time.Since(l.ev.base))
	if l.now-l.left > nap {
		l.rested = l.now
	}
	if l.now-l.rested > breath {
		l.rested = l.now
		syscall.Getppid()
		runtime.Gosched()
	}
}

func (l *loop) dispatch(e *unix.EpollEvent) {
	switch {
	case e.Fd >= 0:
		if got := l.entries[e.Fd>>1]; got.flow != nil && got.gen == uint32(e.Pad) {
			got.flow.event(int(e.Fd&1), e.Events)
		}
	case e.Fd == wakeToken:
		// It has done its work. It is edge-triggered, and need not be read.
	default:
		if a := l.acceptors[acceptorToken-e.Fd]; a != nil {
			a.accept()
		}
	}
}

func (l *loop) hasInbox() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inbox) > 0
}

func (l *loop) runInbox() {
	l.mu.Lock()
	tasks := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, task := range tasks {
		task()
	}
}

// runBusy gives another turn to the flows that were not done in their last.
func (l *loop) runBusy() {
	l.busy, l.served = l.served, l.busy
	for i, f := range l.served {
		l.served[i] = nil
		f.busy = false
		if f.phase == phaseLinger {
			f.linger()
		} else {
			f.pump()
		}
	}
	l.served = l.served[:0]
}

// enter gives a flow its token.
func (l *loop) enter(f *flow) {
	if n := len(l.unused); n > 0 {
		f.token = l.unused[n-1]
		l.unused = l.unused[:n-1]
	} else {
		f.token = int32(len(l.entries))
		l.entries = append(l.entries, entry{})
	}
	l.entries[f.token].flow = f
}

// leave takes the token back and makes events that are still under way meaningless.
func (l *loop) leave(f *flow) {
	e := &l.entries[f.token]
	e.flow = nil
	e.gen++
	l.unused = append(l.unused, f.token)
}

func (l *loop) expire(t *timer) {
	if t.flow != nil {
		t.flow.expire()
		return
	}
	for _, a := range l.acceptors {
		if a != nil && &a.pause == t {
			a.resume()
		}
	}
}

// takeOpening lends what a flow needs until it relays.
func (l *loop) takeOpening() *opening {
	if k := len(l.openings); k > 0 {
		o := l.openings[k-1]
		l.openings = l.openings[:k-1]
		return o
	}
	return &opening{}
}

// giveOpening takes it back.
func (f *flow) giveOpening() {
	o := f.opening
	if o == nil {
		return
	}
	*o = opening{}
	f.opening = nil
	if len(f.loop.openings) < keptOpenings {
		f.loop.openings = append(f.loop.openings, o)
	}
}

// smallHold is what is not worth a buffer of full size.
const smallHold = 4 << 10

// takeBuffer returns a buffer for n bytes.
func (l *loop) takeBuffer(n int) []byte {
	if n <= smallHold || n > scratchSize {
		return make([]byte, n)
	}
	if k := len(l.buffers); k > 0 {
		b := l.buffers[k-1]
		l.buffers = l.buffers[:k-1]
		return b[:n]
	}
	return make([]byte, n, scratchSize)
}

// giveBuffer takes a buffer back; a few are kept.
func (l *loop) giveBuffer(b []byte) {
	if cap(b) == scratchSize && len(l.buffers) < keptBuffers {
		l.buffers = append(l.buffers, b[:scratchSize])
	}
}

func (l *loop) takePipe() *pipe {
	p := l.pipes.take()
	l.pipesMade.Store(int64(l.pipes.made))
	return p
}

func (l *loop) givePipe(p *pipe) {
	l.pipes.give(p)
	l.pipesMade.Store(int64(l.pipes.made))
}
