//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// routerVariable marks a process of this test binary that is a router.
const routerVariable = "HEADGATE_TEST_ROUTER"

// beRouter runs snirouter with the arguments after "--" if this process is a router.
func beRouter() {
	if os.Getenv(routerVariable) != "" {
		for i, arg := range os.Args {
			if arg == "--" {
				os.Args = append([]string{program}, os.Args[i+1:]...)
				cli.Main(run)
			}
		}
	}
}

// activated is a router in a process of its own. The test holds its socket, as systemd does.
type activated struct {
	t        *testing.T
	cmd      *exec.Cmd
	out      *clitest.Output
	messages chan string
	exited   chan struct{} // closed when the process has ended
}

func activate(t *testing.T, test string, socket *os.File, args ...string) *activated {
	t.Helper()
	a := &activated{t: t, out: &clitest.Output{}, messages: make(chan string, 1000), exited: make(chan struct{})}
	path := clitest.SocketPath(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	var reading sync.WaitGroup
	reading.Go(func() {
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			a.messages <- string(b[:n])
		}
	})
	a.cmd = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "-test.run", "^" + test + "$", "--"}, args...)...)
	a.cmd.Env = append(os.Environ(), routerVariable+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=30000000")
	a.cmd.ExtraFiles = []*os.File{socket}
	a.cmd.Stdout, a.cmd.Stderr = a.out, a.out
	require.NoError(t, a.cmd.Start())
	go func() { _ = a.cmd.Wait(); close(a.exited) }()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.exited
		conn.Close()
		reading.Wait()
		if t.Failed() {
			t.Log(a.out)
		}
	})
	return a
}

// told waits for a notification that begins with a text.
func (a *activated) told(prefix string) {
	a.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case m := <-a.messages:
			if strings.HasPrefix(m, prefix) {
				return
			}
		case <-a.exited:
			require.FailNow(a.t, "the router has ended", "%s before %s", a.out, prefix)
		case <-deadline:
			require.FailNow(a.t, "no notification", prefix)
		}
	}
}

// waitExit waits until the router has exited with code 0.
func (a *activated) waitExit() {
	a.t.Helper()
	select {
	case <-a.exited:
		require.Zero(a.t, a.cmd.ProcessState.ExitCode(), a.out)
	case <-time.After(patience):
		require.FailNow(a.t, "the router does not end", a.out)
	}
}

// echoBackend is a backend that sends back all bytes. It returns its address.
func echoBackend(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// request is the head of a request. The router relays it unchanged, so the backend sends it back.
const request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

// dialThrough connects through the router to the backend.
func dialThrough(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if err := roundTrip(c, request); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func roundTrip(c net.Conn, text string) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("after %q: %w", got[:n], err)
	}
	if string(got) != text {
		return fmt.Errorf("got %q, want %q", got, text)
	}
	return nil
}

// TestRestartRefusesNoConnection restarts the router twice while clients connect without a pause:
// first with an overlap, then with a gap in which no router runs. The test holds the socket, as
// systemd does.
func TestRestartRefusesNoConnection(t *testing.T) {
	beRouter()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	addr := l.Addr().String()
	l.Close() // the file is another descriptor of the socket
	defer socket.Close()
	start := func() *activated {
		return activate(t, t.Name(), socket, "-tls", "systemd:web", "-http", "systemd:web", "-default", echoBackend(t), "-allow", "127.0.0.0/8",
			"-hello-timeout", "1h", "-lookup-timeout", "1m", "-dial-timeout", "1m", "-drain-timeout", "1h", "-log-sample", "0")
	}

	ctx, stop := context.WithCancel(t.Context())
	var served atomic.Int64
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				c, err := dialThrough(addr)
				if err != nil {
					t.Errorf("a client: %v", err)
					return
				}
				c.Close()
				served.Add(1)
			}
		})
	}
	more := func(why string) {
		t.Helper()
		want := served.Load() + 50
		deadline := time.Now().Add(patience)
		for pace := time.Tick(time.Millisecond); served.Load() < want; <-pace {
			require.False(t, t.Failed(), why)
			require.True(t, time.Now().Before(deadline), why)
		}
	}

	first := start()
	first.told("READY=1")
	more("the first router serves")
	open, err := dialThrough(addr)
	require.NoError(t, err)
	defer open.Close()

	// With an overlap: the second router serves before the first one stops.
	second := start()
	second.told("READY=1")
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGTERM))
	first.told("STOPPING=1")
	more("the second router serves")
	// Either router may have accepted the open connection. Both keep it.
	require.NoError(t, roundTrip(open, "still open"))
	held, err := dialThrough(addr)
	require.NoError(t, err)
	defer held.Close()
	require.NoError(t, open.Close())
	first.waitExit()

	// With a gap: the second router still has an open connection, and drains. No other router
	// accepts, so the clients wait.
	require.NoError(t, second.cmd.Process.Signal(syscall.SIGTERM))
	second.told("STOPPING=1")
	require.NoError(t, roundTrip(held, "held during the drain"))
	require.NoError(t, held.Close())
	second.waitExit()
	third := start()
	third.told("READY=1")
	more("the third router serves")

	stop()
	clients.Wait()
	require.NoError(t, third.cmd.Process.Signal(syscall.SIGTERM))
	third.waitExit()
}

