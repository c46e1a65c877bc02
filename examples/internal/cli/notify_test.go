//go:build linux

package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/examples/internal/systemd"
)

// underSystemd runs a test again as a process for which the test is systemd: with the variables env,
// and with the descriptors of files. It reports false in this process. In the first process, it
// returns the notifications, and stops the process when the test ends.
func underSystemd(t *testing.T, files []*os.File, env ...string) (messages chan string, process *exec.Cmd, child bool) {
	if os.Getenv("HEADGATE_TEST_CHILD") == t.Name() {
		return nil, nil, true
	}
	path := clitest.SocketPath(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	messages = make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run "^$1\$"`, os.Args[0], t.Name())
	cmd.Env = append(os.Environ(), append(env, "HEADGATE_TEST_CHILD="+t.Name(), "NOTIFY_SOCKET="+path)...)
	cmd.ExtraFiles = files
	out := &clitest.Output{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		conn.Close()
		<-done
		if t.Failed() {
			t.Log(out)
		}
	})
	return messages, cmd, false
}

// expectMessage returns the first notification with this prefix.
func expectMessage(t *testing.T, messages chan string, prefix string) string {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case m := <-messages:
			if strings.HasPrefix(m, prefix) {
				return m
			}
		case <-deadline:
			require.FailNow(t, "no notification", prefix)
		}
	}
}

func TestNotifications(t *testing.T) {
	messages, process, child := underSystemd(t, nil, "WATCHDOG_USEC=300000")
	if child {
		Main(func(ctx context.Context, inv Invocation) int {
			working, stop := context.WithCancel(context.WithoutCancel(ctx))
			var ready, stuck atomic.Bool
			ReadAgainOnHangup(working, slog.New(slog.DiscardHandler), func() {
				stuck.Store(ready.Swap(true)) // the first SIGHUP makes it ready, and the second one stuck
			})
			admin := Admin{
				Ready: func() error {
					if !ready.Load() {
						return errors.New("no hosts")
					}
					return nil
				},
				Alive: func(context.Context) error {
					if stuck.Load() {
						return errors.New("a loop is stuck")
					}
					return nil
				},
			}
			context.AfterFunc(ctx, stop)
			if admin.Serve(working) != nil {
				return ExitFailed
			}
			return ExitOK
		})
	}
	require.Equal(t, "STATUS=not ready: no hosts", expectMessage(t, messages, ""))
	require.NoError(t, process.Process.Signal(syscall.SIGHUP))
	require.Equal(t, "READY=1\nSTATUS=ready", expectMessage(t, messages, ""), "no RELOADING=1 before the first READY=1")
	expectMessage(t, messages, "WATCHDOG=1")
	require.NoError(t, process.Process.Signal(syscall.SIGHUP))
	require.Contains(t, expectMessage(t, messages, "RELOADING=1"), "\nMONOTONIC_USEC=")
	require.Equal(t, "READY=1", expectMessage(t, messages, "READY=1"))
	expectMessage(t, messages, "STATUS=no progress: a loop is stuck")
	require.NoError(t, process.Process.Signal(syscall.SIGTERM))
	for m := ""; m != "STOPPING=1"; {
		m = expectMessage(t, messages, "")
		require.NotContains(t, m, "WATCHDOG=1", "a stuck program does not tell the watchdog that it makes progress")
	}
	state, err := process.Process.Wait()
	require.NoError(t, err)
	require.Zero(t, state.ExitCode())
}

func TestSocketsOfSystemd(t *testing.T) {
	if os.Getenv("HEADGATE_TEST_CHILD") != t.Name() {
		api, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer api.Close()
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		defer udp.Close()
		path := clitest.SocketPath(t)
		admin, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		defer admin.Close()
		require.NoError(t, os.Chmod(path, 0o666))
		var files []*os.File
		for _, l := range []interface{ File() (*os.File, error) }{api.(*net.TCPListener), api.(*net.TCPListener), api.(*net.TCPListener), udp, admin} {
			f, err := l.File()
			require.NoError(t, err)
			defer f.Close()
			files = append(files, f)
		}
		messages, process, _ := underSystemd(t, files, "LISTEN_FDS=5", "LISTEN_FDNAMES=api:two:two:quic:admin", "HEADGATE_TEST_PATH="+path)
		require.Equal(t, "READY=1\nSTATUS=ready", expectMessage(t, messages, ""))
		require.NoError(t, process.Process.Signal(syscall.SIGTERM))
		state, err := process.Process.Wait()
		require.NoError(t, err)
		require.Zero(t, state.ExitCode())
		return
	}
	Main(func(ctx context.Context, inv Invocation) int {
		_, err := Listen(ctx, "systemd:quic")
		require.ErrorContains(t, err, "want a stream socket")
		_, err = (&APIFlags{Listen: "systemd:two"}).Open(ctx)
		require.ErrorContains(t, err, "-listen: systemd:two: systemd has passed 2 sockets with this name")
		_, err = (&AdminFlags{addrs: Strings{"systemd:nothing"}}).Listen(ctx, &Admin{})
		require.ErrorContains(t, err, `-admin: systemd: there is no socket "nothing"`)
		require.Error(t, Admin{}.Serve(ctx), "an unused socket")
		f := AdminFlags{addrs: Strings{"systemd:admin"}}
		require.NoError(t, f.Check())
		_, _, err = f.target()
		require.ErrorContains(t, err, "only the process that systemd starts can use systemd:NAME")
		_, err = f.Listen(ctx, &Admin{})
		require.ErrorContains(t, err, "every user may connect to "+os.Getenv("HEADGATE_TEST_PATH"))
		l, err := (&APIFlags{Listen: "systemd:api"}).Open(ctx)
		require.NoError(t, err)
		if t.Failed() {
			return ExitFailed
		}
		if (Admin{}).Serve(ctx, l) != nil {
			return ExitFailed
		}
		return ExitOK
	})
}

func TestHealthz(t *testing.T) {
	failed := errors.New("a loop is stuck")
	for want, admin := range map[int]Admin{
		http.StatusOK:                 {Ready: func() error { return errors.New("not ready") }},
		http.StatusServiceUnavailable: {Alive: func(context.Context) error { return failed }},
	} {
		w := httptest.NewRecorder()
		admin.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/healthz", nil))
		require.Equal(t, want, w.Code)
	}
}

func TestCheckAddress(t *testing.T) {
	require.NoError(t, CheckAddress("systemd:https"))
	require.NoError(t, CheckAddress("127.0.0.1:443"))
	require.ErrorContains(t, CheckAddress("systemd:"), "want systemd:NAME")
	require.Error(t, CheckAddress("443"))
	_, err := Listen(systemd.NewContext(t.Context(), nil), "systemd:https")
	require.ErrorContains(t, err, "systemd has passed no socket")
}
