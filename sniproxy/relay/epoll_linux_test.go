//go:build amd64 || arm64

package relay

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onLoops runs f in each loop of e, one after the other.
func onLoops(t *testing.T, e *Engine, f func(*epollLoop)) {
	t.Helper()
	s, err := e.start()
	require.NoError(t, err)
	for _, l := range s.epoll.Load().loops {
		done := make(chan struct{})
		l.post(func() { defer close(done); f(l) })
		receive(t, done)
	}
}

// onlyConn calls f with the only connection of e, in its loop.
func onlyConn(t *testing.T, e *Engine, f func(*epollConn)) {
	t.Helper()
	found := 0
	onLoops(t, e, func(l *epollLoop) {
		for _, entry := range l.entries {
			if entry.conn != nil {
				found++
				f(entry.conn)
			}
		}
	})
	require.Equal(t, 1, found)
}

// TestManyIdle holds thousands of connections open and checks what they cost: two descriptors, no
// goroutine, no pipe, and less than 1 KiB of memory.
func TestManyIdle(t *testing.T) {
	noLeak(t)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	// Both ends are in this process too, so a connection needs four descriptors.
	n := int(min(5000, (limit.Cur-200)/4))
	e := newEngine(t, &Engine{HelloTimeout: time.Minute})
	l := listen(t)
	backendAddr := l.Addr().(*net.TCPAddr).AddrPort()
	results := make(chan Result, n)
	addr, _ := serve(t, e, script{addr: backendAddr, done: results})
	var far []*net.TCPConn
	var clients []net.Conn
	defer func() {
		for i := range far {
			far[i].Close()
			clients[i].Close()
		}
	}()
	connect := func() {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		clients = append(clients, c)
		write(t, c, "hello")
		b, err := l.AcceptTCP()
		require.NoError(t, err)
		far = append(far, b)
		expect(t, b, "hello")
	}
	for range 10 {
		connect()
	}
	poll(t, "not all relay", func() bool { return e.Stats().Open == 10 })
	goroutines, fds, heap := runtime.NumGoroutine(), openFiles(), liveHeap()
	for range n - 10 {
		connect()
	}
	require.EqualValues(t, n, e.Stats().Open)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+1)
	require.LessOrEqual(t, openFiles()-fds, 4*(n-10)+2)
	require.Zero(t, e.Stats().Pipes)
	// The memory includes the test's own two connections, which are about half of it.
	each := (liveHeap() - heap) / uint64(n-10)
	t.Logf("%d connections, %d bytes each with both ends of the test", n, each)
	require.Less(t, each, uint64(2048))

	// The connections still work, and end.
	for i := range far {
		write(t, far[i], "x")
		expect(t, clients[i], "x")
		require.NoError(t, clients[i].Close())
		require.NoError(t, far[i].Close())
	}
	for range n {
		require.NoError(t, receive(t, results).Err)
	}
}

// liveHeap returns the bytes in use after a garbage collection.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestSpliceCarriesBulk(t *testing.T) {
	const size = 64 << 20
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, backend, done := relayed(t, e, "")
	go func() {
		send(backend, size, 5, newRand())
		backend.Close()
	}()
	require.NoError(t, check(client, size, 5, false))
	client.Close()
	require.EqualValues(t, size, receive(t, done).ToClient)
	require.EqualValues(t, 1, e.Stats().Pipes)
	onLoops(t, e, func(l *epollLoop) { require.Len(t, l.pipes.free, 1, "not given back") })
}

func TestSmallMessagesNeedNoPipe(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, backend, _ := relayed(t, e, "")
	message := strings.Repeat("m", 2000)
	for range 500 {
		write(t, client, message)
		expect(t, backend, message)
		write(t, backend, message)
		expect(t, client, message)
	}
	require.Zero(t, e.Stats().Pipes)
}

// When a connection sends small messages after bulk data, it returns its pipe to the pool and
// copies through the buffer.
func TestSmallMessagesAfterBulk(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, backend, _ := relayed(t, e, "")
	big := strings.Repeat("b", 4<<20)
	go io.WriteString(client, big)
	expect(t, backend, big)
	for range 4 * (bulkStreak + endStreak) {
		write(t, client, "small")
		expect(t, backend, "small")
	}
	require.EqualValues(t, 1, e.Stats().Pipes)
	onlyConn(t, e, func(ec *epollConn) { require.Less(t, ec.side[clientSide].longReads, int8(bulkStreak)) })
}