// TestSocketActivate starts the router with the tool of systemd: it starts the router when the first
// client connects.
func TestSocketActivate(t *testing.T) {
	beRouter()
	tool, err := exec.LookPath("systemd-socket-activate")
	require.NoError(t, err, "make test-tools installs it")
	backend := echoBackend(t)
	// Another process may take the port between the two calls of listen(2). Then choose another one.
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := l.Addr().String()
		l.Close()
		out := &clitest.Output{}
		cmd := exec.Command(tool, "-l", addr, "--fdname=web", "-E", routerVariable+"=1", os.Args[0], "-test.run", "^"+t.Name()+"$", "--",
			"-http", "systemd:web", "-default", backend, "-allow", "127.0.0.0/8", "-lookup-timeout", "1m", "-dial-timeout", "1m")
		cmd.Stdout, cmd.Stderr = out, out
		require.NoError(t, cmd.Start())
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }()
		defer func() { _ = cmd.Process.Kill(); <-exited }()
		deadline := time.Now().Add(patience)
		for pace := time.Tick(5 * time.Millisecond); !strings.Contains(out.String(), "Listening on "); <-pace {
			select {
			case <-exited:
			default:
				require.True(t, time.Now().Before(deadline), out)
				continue
			}
			break
		}
		if strings.Contains(out.String(), "Address already in use") {
			continue
		}
		c, err := dialThrough(addr)
		require.NoError(t, err, out)
		require.NoError(t, c.Close())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		select {
		case <-exited:
		case <-time.After(patience):
			require.FailNow(t, "the router does not end", out)
		}
		require.Zero(t, cmd.ProcessState.ExitCode(), out)
		require.Contains(t, out.String(), "msg=listening addr="+addr)
		return
	}
	require.FailNow(t, "no free port")
}

func TestSocketErrors(t *testing.T) {
	for arg, want := range map[string]string{
		"-tls":   `there is no socket "web"; systemd has passed no socket`,
		"-http":  `there is no socket "web"; systemd has passed no socket`,
		"-quic":  `there is no socket "web"; systemd has passed no socket`,
		"-admin": `-admin: systemd: there is no socket "web"; systemd has passed no socket`,
	} {
		var stderr bytes.Buffer
		code := run(t.Context(), cli.Invocation{Args: []string{"-default", "10.0.0.1:80", "-tls", "127.0.0.1:0", arg, "systemd:web"}, Stderr: &stderr})
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, stderr.String(), want)
	}
	var stderr bytes.Buffer
	require.Equal(t, cli.ExitUsage, run(t.Context(), cli.Invocation{Args: []string{"-default", "10.0.0.1:80", "-tls", "systemd:"}, Stderr: &stderr}))
	require.Contains(t, stderr.String(), `-tls: "systemd:": want systemd:NAME`)
}

// TestUnits checks that the router accepts the command in its systemd unit, and that the unit fits
// its sockets and its drain.
func TestUnits(t *testing.T) {
	clitest.CheckUnits(t)
	unit := clitest.ReadUnit(t, "headgate-snirouter@.service")
	command := unit.Command(t)
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "%i", "1")
	}
	fs := cli.NewFlagSet(program)
	s := register(fs)
	stderr := &clitest.Output{}
	code, done := cli.Invocation{Args: command[1:], Stderr: stderr}.Parse(fs)
	require.False(t, done, "%d: %s", code, stderr)
	require.NoError(t, s.check())
	require.Less(t, s.drainDelay+s.drainTimeout, unit.Duration(t, "TimeoutStopSec"))
	var names []string
	for _, name := range strings.Fields(unit.Get(t, "Sockets")) {
		socket := clitest.ReadUnit(t, name)
		names = append(names, "systemd:"+socket.Get(t, "FileDescriptorName"))
		require.Equal(t, "headgate-snirouter@1.service", socket.Get(t, "Service"))
	}
	require.ElementsMatch(t, names, append(append([]string{}, s.tls...), s.http...))
	require.Equal(t, "true", unit.Get(t, "NonBlocking"), "systemd would make the sockets of the other instance blocking")
	require.Equal(t, "notify", unit.Get(t, "Type"))
	require.Equal(t, "/var/cache/"+unit.Get(t, "CacheDirectory"), filepath.Dir(s.cacheFile))
	require.Equal(t, "unix:/run/"+strings.ReplaceAll(unit.Get(t, "RuntimeDirectory"), "%i", "1")+"/admin.sock", command[len(command)-1])
	require.Contains(t, unit.Get(t, "RestrictAddressFamilies"), "AF_NETLINK", "the router lists the addresses of the machine")
}
