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
	// maxEvents is the greatest number of events that one epoll call returns.
	maxEvents = 128
	// quantum is how many bytes one direction of a connection may move before the loop serves other
	// connections.
	quantum = 1 << 20
	// scratchSize is the size of the buffer that all connections of a loop share.
	scratchSize = 64 << 10
	// A loop keeps at most maxFreeBuffers unused buffers and maxFreeHandshakes unused handshakes
	// for later connections.
	maxFreeBuffers, maxFreeHandshakes = 16, 64
	// maxBusy is how long, in nanoseconds, a loop runs without parking before it yields to Go's
	// scheduler.
	maxBusy = int64(10 * time.Millisecond)
	// parkThreshold is a time in nanoseconds. If the pause between two rounds is longer, the loop
	// assumes that Go has parked its goroutine.
	parkThreshold = int64(5 * time.Microsecond)
)

// The token of an epoll event says to which descriptor the event belongs. The tokens 0, 1, 2 and so
// on belong to connections (see the type entry). The negative tokens below belong to the eventfd
// and to the acceptors.
const (
	wakeToken     = -1
	acceptorToken = -2 // the token of the first acceptor; the second one has -3
)

// epollLoop is one event loop: an epoll instance, a goroutine, and its connections. Only this
// goroutine uses the fields, unless their comment states otherwise.
//
// The epoll descriptor is in Go's poller, which parks the goroutine without a thread while there
// are no events. A blocking epoll_wait(2) would block a thread, and Go's scheduler would have to
// give the processor of this thread to another thread.
type epollLoop struct {
	engine     *epollEngine
	ep         int
	wake       int32    // an eventfd; writing to it wakes the loop
	epollFile  *os.File // the descriptor ep as a file in Go's poller
	rawEpoll   syscall.RawConn
	eventBuf   [maxEvents]unix.EpollEvent
	rounds     int64 // the number of rounds so far
	lastEvents int   // the number of events in the last round
	pollAgain  bool  // poll once more before parking, because epoll does not report some events again
	now        int64 // the clock at the start of the round; see the method tick
	parkedAt   int64 // when the loop last parked
	resumedAt  int64 // when the loop last resumed after being parked
	timers     timerHeap
	deadlineAt int64 // the read deadline of epollFile; 0 means none

	entries     []entry // the index is the token
	freeTokens  []int32
	acceptors   []*acceptor
	queue       []*epollConn // connections that have used up their quantum or their reads
	queueBefore []*epollConn // the queue of the previous round; only the method runQueue uses it
	scratch     []byte
	vectors     [2]unix.Iovec
	pipes       pipePool
	buffers     [][]byte // unused buffers of scratchSize
	handshakes  []*handshake
	stopped     bool

	load      atomic.Int32 // the number of connections; for any goroutine
	pipesMade atomic.Int64 // for any goroutine

	mu     sync.Mutex  // guards tasks
	tasks  []func()    // the arguments of the calls of the method post
	parked atomic.Bool // the loop is parked, so the method post must wake it; for any goroutine
}

