package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/supervisor"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
)

// fixture is a Supervisor, and the states and lines that it has reported.
type fixture struct {
	*supervisor.Supervisor
	t    *testing.T
	dir  string
	port int
	ran  chan error

	mu     sync.Mutex
	states []supervisor.State
	lines  []string
}

func newFixture(t *testing.T) *fixture { return newFixtureOf(t, haproxytest.Binary(t)) }

func newFixtureOf(t *testing.T, haproxy string) *fixture {
	f := &fixture{t: t, dir: haproxytest.Dir(t), port: haproxytest.Ports(t, 1)[0], ran: make(chan error, 1)}
	var err error
	f.Supervisor, err = supervisor.New(supervisor.Options{
		Haproxy: haproxy,
		Config:  filepath.Join(f.dir, "haproxy.cfg"), LastGood: filepath.Join(f.dir, "good.cfg"), Pending: filepath.Join(f.dir, "pending"),
		RunDir: filepath.Join(f.dir, "run"), StateFile: filepath.Join(f.dir, "state"),
		MinDelay: time.Millisecond,
		Changed: func(s supervisor.State) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.states = append(f.states, s)
		},
		Log: func(line string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lines = append(f.lines, line)
		},
	})
	require.NoError(t, err)
	return f
}

// run calls Run until the test ends.
func (f *fixture) run() {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ran <- f.Run(ctx)
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600))
}

// config returns a configuration that answers with the word.
func (f *fixture) config(word string) string {
	return fmt.Sprintf(`global
    server-state-file %s/state
defaults
    mode http
    load-server-state-from-file global
    timeout client 5s
    timeout server 20s
    timeout connect 1s
frontend f
    bind 127.0.0.1:%d
    http-request return status 200 content-type text/plain string %s if !{ path /slow }
    default_backend b
backend b
`, f.dir, f.port, word)
}

func (f *fixture) get() (string, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", f.port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func (f *fixture) eventually(what string, ok func(supervisor.State) bool) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return ok(f.State()) }, 30*time.Second, 2*time.Millisecond, what)
}

func (f *fixture) answers(word string) {
	f.t.Helper()
	got, err := f.get()
	require.NoError(f.t, err)
	require.Equal(f.t, word, got)
}

// loaded reloads HAProxy, and waits until the new worker answers with the word. Until the old
// worker has noticed the reload, it accepts connections too.
func (f *fixture) loaded(word string) {
	f.t.Helper()
	require.NoError(f.t, f.reload(f.t.Context()))
	require.Eventually(f.t, func() bool { got, err := f.get(); return err == nil && got == word }, 30*time.Second, 2*time.Millisecond)
}

func (f *fixture) reload(ctx context.Context) error {
	return f.Reload(ctx, deploy.Reloader{Master: f.Master()}.Reload)
}

// refused reloads HAProxy until the error of the reload contains the reason, and returns the error.
// On a busy machine, the Supervisor may read the reason too late.
func (f *fixture) refused(reason string) (err error) {
	f.t.Helper()
	for range 20 {
		err = f.reload(f.t.Context())
		require.Error(f.t, err)
		if strings.Contains(err.Error(), reason) {
			break
		}
	}
	return err
}

func TestRestart(t *testing.T) {
	f := newFixture(t)
	f.write("haproxy.cfg", f.config("one"))
	f.run()
	f.eventually("first start", func(s supervisor.State) bool { return s.Phase == supervisor.Running })
	f.answers("one")
	require.ErrorContains(t, f.Run(t.Context()), "twice")
	first := f.State()
	require.Equal(t, 1, first.Starts)

	f.write("state", "an old state")
	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	f.eventually("restart", func(s supervisor.State) bool { return s.Phase == supervisor.Running && s.Starts == 2 })
	f.answers("one")
	require.NotEqual(t, first.PID, f.State().PID)
	require.NoError(t, f.State().Err)
	state, err := os.ReadFile(filepath.Join(f.dir, "state"))
	require.NoError(t, err)
	require.Equal(t, "1\n", string(state))

	f.write("haproxy.cfg", f.config("two"))
	f.loaded("two")

	// The Supervisor calls Changed after State has the new state, and Log after HAProxy has printed.
	var phases, lines string
	f.eventually("the calls of Changed and Log", func(supervisor.State) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		phases, lines = "", strings.Join(f.lines, "\n")
		for _, s := range f.states {
			phases += s.Phase.String() + " "
		}
		return strings.Count(phases, " ") >= 5 && strings.Contains(lines, "[NOTICE]")
	})
	require.Equal(t, "starting running waiting starting running ", phases)
	f.mu.Lock()
	require.ErrorContains(t, f.states[2].Err, "killed")
	f.mu.Unlock()
	require.NoFileExists(t, filepath.Join(f.dir, "pending"))
}

