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
	maxEvents = 128
	// turn bounds what one direction moves before the others of its loop have a turn.
	quantum = 1 << 20
	// scratchSize is the size of the one buffer that all epollConns of a loop share.
	scratchSize = 64 << 10
	// So many of each are kept for the next epollConn that needs one.
	maxFreeBuffers, maxFreeHandshakes = 16, 64
	// breath is after how long without a pause Go's scheduler gets a chance.
	maxBusy = int64(10 * time.Millisecond)
	// nap is a pause that shows that the loop was parked.
	parkThreshold = int64(5 * time.Microsecond)
)

// The tokens of what is in a loop's epoll beside the sockets of epollConns.
const (
	wakeToken     = -1
	acceptorToken = -2 // and less, one for each acceptor
)

// loop is one event loop: one epoll instance, one goroutine, and the epollConns that it serves.
// All fields but those marked are the goroutine's alone.
//
// The epoll descriptor itself is in Go's poller: while there is nothing to do the goroutine
// is parked like any that waits for a socket, holds no thread and leaves the processor to
// others. A call of epoll_wait(2) that blocks would do neither, and would have the scheduler's
// monitor take the processor away each time.
type epollLoop struct {
	engine     *epollEngine
	ep         int
	wake       int32
	epollFile  *os.File // ep, in Go's poller
	rawEpoll   syscall.RawConn
	eventBuf   [maxEvents]unix.EpollEvent
	rounds     int64 // so far
	lastEvents int   // of the last round
	pollAgain  bool  // there may be more events, of which epoll does not tell again
	now        int64 // nanoseconds since ev.base when the last round began
	parkedAt   int64 // when the loop last wanted to park
	resumedAt  int64 // when it last came back from being parked
	wheel      timerWheel
	deadlineAt int64 // when file's read deadline is; 0 is none

	entries     []entry // by token
	freeTokens  []int32 // free tokens
	acceptors   []*acceptor
	queue       []*epollConn // that have used up their turn
	queueBefore []*epollConn // those of the round before, for runBusy alone
	scratch     []byte
	vectors     [2]unix.Iovec
	pipes       pipePool
	buffers     [][]byte     // of scratchSize, for epollConns with a slow peer
	handshakes  []*handshake // for epollConns that do not relay yet
	stopped     bool

	load      atomic.Int32 // epollConns; for any goroutine
	pipesMade atomic.Int64 // for any goroutine

	mu     sync.Mutex  // guards inbox
	tasks  []func()    // what other goroutines want to have done
	parked atomic.Bool // the loop may be waiting: wake it
}

// entry is what an event's token stands for. The generation tells whether it still does:
// a descriptor may have been closed and its number given out anew within one batch.
type entry struct {
	conn *epollConn
	gen  uint32
}

