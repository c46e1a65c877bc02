//go:build amd64 || arm64

package relay

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/internal/netserve"
)

// TestDescriptorsRunOut uses up the descriptors of the process while clients connect. The Engine
// accepts some of the connections and closes them at once. No client hangs. When descriptors are
// free again, the Engine works as before.
func TestDescriptorsRunOut(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		failures := make(chan error, 1000)
		e.AcceptError = func(err error) { failures <- err }
		addr, done := serve(t, e, script{hello: func(_ *script, data []byte, err error) Step {
			if err != nil {
				return Step{Action: Drop}
			}
			return Step{Action: Answer, Data: data}
		}})
		warm := dial(t, addr)
		write(t, warm, "warm")
		expect(t, warm, "warm")
		warm.Close()
		receive(t, done)
		to, err := net.ResolveTCPAddr("tcp", addr)
		require.NoError(t, err)

		const clients = 40
		fds, restore := scarceDescriptors(t, clients)
		sa := &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
		shed, served := 0, 0
		for _, fd := range fds {
			require.NoError(t, unix.Connect(fd, sa))
		}
		for _, fd := range fds {
			if _, err := unix.Write(fd, []byte("x")); err != nil {
				shed++
				continue
			}
			n, err := unix.Read(fd, make([]byte, 1))
			if n == 1 {
				served++
				continue
			}
			require.NotErrorIs(t, err, unix.EAGAIN, "left hanging")
			shed++
		}
		restore()
		require.Positive(t, shed)
		require.Positive(t, served)
		require.Equal(t, clients, shed+served)
		poll(t, "not counted", func() bool { return e.Stats().Shed == int64(shed) })
		require.ErrorIs(t, receive(t, failures), unix.EMFILE)

		poll(t, "has not recovered", func() bool {
			again := dial(t, addr)
			defer again.Close()
			got := make([]byte, 5)
			again.Write([]byte("again"))
			_, err := io.ReadFull(again, got)
			return err == nil && string(got) == "again"
		})
	})
}

// Without a free descriptor, the Engine keeps each new connection if MakeRoom closes another one.
func TestMakeRoom(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		var mu sync.Mutex
		var open []Conn // in the order of accept
		e.MakeRoom = func(client netip.AddrPort) bool {
			mu.Lock()
			defer mu.Unlock()
			if !client.Addr().IsLoopback() || len(open) == 0 {
				return false
			}
			open[0].Close()
			open = open[1:]
			return true
		}
		l, done := listen(t), make(chan Result, 100)
		to := addrPort(l.Addr())
		served := make(chan error, 1)
		go func() {
			served <- e.Serve(l, func(c Conn) Session {
				mu.Lock()
				defer mu.Unlock()
				open = append(open, c)
				return &script{done: done, hello: func(_ *script, data []byte, err error) Step {
					if err != nil {
						return Step{Action: Drop}
					}
					return Step{Action: Answer, Data: data}
				}}
			})
		}()
		warm := dial(t, to.String())
		write(t, warm, "warm")
		expect(t, warm, "warm")
		warm.Close()
		receive(t, done)
		mu.Lock()
		open = nil
		mu.Unlock()

		const clients = 40
		fds, restore := scarceDescriptors(t, clients)
		for _, fd := range fds {
			require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}))
		}
		last := fds[clients-1]
		_, err := unix.Write(last, []byte("x"))
		require.NoError(t, err)
		n, err := unix.Read(last, make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		restore()
		st := e.Stats()
		require.Zero(t, st.Shed)
		require.EqualValues(t, clients+1, st.Accepted)
		require.NoError(t, e.Close())
		require.ErrorIs(t, receive(t, served), ErrClosed)
	})
}

// scarceDescriptors makes sockets for clients, and then leaves the process only few further
// descriptors, until somebody calls the returned function.
func scarceDescriptors(t *testing.T, clients int) (fds []int, restore func()) {
	t.Helper()
	for range clients {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience.Seconds())}))
		fds = append(fds, fd)
	}
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	restore = sync.OnceFunc(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
	t.Cleanup(restore)
	// The clients' sockets have filled the gaps in the numbers, so few numbers below the limit are
	// free.
	low := unix.Rlimit{Cur: uint64(slices.Max(fds) + 4), Max: old.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	return fds, restore
}

// After the acceptor has used its spare descriptor, a dial can get the number of this descriptor.
// When descriptors are free again, the acceptor must open a new spare descriptor. Otherwise it
// could not close a connection the next time.
func TestSpareDescriptorComesBack(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	addr, _ := serve(t, e, script{addr: backend(t, echo)})
	warm := dial(t, addr)
	write(t, warm, "warm")
	expect(t, warm, "warm")
	full := func() (full bool) {
		onLoops(t, e, func(l *epollLoop) { full = l.acceptors[0].spare != netserve.Spare{} })
		return full
	}
	require.True(t, full())
	onLoops(t, e, func(l *epollLoop) { l.acceptors[0].spare.Close() })
	require.False(t, full())
	c := dial(t, addr)
	write(t, c, "again")
	expect(t, c, "again")
	require.True(t, full())
}

// A dial without a free descriptor fails like any other dial.
func TestNoDescriptorForTheBackend(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	b := backend(t, echo)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	restore := func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	defer restore()
	errs := make(chan error, 1)
	addr, _ := serve(t, e, script{
		addr: b,
		hello: func(s *script, data []byte, err error) Step {
			unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max})
			return Step{Action: Connect, Addr: s.addr}
		},
		dialFailed: func(s *script, err error) Step {
			restore()
			errs <- err
			return Step{Action: Connect, Addr: s.addr}
		},
	})
	c := dial(t, addr)
	write(t, c, "hello")
	require.ErrorIs(t, receive(t, errs), unix.EMFILE)
	expect(t, c, "hello")
}

// An accept error other than a lack of descriptors, such as a lack of memory, makes the acceptor
// pause.
func TestAcceptPauses(t *testing.T) {
	noLeak(t)
	failures := make(chan error, 1)
	e := newEngine(t, &Engine{Loops: 1, AcceptError: func(err error) { failures <- err }})
	addr, _ := serve(t, e, script{addr: backend(t, echo)})
	warm := dial(t, addr)
	write(t, warm, "warm")
	expect(t, warm, "warm")
	onLoops(t, e, func(l *epollLoop) {
		a := l.acceptors[0]
		a.acceptFailed(unix.ENOBUFS)
		require.NotZero(t, a.backoff)
		require.Positive(t, a.pause.index)
	})
	require.ErrorIs(t, receive(t, failures), unix.ENOBUFS)
	c := dial(t, addr)
	write(t, c, "after the pause")
	expect(t, c, "after the pause")
	onLoops(t, e, func(l *epollLoop) { require.Zero(t, l.acceptors[0].backoff) })
	require.Zero(t, e.Stats().Shed)
}