func TestCopiesWithoutAPipe(t *testing.T) {
	const size = 2 << 20
	fail := func() (*pipe, bool) { return nil, false }
	tests := map[string]struct {
		pipes int
		open  func() (*pipe, bool)
		most  int64
	}{
		"Pipes: -1":        {-1, openPipe, 0},
		"no descriptors":   {64, fail, 0},
		"one pipe for all": {1, openPipe, 1},
		"too small":        {64, func() (*pipe, bool) { return smallPipe(t) }, 0},
		"a pipe for each":  {64, openPipe, 10},
		"no splice":        {64, func() (*pipe, bool) { return noPipe(t) }, 10},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			e := newEngine(t, &Engine{Loops: 1, Pipes: test.pipes})
			onLoops(t, e, func(l *epollLoop) { l.pipes.newPipe = test.open })
			var wg sync.WaitGroup
			for i := range uint64(10) {
				client, backend, _ := relayed(t, e, "")
				wg.Go(func() {
					send(client, size, i, newRand())
					client.CloseWrite()
				})
				wg.Go(func() {
					if err := check(backend, size, i, i%4 == 0); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.LessOrEqual(t, e.Stats().Pipes, test.most)
		})
	}
}

// smallPipe calls growPipe for a pipe of 8 KiB. A user above the limit for pipe memory gets pipes
// of this size.
func smallPipe(t *testing.T) (*pipe, bool) {
	var fds [2]int
	require.NoError(t, unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	_, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, 4096)
	require.NoError(t, err)
	return growPipe(fds, 4096)
}

// noPipe returns a pipe whose descriptors belong to no pipe, so splice(2) fails with EINVAL.
func noPipe(t *testing.T) (*pipe, bool) {
	null := func() int32 {
		fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		return int32(fd)
	}
	return &pipe{r: null(), w: null(), size: minPipeSize}, true
}

// If a connection ends with bytes in its pipe, the next connection must not get these bytes.
func TestPipeWithBytesIsClosed(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, backend, done := relayed(t, e, "")
	go io.Copy(client, onlyReader{zeros{}})
	poll(t, "not in a pipe", func() (in bool) {
		onlyConn(t, e, func(ec *epollConn) {
			p := ec.side[clientSide].pipe
			in = p != nil && p.n > 0 && !ec.side[backendSide].writable
		})
		return in
	})
	backend.SetLinger(0)
	backend.Close()
	require.Error(t, receive(t, done).Err)
	require.Zero(t, e.Stats().Pipes)
	client, backend, _ = relayed(t, e, "")
	go func() {
		send(client, 8<<20, 9, newRand())
		client.CloseWrite()
	}()
	require.NoError(t, check(backend, 8<<20, 9, false))
}

// TestManyLoopsShareTheWork opens connections faster than one loop can accept them.
func TestManyLoopsShareTheWork(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 4})
	b, backends := accepting(t)
	addr, _ := serve(t, e, script{addr: b})
	for range 200 {
		write(t, dial(t, addr), "x")
		receive(t, backends)
	}
	var loads []int32
	onLoops(t, e, func(l *epollLoop) { loads = append(loads, l.load.Load()) })
	sum := int32(0)
	for _, load := range loads {
		require.Greater(t, load, int32(20), "%v", loads)
		sum += load
	}
	require.EqualValues(t, 200, sum)
}

// The Engine notices a client that resets while its Session waits, or while the backend is dialed.
func TestClientGoesAway(t *testing.T) {
	for _, phase := range []Phase{PhaseWait, PhaseDial} {
		t.Run(phase.String(), func(t *testing.T) {
			noLeak(t)
			e := newEngine(t, &Engine{})
			there := make(chan struct{}, 1)
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				if phase == PhaseWait {
					there <- struct{}{}
					return Step{Action: Wait}
				}
				return Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
					there <- struct{}{}
					<-ctx.Done()
					return nil, ctx.Err()
				}}
			}})
			c := dial(t, addr)
			write(t, c, "x")
			receive(t, there)
			c.SetLinger(0)
			c.Close()
			r := receive(t, done)
			require.Equal(t, ByClient, r.By)
			require.Equal(t, phase, r.Phase)
			require.ErrorIs(t, r.Err, unix.ECONNRESET)
		})
	}
}

