//go:build amd64 || arm64

package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func option(t *testing.T, fd int32, level, name int) int {
	v, err := unix.GetsockoptInt(int(fd), level, name)
	require.NoError(t, err)
	return v
}

func TestKeepAlive(t *testing.T) {
	for _, keepAlive := range []time.Duration{100 * time.Millisecond, -1} {
		noLeak(t)
		e := newEngine(t, &Engine{Loops: 1, KeepAlive: keepAlive, IdleTimeout: time.Hour})
		addr, _ := serve(t, e, script{addr: backend(t, echo)})
		c := dial(t, addr)
		write(t, c, "x")
		expect(t, c, "x")
		get := func(level, name int) (client, backend int) {
			onlyConn(t, e, func(ec *epollConn) {
				client = option(t, ec.side[clientSide].fd, level, name)
				backend = option(t, ec.side[backendSide].fd, level, name)
			})
			return client, backend
		}
		if keepAlive < 0 {
			client, backend := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			require.Zero(t, client+backend)
			continue
		}
		poll(t, "no keep-alive", func() bool {
			client, backend := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			return client == 1 && backend == 1
		})
		client, backend := get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		require.Equal(t, []int{1, 1}, []int{client, backend})
		// The option does not end the connection.
		write(t, c, "y")
		expect(t, c, "y")
	}
}

func TestNoDelayBeforeTheSecondWrite(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		t.Run(fmt.Sprint("mptcp=", mptcp), func(t *testing.T) {
			noLeak(t)
			e := newEngine(t, &Engine{Loops: 1})
			b := backend(t, echo)
			lc := net.ListenConfig{}
			lc.SetMultipathTCP(mptcp)
			l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan Result, 1)
			go e.Serve(l, func(c Conn) Session { return &script{addr: b, done: done} })
			// The kernel may have made the first connection before Serve set the option, so its
			// socket does not inherit the option.
			first := dial(t, l.Addr().String())
			write(t, first, "x")
			expect(t, first, "x")
			first.Close()
			receive(t, done)
			c := dial(t, l.Addr().String())
			get := func() (client, backend int) {
				onlyConn(t, e, func(ec *epollConn) {
					client = option(t, ec.side[clientSide].fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
					backend = option(t, ec.side[backendSide].fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
				})
				return client, backend
			}
			write(t, c, "x")
			expect(t, c, "x")
			client, backend := get()
			require.Equal(t, []int{1, 0}, []int{client, backend}, "after one write")
			write(t, c, "y")
			expect(t, c, "y")
			client, backend = get()
			require.Equal(t, []int{1, 1}, []int{client, backend}, "after two")
		})
	}
}

// TestDialTimeoutOfTheKernel connects to a listener with a full backlog. The kernel drops the SYN.
func TestDialTimeoutOfTheKernel(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	full := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	for range 2 {
		filler, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		defer unix.Close(filler)
		unix.Connect(filler, sa)
	}
	forEach(t, func(t *testing.T, e *Engine) {
		e.DialTimeout = 100 * time.Millisecond
		good := backend(t, echo)
		errs := make(chan error, 1)
		addr, _ := serve(t, e, script{addr: full, dialFailed: func(_ *script, err error) Step {
			errs <- err
			return Step{Action: Connect, Addr: good, DialTimeout: patience}
		}})
		c := dial(t, addr)
		write(t, c, "hello")
		write(t, c, ", more")
		expect(t, c, "hello, more")
		require.ErrorIs(t, receive(t, errs), os.ErrDeadlineExceeded)
	})
}

func TestSockaddr(t *testing.T) {
	for _, s := range []string{"127.0.0.1:1", "255.255.255.255:65535", "[::1]:443", "[2001:db8::5]:8080"} {
		var sa unix.RawSockaddrInet6
		addr := netip.MustParseAddrPort(s)
		putSockaddr(&sa, addr)
		require.Equal(t, addr, getSockaddr(&sa))
	}
	var sa unix.RawSockaddrInet6
	putSockaddr(&sa, netip.MustParseAddrPort("[::ffff:10.0.0.1]:80"))
	require.Equal(t, netip.MustParseAddrPort("10.0.0.1:80"), getSockaddr(&sa))
	putSockaddr(&sa, netip.MustParseAddrPort("[fe80::1%lo]:80"))
	require.NotZero(t, sa.Scope_id)
	sa.Family = unix.AF_UNIX
	require.False(t, getSockaddr(&sa).IsValid())
}

func TestIPv6(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		l, err := net.Listen("tcp", "[::1]:0")
		require.NoError(t, err)
		serveEach(t, l.(*net.TCPListener), echo)
		both, err := net.Listen("tcp", ":0") // IPv4 and IPv6 in one socket
		require.NoError(t, err)
		remotes := make(chan netip.AddrPort, 2)
		done := make(chan Result, 2)
		go e.Serve(both, func(c Conn) Session {
			remotes <- c.RemoteAddr()
			return &script{addr: l.Addr().(*net.TCPAddr).AddrPort(), done: done}
		})
		port := both.Addr().(*net.TCPAddr).Port
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			c := dial(t, fmt.Sprintf("%s:%d", host, port))
			write(t, c, "hello")
			expect(t, c, "hello")
			require.Equal(t, c.LocalAddr().(*net.TCPAddr).AddrPort(), receive(t, remotes))
			c.Close()
			require.NoError(t, receive(t, done).Err)
		}
	})
}

// The backend sends its answer and FIN before the loop reads. The client then gets both in one
// segment.
func TestAnswerAndFINInOneSegment(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{Loops: 1})
	client, a := tcpPair(t)
	b, backend := tcpPair(t)
	write(t, backend, "answer")
	require.NoError(t, backend.CloseWrite())
	poll(t, "the answer does not arrive", func() bool { return acknowledged(t, backend) })
	before := segmentsIn(t, client)
	done := make(chan Result, 1)
	e.Relay(a, b, nil, func(r Result) { done <- r })
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "answer", string(got))
	require.Equal(t, 1, segmentsIn(t, client)-before)
	require.NoError(t, client.Close())
	r := receive(t, done)
	require.Equal(t, Result{By: ByBackend, Phase: PhaseRelay, ToClient: 6, Total: r.Total}, r)
}

// segmentsIn returns the number of segments that the socket of c has received.
func segmentsIn(t *testing.T, c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	var info *unix.TCPInfo
	require.NoError(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	require.NoError(t, err)
	return int(info.Segs_in)
}