// entry is the connection to which a token, the number in an epoll event, belongs. The loop uses a
// token again for later connections, each time with another generation. If the generation of an
// event differs from gen, the loop has closed the connection of this event since the poll.
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
	// os.NewFile adds a descriptor to Go's poller only if the descriptor is non-blocking, so make
	// it non-blocking first.
	err = unix.SetNonblock(ep, true)
	l.epollFile = os.NewFile(uintptr(ep), "epoll")
	if err == nil {
		l.rawEpoll, err = l.epollFile.SyscallConn()
	}
	if err == nil {
		// Check that the file is in Go's poller: otherwise SetReadDeadline returns an error.
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

// post makes the goroutine of the loop call the function "task" soon. Any goroutine may call post.
func (l *epollLoop) post(task func()) {
	l.mu.Lock()
	l.tasks = append(l.tasks, task)
	l.mu.Unlock()
	if l.parked.Swap(false) {
		sysWrite(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// run runs the loop until it is stopped. RawConn.Read calls the method "round". When "round"
// returns false, Read parks the goroutine until the epoll descriptor is readable, and calls "round"
// again. The read deadline is the time of the next timer; when it passes, run calls Read again.
func (l *epollLoop) run() {
	defer l.close()
	for round := l.round; !l.stopped; {
		if err := l.rawEpoll.Read(round); errors.Is(err, os.ErrDeadlineExceeded) {
			l.deadlineAt = 0
			l.epollFile.SetReadDeadline(time.Time{})
		}
	}
	l.runTasks() // run the tasks that came after the last round, because one may close a descriptor
}

// round handles the events of one poll, and the tasks and timers that are due. It returns false to
// continue, and true to stop the loop; see run.
//
// round does not poll a second time, because a new event makes the epoll descriptor readable, which
// Go's poller remembers until Read waits. So each round needs three system calls instead of four.
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
		l.timers.advance(l.now, l.fire)
		l.runQueue()
		if l.stopped {
			return true
		}
		if l.pollAgain || len(l.queue) > 0 {
			continue
		}
		if next := l.timers.next(); next != 0 && (l.deadlineAt == 0 || next < l.deadlineAt) {
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

// tick reads the clock once in each round, for all its time-outs. Reading it for each copy would
// cost 35 ns more: 0.15% of the processor time of BenchmarkRoundTrip, which makes two copies.
//
// A loop that never parks makes an ordinary system call every maxBusy. This wakes the monitor
// thread of Go's scheduler, which lets other goroutines run and checks their sockets.
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

// clock returns the time in nanoseconds since the start of the engine. The times in a Result come
// from the method "clock". All other times come from the field "now" of the loop.
func (l *epollLoop) clock() int64 { return int64(time.Since(l.engine.base)) }

func (l *epollLoop) dispatch(e *unix.EpollEvent) {
	switch {
	case e.Fd >= 0: // the token of a connection, and the index of the side in the lowest bit
		if entry := l.entries[e.Fd>>1]; entry.conn != nil && entry.gen == uint32(e.Pad) {
			entry.conn.onEvent(int(e.Fd&1), e.Events)
		}
	case e.Fd == wakeToken:
		// The only task of the eventfd is to wake the loop. It is registered edge-triggered, so the
		// loop need not read it.
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

// runQueue continues to copy for the connections in the queue. They still have bytes to copy, but
// have paused so that the loop could serve other connections. Each of them entered the queue in
// this round or in the round before.
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

// addConn assigns a token to a connection.
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

// removeConn frees the token of a connection for another connection. It changes the generation of
// the token, so the loop drops late events of this connection.
func (l *epollLoop) removeConn(ec *epollConn) {
	e := &l.entries[ec.token]
	e.conn = nil
	e.gen++
	l.freeTokens = append(l.freeTokens, ec.token)
}

// fire handles a timer that is due.
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

// getHandshake returns an empty handshake.
func (l *epollLoop) getHandshake() *handshake {
	if n := len(l.handshakes); n > 0 {
		h := l.handshakes[n-1]
		l.handshakes = l.handshakes[:n-1]
		return h
	}
	return &handshake{}
}

// putHandshake removes the handshake from a connection, and keeps it for a later connection.
func (l *epollLoop) putHandshake(ec *epollConn) {
	h := ec.handshake
	if h == nil {
		return
	}
	*h = handshake{}
	ec.handshake = nil
	if len(l.handshakes) < maxFreeHandshakes {
		l.handshakes = append(l.handshakes, h)
	}
}

// smallHeld is a size in bytes. If the caller of getBuffer wants at most smallHeld bytes, getBuffer
// makes a new buffer of the wanted size, instead of a buffer of scratchSize.
const smallHeld = 4 << 10

// getBuffer returns a buffer of n bytes.
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

// putBuffer keeps an unused buffer for a later getBuffer.
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