// An event of a closed descriptor may arrive after another connection has got the number and the
// token of the closed one.
func TestEventOfAnEarlierConnection(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step { return Step{Action: Wait} }})
	c := dial(t, addr)
	write(t, c, "x")
	waiting := func() (is bool) {
		onLoops(t, e, func(l *epollLoop) {
			is = len(l.entries) == 1 && l.entries[0].conn != nil && l.entries[0].conn.phase == PhaseWait
		})
		return is
	}
	poll(t, "not there", waiting)
	c.SetLinger(0)
	c.Close()
	receive(t, done)
	c = dial(t, addr)
	write(t, c, "x")
	poll(t, "not there", waiting)
	onLoops(t, e, func(l *epollLoop) {
		require.EqualValues(t, 1, l.entries[0].gen)
		l.dispatch(&unix.EpollEvent{Events: unix.EPOLLERR | unix.EPOLLHUP, Fd: 0<<1 | clientSide, Pad: 0})
	})
	require.True(t, waiting())
	require.Empty(t, done)
}

// More connections are readable than one epoll call returns.
func TestMoreEventsThanABatch(t *testing.T) {
	const n = 3*maxEvents + 1
	noLeak(t)
	// There are no time-outs, so only events wake the loop.
	e := newEngine(t, &Engine{Loops: 1, HelloTimeout: -1, DialTimeout: -1, IdleTimeout: -1, KeepAlive: -1})
	b, backends := accepting(t)
	addr, _ := serve(t, e, script{addr: b})
	var near, far []*net.TCPConn
	for range n {
		c := dial(t, addr)
		write(t, c, "x")
		near, far = append(near, c), append(far, receive(t, backends))
	}
	for _, c := range far {
		expect(t, c, "x")
	}
	l := e.shared.epoll.Load().loops[0]
	held, release := make(chan struct{}), make(chan struct{})
	l.post(func() { close(held); <-release })
	receive(t, held)
	for _, c := range near {
		write(t, c, "y")
	}
	close(release)
	for _, c := range far {
		expect(t, c, "y")
	}
}

// A connection may reach its loop after Close has closed the connections of that loop.
func TestConnectionThatArrivesAfterClose(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	s, err := e.start()
	require.NoError(t, err)
	near, far := tcpPair(t)
	fd, err := detach(far)
	require.NoError(t, err)
	far.Close()
	require.True(t, s.begin())
	l := s.epoll.Load().loops[0]
	l.load.Add(1)
	s.closing.Store(true)
	s.epoll.Load().closeWithin(0)
	l.post(func() {
		newEpollConn(l, fd, netip.AddrPort{}).start(func(Conn) Session { return &script{} }, true)
	})
	expectEnd(t, near)
	require.NoError(t, e.Close())
}

// TestShutdownServesAcceptedConnections makes a loop accept a connection after Shutdown has begun,
// and before the loop has closed its listener. The Engine must serve this connection: if another
// process shares the socket, it cannot accept the connection any more.
func TestShutdownServesAcceptedConnections(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	addr, results := serve(t, e, script{hello: func(*script, []byte, error) Step {
		return Step{Action: Answer, Data: []byte("served")}
	}})
	poll(t, "not listening", func() (listens bool) {
		onLoops(t, e, func(l *epollLoop) { listens = len(l.acceptors) > 0 })
		return listens
	})
	s := e.init()
	busy, release := make(chan struct{}), make(chan struct{})
	s.epoll.Load().loops[0].post(func() { close(busy); <-release })
	receive(t, busy)
	c, err := net.Dial("tcp", addr) // it waits in the backlog
	require.NoError(t, err)
	defer c.Close()
	shutdown := make(chan error, 1)
	go func() { shutdown <- e.Shutdown(t.Context()) }()
	poll(t, "not stopping", s.stopping.Load)
	close(release)
	write(t, c, "hello")
	expect(t, c, "served")
	require.NoError(t, c.Close())
	require.NoError(t, receive(t, results).Err)
	require.NoError(t, receive(t, shutdown))
}

