//go:build linux

package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const self = 4711 // the ID of the process in the tests of parse

func parsed(env map[string]string) *Service {
	return parse(func(name string) string { return env[name] }, self)
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		env      map[string]string
		names    []string
		watchdog time.Duration
		err      string
	}{
		"nothing":                {},
		"two sockets":            {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:https"}, names: []string{"http", "https"}},
		"without names":          {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "1"}, names: []string{"unknown"}},
		"an empty name":          {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "2", "LISTEN_FDNAMES": ":a"}, names: []string{"", "a"}},
		"for another process":    {env: map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:https"}},
		"without a process":      {env: map[string]string{"LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:https"}},
		"without a number":       {env: map[string]string{"LISTEN_PID": "4711"}},
		"no number":              {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "two"}, err: `LISTEN_FDS="two"`},
		"a negative number":      {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "-1"}, err: `LISTEN_FDS="-1"`},
		"a large number":         {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "1025"}, err: `LISTEN_FDS="1025"`},
		"too few names":          {env: map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http"}, err: "has 1 names, and LISTEN_FDS says 2"},
		"a watchdog":             {env: map[string]string{"NOTIFY_SOCKET": "/run/x", "WATCHDOG_PID": "4711", "WATCHDOG_USEC": "30000000"}, watchdog: 30 * time.Second},
		"a watchdog for anybody": {env: map[string]string{"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, watchdog: 30 * time.Second},
		"a watchdog for another": {env: map[string]string{"NOTIFY_SOCKET": "/run/x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "30000000"}},
		"a watchdog, no socket":  {env: map[string]string{"WATCHDOG_USEC": "30000000"}},
		"a faulty watchdog":      {env: map[string]string{"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "9223372036854775807"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := parsed(tt.env)
			var names []string
			for i, socket := range s.sockets {
				names = append(names, socket.name)
				require.Equal(t, 3+i, socket.fd)
			}
			require.Equal(t, tt.names, names)
			require.Equal(t, tt.watchdog, s.Watchdog())
			_, err := s.Listeners("x")
			if tt.err == "" {
				require.ErrorContains(t, err, `there is no socket "x"`)
				require.Equal(t, len(names) > 0, s.Unused() != nil)
				return
			}
			require.ErrorContains(t, err, tt.err)
			require.ErrorContains(t, s.Unused(), tt.err)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2", "http:https", "30000000")
	f.Fuzz(func(t *testing.T, fds, names, usec string) {
		s := parsed(map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": fds, "LISTEN_FDNAMES": names, "NOTIFY_SOCKET": "x", "WATCHDOG_USEC": usec})
		if s.watchdog < 0 || s.watchdog >= 24*time.Hour {
			t.Error(s.watchdog)
		}
		if s.err != nil || fds == "" {
			require.Empty(t, s.sockets)
			return
		}
		n, err := strconv.Atoi(fds)
		require.NoError(t, err)
		require.Len(t, s.sockets, n)
		var got []string
		for _, socket := range s.sockets {
			got = append(got, socket.name)
		}
		if names != "" {
			require.Equal(t, names, strings.Join(got, ":"))
		}
	})
}

// inherited returns a Service with the descriptors of these files.
func inherited(t *testing.T, files map[string]interface{ File() (*os.File, error) }) *Service {
	t.Helper()
	s := &Service{}
	for name, f := range files {
		file, err := f.File()
		require.NoError(t, err)
		fd, err := syscall.Dup(int(file.Fd())) // the Service owns it
		require.NoError(t, err)
		require.NoError(t, syscall.SetNonblock(fd, true))
		file.Close()
		s.sockets = append(s.sockets, &socket{name: strings.TrimRight(name, "0123456789"), fd: fd})
	}
	t.Cleanup(func() {
		for _, socket := range s.sockets {
			if !socket.used {
				syscall.Close(socket.fd)
			}
		}
	})
	return s
}

type fileOf struct{ name string }

func (f fileOf) File() (*os.File, error) { return os.Open(f.name) }

// notListening is a TCP socket without listen(2).
type notListening struct{}

func (notListening) File() (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	return os.NewFile(uintptr(fd), "socket"), err
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSockets(t *testing.T) {
	tcp, other := listenTCP(t), listenTCP(t)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	defer unix.Close()
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path + "gram", Net: "unixgram"})
	require.NoError(t, err)
	defer datagrams.Close()
	s := inherited(t, map[string]interface{ File() (*os.File, error) }{
		"web1": tcp, "web2": other, "quic": udp, "admin": unix, "file": fileOf{"/dev/null"}, "raw": notListening{}, "gram": datagrams,
	})

	web, err := s.Listeners("web")
	require.NoError(t, err)
	var addrs []string
	for _, l := range web {
		addrs = append(addrs, l.Addr().String())
	}
	require.ElementsMatch(t, []string{tcp.Addr().String(), other.Addr().String()}, addrs)
	_, err = s.Listeners("web")
	require.ErrorContains(t, err, `socket "web": another flag uses it`)

	admin, err := s.Listeners("admin")
	require.NoError(t, err)
	require.Equal(t, path, admin[0].Addr().String())
	admin[0].Close()
	require.FileExists(t, path, "the file belongs to systemd")

	_, err = s.Listeners("nothing")
	require.ErrorContains(t, err, `there is no socket "nothing"`)
	require.ErrorContains(t, err, `"quic"`)
	require.ErrorContains(t, s.Unused(), `"quic"`)
	_, err = s.Listeners("raw")
	require.ErrorContains(t, err, "it does not listen")
	_, err = s.Listeners("file")
	require.ErrorContains(t, err, "it is no socket")
	_, err = s.UDPConns("gram")
	require.ErrorContains(t, err, "want a UDP socket, and it is a socket of unixgram")

	quic, err := s.UDPConns("quic")
	require.NoError(t, err)
	require.Equal(t, udp.LocalAddr(), quic[0].LocalAddr())
	quic[0].Close()
	require.NoError(t, s.Unused())

	// The process closes its descriptor of the socket, and the socket still listens. A client waits
	// for the next process.
	for _, l := range web {
		l.Close()
	}
	c, err := net.Dial("tcp", tcp.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	next, err := tcp.Accept()
	require.NoError(t, err)
	next.Close()
}

func TestWrongType(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer udp.Close()
	_, err = inherited(t, map[string]interface{ File() (*os.File, error) }{"x": udp}).Listeners("x")
	require.ErrorContains(t, err, "want a stream socket")
	_, err = inherited(t, map[string]interface{ File() (*os.File, error) }{"x": listenTCP(t)}).UDPConns("x")
	require.ErrorContains(t, err, "want a UDP socket")
	_, err = (*Service)(nil).Listeners("x")
	require.ErrorContains(t, err, "systemd has passed no socket")
	require.NoError(t, (*Service)(nil).Unused())
}

// Two processes may share a socket. O_NONBLOCK belongs to the socket, and not to the descriptor, so
// no step may clear it: accept(2) of the other process would block.
func TestListenersKeepTheSocketNonBlocking(t *testing.T) {
	l := listenTCP(t)
	s := inherited(t, map[string]interface{ File() (*os.File, error) }{"x": l})
	raw, err := l.SyscallConn()
	require.NoError(t, err)
	list, err := s.Listeners("x")
	require.NoError(t, err)
	defer list[0].Close()
	require.NoError(t, raw.Control(func(fd uintptr) {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
		require.Zero(t, errno)
		require.NotZero(t, flags&syscall.O_NONBLOCK)
	}))
}

// manager is the socket of systemd.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "systemd") // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, path: filepath.Join(dir, "notify")}
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { m.conn.Close() })
	return m
}

func (m *manager) next() string {
	m.t.Helper()
	require.NoError(m.t, m.conn.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	require.NoError(m.t, err)
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	m := newManager(t)
	s := parsed(map[string]string{"NOTIFY_SOCKET": m.path})
	s.failed = func(err error) { t.Error(err) }
	require.True(t, s.Notified())
	reloaded := 0
	s.Reload(func() { reloaded++ }) // too early: it sends nothing
	s.Ready("serving\nX=1")
	require.Equal(t, "READY=1\nSTATUS=serving X=1", m.next())
	s.Reload(func() {
		reloaded++
		begin, rest, _ := strings.Cut(m.next(), "\n")
		require.Equal(t, "RELOADING=1", begin)
		require.Regexp(t, regexp.MustCompile(`^MONOTONIC_USEC=[1-9]\d+$`), rest)
	})
	require.Equal(t, "READY=1", m.next())
	require.Equal(t, 2, reloaded)
	s.Status("busy")
	s.Alive()
	s.Stopping()
	require.Equal(t, []string{"STATUS=busy", "WATCHDOG=1", "STOPPING=1"}, []string{m.next(), m.next(), m.next()})
}

func TestNotifyAbstractSocket(t *testing.T) {
	name := "@headgate-test-" + strconv.Itoa(os.Getpid())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	parsed(map[string]string{"NOTIFY_SOCKET": name}).Stopping()
	require.Equal(t, "STOPPING=1", (&manager{t: t, conn: conn}).next())
}

func TestNotifyFails(t *testing.T) {
	s := parsed(map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone")})
	var errs []string
	s.failed = func(err error) { errs = append(errs, err.Error()) }
	s.Ready("")
	s.Alive()
	require.Len(t, errs, 1, "one line for one reason")
	require.Contains(t, errs[0], "systemd: NOTIFY_SOCKET: ")
}

func TestWithoutSystemd(t *testing.T) {
	for _, s := range []*Service{nil, {}} {
		reloaded := false
		s.Ready("")
		s.Alive()
		s.Reload(func() { reloaded = true })
		require.True(t, reloaded)
		require.Zero(t, s.Watchdog())
	}
	require.Nil(t, FromContext(t.Context()))
	s := &Service{}
	require.Same(t, s, FromContext(NewContext(context.Background(), s)))
}

// TestTake runs this test as a process that systemd starts, and a child of it.
func TestTake(t *testing.T) {
	if os.Getenv("TEST_OF_TAKE") != "" {
		before, errBefore := unix.FcntlInt(firstFD, unix.F_GETFD, 0)
		s := Take(nil)
		after, errAfter := unix.FcntlInt(firstFD, unix.F_GETFD, 0)
		list, err := s.Listeners("web")
		if err := errors.Join(errBefore, errAfter, err, s.Unused()); err != nil {
			fmt.Printf("error: %v\n", err)
			os.Exit(1)
		}
		env := slices.DeleteFunc(os.Environ(), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return !slices.Contains(variables, name)
		})
		fmt.Printf("address %s environment %s watchdog %s close-on-exec %d, then %d\n", list[0].Addr(), strings.Join(env, " "), s.Watchdog(), before&unix.FD_CLOEXEC, after&unix.FD_CLOEXEC)
		os.Exit(0)
	}
	l := listenTCP(t)
	file, err := l.File()
	require.NoError(t, err)
	defer file.Close()
	cmd := command(t, `exec env LISTEN_PID=$$ "$0" -test.run '^TestTake$'`, os.Args[0])
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(os.Environ(), "TEST_OF_TAKE=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web", "NOTIFY_SOCKET=/run/none", "WATCHDOG_USEC=5000000")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "address "+l.Addr().String()+" environment  watchdog 5s close-on-exec 0, then 1\n")
}

func command(t *testing.T, script string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, "sh", append([]string{"-c", script}, args...)...)
}