// Run of a second Supervisor in the same directory fails, and does not disturb the first one.
func TestOneSupervisorInADirectory(t *testing.T) {
	f := newFixture(t)
	f.write("haproxy.cfg", f.config("one"))
	f.run()
	f.eventually("start", func(s supervisor.State) bool { return s.Phase == supervisor.Running })
	o := supervisor.Options{Haproxy: haproxytest.Binary(t), Config: filepath.Join(f.dir, "haproxy.cfg"), RunDir: filepath.Join(f.dir, "run")}
	second, err := supervisor.New(o)
	require.NoError(t, err)
	err = second.Run(t.Context())
	require.ErrorIs(t, err, supervisor.ErrInUse)
	require.ErrorContains(t, err, o.RunDir)
	require.Equal(t, supervisor.Stopped, second.State().Phase)
	f.answers("one")

	require.NoError(t, f.Drain(t.Context()))
	require.NoError(t, <-f.ran)
	third, err := supervisor.New(o)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, third.Run(ended), "the directory is free again")
}

func TestNoConfigurationAtTheStart(t *testing.T) {
	f := newFixture(t)
	started, cancel := context.WithCancel(t.Context())
	cancel()
	f.AwaitFirstStart(started)
	reloaded := make(chan error, 1)
	go func() { reloaded <- f.reload(t.Context()) }() // reload waits for Run
	f.run()
	f.AwaitFirstStart(t.Context())
	require.ErrorIs(t, <-reloaded, os.ErrNotExist)
	f.eventually("wait", func(s supervisor.State) bool { return s.Phase == supervisor.Waiting && s.Next.IsZero() })
	f.write("haproxy.cfg", f.config("one"))
	require.NoError(t, f.Reload(t.Context(), func(context.Context) error {
		return errors.New("HAProxy started before the call of Reload, so a second worker starts")
	}))
	f.answers("one")
}

func TestLastGood(t *testing.T) {
	f := newFixture(t)
	f.write("haproxy.cfg", "nonsense\n")
	f.write("good.cfg", f.config("good"))
	f.run()
	f.eventually("start", func(s supervisor.State) bool { return s.Phase == supervisor.Running })
	require.True(t, f.State().OnLastGood)
	require.ErrorContains(t, f.State().Err, "nonsense")
	f.answers("good")
	require.FileExists(t, filepath.Join(f.dir, "pending"))

	require.ErrorContains(t, f.refused("nonsense"), "nonsense", "the file is still bad")
	require.True(t, f.State().OnLastGood)
	f.answers("good")

	f.write("haproxy.cfg", f.config("fixed"))
	f.loaded("fixed")
	require.False(t, f.State().OnLastGood)
}

func TestReloadReportsAFailedStart(t *testing.T) {
	f := newFixture(t)
	f.write("haproxy.cfg", "nonsense\n")
	f.write("good.cfg", "more nonsense\n")
	f.run()
	err := f.reload(t.Context())
	require.ErrorContains(t, err, "nonsense")
	require.ErrorContains(t, err, "nor with the last good configuration")
}