func newEpollLoop(ee *epollEngine) (*epollLoop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	l := &epollLoop{engine: ee, ep: ep, wake: int32(wake), scratch: make([]byte, scratchSize)}
	l.pipes = pipePool{limit: (ee.shared.settings.pipes + ee.shared.settings.loops - 1) / ee.shared.settings.loops, newPipe: openPipe}
	// os.NewFile gives a descriptor to Go's poller if it is non-blocking.
	err = unix.SetNonblock(ep, true)
	l.epollFile = os.NewFile(uintptr(ep), "epoll")
	if err == nil {
		l.rawEpoll, err = l.epollFile.SyscallConn()
	}
	if err == nil {
		// A file that is not in the poller refuses deadlines.
		err = l.epollFile.SetReadDeadline(time.Time{})
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

func (l *epollLoop) close() {
	l.epollFile.Close()
	sysClose(l.wake)
	l.pipes.close()
	l.pipesMade.Store(0)
}

// post has the loop run task, soon. It may be called from any goroutine.
func (l *epollLoop) post(task func()) {
	l.mu.Lock()
	l.tasks = append(l.tasks, task)
	l.mu.Unlock()
	if l.parked.Swap(false) {
		sysWrite(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// run is the loop. RawConn.Read calls round, parks when that returns false, and calls it
// again when the epoll descriptor has become readable. It ends when the deadline comes,
// which is set to when the wheel has something to do.
func (l *epollLoop) run() {
	defer l.close()
	for round := l.round; !l.stopped; {
		if err := l.rawEpoll.Read(round); errors.Is(err, os.ErrDeadlineExceeded) {
			l.deadlineAt = 0
			l.epollFile.SetReadDeadline(time.Time{})
		}
	}
	l.runTasks() // what came too late for the loop may still have to close something
}

// round serves what is ready, runs what was posted and looks at the clock, until there is
// nothing more to do now, or for ever.
//
// It parks after a batch of events without asking whether there are more by now: one that
// came meanwhile has made the epoll descriptor readable anew, which Go's poller remembers
// for as long as Read has not returned. That is a call less for each round, of four.
func (l *epollLoop) round(uintptr) bool {
	for {
		l.parked.Store(false)
		n := sysEpollPoll(l.ep, l.eventBuf[:])
		l.lastEvents = n
		l.tick()
		l.pollAgain = n == maxEvents
		for i := range n {
			l.dispatch(&l.eventBuf[i])
		}
		l.runTasks()
		l.wheel.advance(l.now, l.fire)
		l.runQueue()
		if l.stopped {
			return true
		}
		if l.pollAgain || len(l.queue) > 0 {
			continue
		}
		if next := l.wheel.next(); next != 0 && (l.deadlineAt == 0 || next < l.deadlineAt) {
			l.deadlineAt = next
			l.epollFile.SetReadDeadline(l.engine.base.Add(time.Duration(next)))
		}
		l.parked.Store(true)
		if !l.hasTasks() {
			l.parkedAt = l.clock()
			return false
		}
	}
}

// tick reads the clock. A loop that never parks makes one ordinary call now and then: it
// wakes the scheduler's monitor, which sleeps while only the loop runs, so that other
// goroutines and their sockets get their share.
func (l *epollLoop) tick() {
	l.rounds++
	l.now = l.clock()
	if l.now-l.parkedAt > parkThreshold {
		l.resumedAt = l.now
	}
	if l.now-l.resumedAt > maxBusy {
		l.resumedAt = l.now
		syscall.Getppid()
		runtime.Gosched()
	}
}

// clock returns the time now, in nanoseconds since the start of the engine. Reading it takes about
// 35 ns. A Result needs it; everything else uses now.
func (l *epollLoop) clock() int64 { return int64(time.Since(l.engine.base)) }

func (l *epollLoop) dispatch(e *unix.EpollEvent) {
	switch {
	case e.Fd >= 0:
		if got := l.entries[e.Fd>>1]; got.conn != nil && got.gen == uint32(e.Pad) {
			got.conn.onEvent(int(e.Fd&1), e.Events)
		}
	case e.Fd == wakeToken:
		// It has done its work. It is edge-triggered, and need not be read.
	default:
		if a := l.acceptors[acceptorToken-e.Fd]; a != nil {
			a.accept()
		}
	}
}

func (l *epollLoop) hasTasks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tasks) > 0
}

func (l *epollLoop) runTasks() {
	l.mu.Lock()
	tasks := l.tasks
	l.tasks = nil
	l.mu.Unlock()
	for _, task := range tasks {
		task()
	}
}

// runBusy gives another turn to the epollConns that were not done in their last.
func (l *epollLoop) runQueue() {
	l.queue, l.queueBefore = l.queueBefore, l.queue
	for i, ec := range l.queueBefore {
		l.queueBefore[i] = nil
		ec.queued = false
		if ec.phase == phaseLinger {
			ec.linger()
		} else {
			ec.copyBoth()
		}
	}
	l.queueBefore = l.queueBefore[:0]
}

// enter gives a epollConn its token.
func (l *epollLoop) addConn(ec *epollConn) {
	if n := len(l.freeTokens); n > 0 {
		ec.token = l.freeTokens[n-1]
		l.freeTokens = l.freeTokens[:n-1]
	} else {
		ec.token = int32(len(l.entries))
		l.entries = append(l.entries, entry{})
	}
	l.entries[ec.token].conn = ec
}

// leave takes the token back and makes events that are still under way meaningless.
func (l *epollLoop) removeConn(ec *epollConn) {
	e := &l.entries[ec.token]
	e.conn = nil
	e.gen++
	l.freeTokens = append(l.freeTokens, ec.token)
}

func (l *epollLoop) fire(t *timer) {
	if t.conn != nil {
		t.conn.onTimer()
		return
	}
	for _, a := range l.acceptors {
		if a != nil && &a.pause == t {
			a.resume()
		}
	}
}

// takeOpening lends what a epollConn needs until it relays.
func (l *epollLoop) getHandshake() *handshake {
	if k := len(l.handshakes); k > 0 {
		o := l.handshakes[k-1]
		l.handshakes = l.handshakes[:k-1]
		return o
	}
	return &handshake{}
}

// giveOpening takes it back.
func (ec *epollConn) putHandshake() {
	o := ec.handshake
	if o == nil {
		return
	}
	*o = handshake{}
	ec.handshake = nil
	if len(ec.loop.handshakes) < maxFreeHandshakes {
		ec.loop.handshakes = append(ec.loop.handshakes, o)
	}
}

// smallHold is what is not worth a buffer of full size.
const smallHeld = 4 << 10

// takeBuffer returns a buffer for n bytes.
func (l *epollLoop) getBuffer(n int) []byte {
	if n <= smallHeld || n > scratchSize {
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
func (l *epollLoop) putBuffer(b []byte) {
	if cap(b) == scratchSize && len(l.buffers) < maxFreeBuffers {
		l.buffers = append(l.buffers, b[:scratchSize])
	}
}

func (l *epollLoop) getPipe() *pipe {
	p := l.pipes.get()
	l.pipesMade.Store(int64(l.pipes.made))
	return p
}

func (l *epollLoop) putPipe(p *pipe) {
	l.pipes.put(p)
	l.pipesMade.Store(int64(l.pipes.made))
}