// TestClosedListenerReportsNoClient keeps a descriptor of a listener, as systemd does. After the
// acceptor has closed its own descriptor, its loop must get no event of a further client.
func TestClosedListenerReportsNoClient(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	l := listen(t)
	kept, err := detach(l) // a duplicate
	require.NoError(t, err)
	defer unix.Close(int(kept))
	addr := l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- e.Serve(l, func(Conn) Session { return &script{} }) }()
	poll(t, "not listening", func() (listens bool) {
		onLoops(t, e, func(l *epollLoop) { listens = len(l.acceptors) > 0 })
		return listens
	})
	onLoops(t, e, func(l *epollLoop) { l.acceptors[0].close(ErrClosed) })
	require.ErrorIs(t, receive(t, served), ErrClosed)
	held, release := make(chan struct{}), make(chan struct{})
	loop := e.shared.epoll.Load().loops[0]
	loop.post(func() { close(held); <-release })
	receive(t, held)
	defer close(release)
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	ready := []unix.PollFd{{Fd: kept, Events: unix.POLLIN}}
	poll(t, "the client is not in the backlog", func() bool {
		n, err := unix.Poll(ready, 0)
		return err == nil && n == 1
	})
	events := make([]unix.EpollEvent, maxEvents)
	for _, event := range events[:sysEpollPoll(loop.ep, events)] {
		require.EqualValues(t, wakeToken, event.Fd, "an event of the closed listener")
	}
}

func TestAliveFindsALoopThatIsStuck(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 2})
	require.NoError(t, e.Alive(t.Context()), "no loops yet")
	serve(t, e, script{})
	poll(t, "no loops", func() bool { return e.init().epoll.Load() != nil })
	require.NoError(t, e.Alive(t.Context()))
	for i, l := range e.init().epoll.Load().loops {
		busy, release := make(chan struct{}), make(chan struct{})
		l.post(func() { close(busy); <-release })
		receive(t, busy)
		// No length of this time-out changes the result, because the loop l answers only later.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := e.Alive(ctx)
		cancel()
		close(release)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if i == 0 { // Alive waits for this loop first
			require.ErrorContains(t, err, "event loop 0")
		}
		require.NoError(t, e.Alive(t.Context()))
	}
	require.NoError(t, e.Close())
	require.NoError(t, e.Alive(t.Context()), "the loops have ended")
}

// More clients wait than one batch accepts, and no other event happens.
func TestMoreClientsThanABatch(t *testing.T) {
	const n = 5*maxAccepts + 1
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1, HelloTimeout: -1})
	addr, _ := serve(t, e, script{})
	dial(t, addr)
	poll(t, "not accepted", func() bool { return e.Stats().Accepted == 1 })
	l := e.shared.epoll.Load().loops[0]
	held, release := make(chan struct{}), make(chan struct{})
	l.post(func() { close(held); <-release })
	receive(t, held)
	for range n {
		dial(t, addr)
	}
	close(release)
	poll(t, "not accepted", func() bool { return e.Stats().Accepted == n+1 })
}

// A backend answered and ended its direction a minute ago. Now a write to this backend fails. From
// this failure on, the client still gets the full time to receive the rest of the answer.
func TestTimeForAnOldAnswer(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, backend, done := relayed(t, e, "")
	write(t, client, "question")
	expect(t, backend, "quest")
	write(t, backend, "answer")
	require.NoError(t, backend.CloseWrite())
	expect(t, client, "answer")
	expectEOF(t, client)
	var past, moved int64
	onlyConn(t, e, func(ec *epollConn) {
		past = ec.movedAt.Load() - int64(time.Minute)
		ec.movedAt.Store(past)
	})
	require.NoError(t, backend.Close())
	write(t, client, "more")
	poll(t, "no write has failed", func() (failed bool) {
		onlyConn(t, e, func(ec *epollConn) { failed, moved = ec.side[backendSide].failed, ec.movedAt.Load() })
		return failed
	})
	require.GreaterOrEqual(t, moved-past, int64(time.Minute))
	require.NoError(t, client.Close())
	require.Equal(t, ByBackend, receive(t, done).By)
}

// An idle connection needs memory for an epollConn, an entry and the Session. If an epollConn is
// larger than 320 bytes, Go's allocator uses 352 bytes for it.
func TestEpollConnIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(epollConn{}), uintptr(320))
}