// HAProxy may get too few file descriptors for the checks of many servers. "haproxy -c" does not
// detect this. The errors of Reload and of the next start contain the reason that HAProxy prints.
func TestTooFewFileDescriptors(t *testing.T) {
	haproxy := filepath.Join(t.TempDir(), "haproxy")
	haproxytest.Script(t, haproxy, fmt.Sprintf("#!/bin/sh\nulimit -n 600 && exec %q \"$@\"\n", haproxytest.Binary(t)))
	f := newFixtureOf(t, haproxy)
	const limit = "global\n    maxconn 100\n"
	f.write("haproxy.cfg", limit+f.config("one"))
	f.run()
	f.eventually("start", func(s supervisor.State) bool { return s.Phase == supervisor.Running })
	large := limit + f.config("two")
	for i := range 1000 {
		large += fmt.Sprintf("    server s%d 127.0.0.1:1 check inter 1h\n", i)
	}
	f.write("haproxy.cfg", large)
	err := f.refused("Cannot raise FD limit to ")
	require.ErrorContains(t, err, "Cannot raise FD limit to ")
	require.Equal(t, 1, strings.Count(err.Error(), "Cannot raise"), err)
	f.answers("one")

	require.NoError(t, syscall.Kill(f.State().PID, syscall.SIGKILL))
	var failed string // the next start resets State.Err
	f.eventually("the failed start", func(s supervisor.State) bool {
		failed = fmt.Sprint(s.Err)
		return s.Phase == supervisor.Waiting && strings.Contains(failed, "HAProxy says: ") && strings.Contains(failed, "Cannot raise FD limit to ")
	})
	require.NotContains(t, failed, "[NOTICE]")
}

// slow sends a request that HAProxy forwards to a server. The server answers when the channel
// "answer" is closed.
func (f *fixture) slow() (answer chan struct{}, result chan error) {
	arrived := make(chan struct{})
	answer = make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-answer
	}))
	f.t.Cleanup(server.Close)
	f.write("haproxy.cfg", f.config("one")+"    server s "+strings.TrimPrefix(server.URL, "http://")+"\n")
	f.run()
	f.eventually("start", func(s supervisor.State) bool { return s.Phase == supervisor.Running })
	result = make(chan error, 1)
	go func() {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/slow", f.port))
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		result <- err
	}()
	<-arrived
	return answer, result
}

func TestDrainWaitsForRequests(t *testing.T) {
	f := newFixture(t)
	answer, result := f.slow()
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(t.Context()) }()
	f.eventually("drain", func(s supervisor.State) bool { return s.Phase == supervisor.Draining })
	require.ErrorIs(t, f.reload(t.Context()), supervisor.ErrStopped)
	close(answer)
	require.NoError(t, <-result)
	require.NoError(t, <-drained)
	require.NoError(t, <-f.ran)
	require.Equal(t, supervisor.Stopped, f.State().Phase)
	require.NoError(t, f.Drain(t.Context()))
	require.ErrorIs(t, f.reload(t.Context()), supervisor.ErrStopped)
	require.NoError(t, f.Run(t.Context()))
}

func TestDrainEndsAtItsDeadline(t *testing.T) {
	f := newFixture(t)
	answer, result := f.slow()
	defer close(answer)
	pid := f.State().PID
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(ctx) }()
	f.eventually("drain", func(s supervisor.State) bool { return s.Phase == supervisor.Draining })
	cancel()
	require.ErrorIs(t, <-drained, context.Canceled)
	require.Error(t, <-result)
	require.NoError(t, <-f.ran)
	// The kernel gives the worker of a dead master to process 1, which may wait for it later.
	f.eventually("the end of the whole group", func(supervisor.State) bool { return syscall.Kill(-pid, 0) == syscall.ESRCH })
}

func TestDrainWhileWaiting(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.eventually("wait", func(s supervisor.State) bool { return s.Phase == supervisor.Waiting })
	require.NoError(t, f.Drain(t.Context()))
	require.NoError(t, <-f.ran)
}

func TestDrainBeforeRun(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.Drain(t.Context()))
	require.NoError(t, f.Run(t.Context()))
}
