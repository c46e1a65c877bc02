package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// slowSite is a site whose server answers a request only when release is closed.
type slowSite struct {
	*site
	workers Workers
	release chan struct{}
	config  func(extra int) *haproxycfg.Config // another number gives another configuration
}

func startSlowSite(t *testing.T) *slowSite {
	t.Helper()
	release := make(chan struct{})
	begun := make(chan struct{}, 100)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "slow")
	}))
	t.Cleanup(h.Close)
	server := haproxycfg.Server{Addr: h.Listener.Addr().(*net.TCPAddr).AddrPort()}
	x := &slowSite{release: release}
	x.site = startSite(t, func(s *site) *haproxycfg.Config {
		x.config = func(extra int) *haproxycfg.Config {
			c := s.config(server)
			c.Global.HardStopAfter = 0
			c.Global.MaxReloads = 1000 + extra
			return c
		}
		return x.config(0)
	})
	x.workers = Workers{Master: x.master(), Timeout: 30 * time.Second}
	return x
}

// hold sends a request. The server answers the request when the channel x.release is closed. The
// returned channel receives the status of the answer, or 0 if the connection ended without an
// answer.
func (x *slowSite) hold(t *testing.T) <-chan int {
	t.Helper()
	before := x.server(t, x.config(0).Backends[0].Servers[0].Name()).Sessions
	status := make(chan int, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/slow", x.port))
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	x.eventually(t, x.config(0).Backends[0].Servers[0].Name(), func(s runtimeapi.Stat) bool { return s.Sessions > before })
	return status
}

func (x *slowSite) reload(t *testing.T, n int) {
	t.Helper()
	x.reloads(t, func() {
		_, err := x.conf.Apply(t.Context(), x.config(n))
		require.NoError(t, err)
	})
}

func (x *slowSite) old(t *testing.T) []int {
	t.Helper()
	old, err := x.workers.Old(t.Context())
	require.NoError(t, err)
	return old
}

// TestEndOldestCutsOnlyTheOldestWorker: three workers have requests. The end of the oldest one cuts
// its requests and no others, and its number of streams is right.
func TestEndOldestCutsOnlyTheOldestWorker(t *testing.T) {
	t.Parallel()
	x := startSlowSite(t)
	idle, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", x.port)) // a connection without a request is no stream
	require.NoError(t, err)
	defer idle.Close()
	cut := []<-chan int{x.hold(t), x.hold(t)}
	x.reload(t, 1)
	first := x.old(t)
	require.Len(t, first, 1)
	kept := []<-chan int{x.hold(t)}
	x.reload(t, 2)
	kept = append(kept, x.hold(t))
	old := x.old(t)
	require.Len(t, old, 2)
	require.Equal(t, first[0], old[0], "the oldest worker comes first")

	ended, err := x.workers.EndOldest(t.Context())
	require.NoError(t, err)
	require.Equal(t, EndedWorker{PID: old[0], Streams: 2}, ended)
	require.Equal(t, old[1:], x.old(t))
	for _, status := range cut {
		require.Zero(t, <-status)
	}
	close(x.release)
	for _, status := range kept {
		require.Equal(t, http.StatusOK, <-status)
	}
	require.Eventually(t, func() bool { return len(x.old(t)) == 0 }, 30*time.Second, 10*time.Millisecond)
	_, err = x.workers.EndOldest(t.Context())
	require.ErrorContains(t, err, "there is no old worker")
	who, err := x.get()
	require.NoError(t, err)
	require.Equal(t, "slow", who)
}

// TestStatsOfAllWorkers: an old worker still has a request, and the worker that serves new
// connections has none.
func TestStatsOfAllWorkers(t *testing.T) {
	x := startSlowSite(t)
	status := x.hold(t)
	x.reload(t, 1)
	require.Len(t, x.old(t), 1)
	stats, err := x.workers.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, stats, 2)
	sessions := func(rows []runtimeapi.Stat) (n uint64) {
		for _, row := range rows {
			if row.Addr != "" {
				n += row.Sessions
			}
		}
		return n
	}
	require.EqualValues(t, 0, sessions(stats[0]))
	require.EqualValues(t, 1, sessions(stats[1]))
	close(x.release)
	require.Equal(t, http.StatusOK, <-status)
}

// TestEndOldestWithAStuckWorker stops the oldest worker by a signal, as a debugger does. It does
// not answer, so EndOldest ends the next worker.
func TestEndOldestWithAStuckWorker(t *testing.T) {
	t.Parallel()
	x := startSlowSite(t)
	stuck := x.hold(t)
	x.reload(t, 1)
	cut := x.hold(t)
	x.reload(t, 2)
	old := x.old(t)
	require.Len(t, old, 2)
	suspend(t, old[0])
	x.workers.Timeout = 12 * time.Second // EndOldest spends a third of it on counting the streams
	ended, err := x.workers.EndOldest(t.Context())
	require.NoError(t, err)
	require.Equal(t, EndedWorker{PID: old[1], Streams: 1}, ended)
	require.Zero(t, <-cut)
	x.workers.Timeout = time.Second
	_, err = x.workers.EndOldest(t.Context())
	require.ErrorContains(t, err, fmt.Sprintf("old worker %d does not end", old[0]))
	x.reload(t, 3)
	require.NoError(t, syscall.Kill(old[0], syscall.SIGCONT))
	close(x.release)
	<-stuck // the commands that the worker reads now may end it
}

// suspend stops a process by a signal. On Linux, it waits until all threads of the process have
// stopped: on a busy machine, some threads continue for a while after the signal.
func suspend(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		require.NoError(t, err)
		for _, file := range threads {
			stat, err := os.ReadFile(file)
			_, state, _ := strings.Cut(string(stat), ") ")
			if err != nil || !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

// TestRefusedReloadLeavesTheServingWorker: after a refused reload, the master of HAProxy 2.6 lists
// the serving worker as an old one. EndOldest must not end it.
func TestRefusedReloadLeavesTheServingWorker(t *testing.T) {
	t.Parallel()
	x := startSlowSite(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	bad := x.config(1)
	bad.Frontends[0].Binds = append(bad.Frontends[0].Binds, haproxycfg.Bind{Address: taken.Addr().String()})
	x.conf.Reload = Reloader{Master: x.workers.Master, Timeout: time.Minute}.Reload
	reload := x.conf.Reload
	refused := 0
	x.conf.Reload = func(ctx context.Context) error {
		err := reload(ctx)
		if err != nil {
			refused++
			require.Empty(t, x.old(t), "the serving worker is not an old one")
			_, ended := x.workers.EndOldest(ctx)
			require.ErrorContains(t, ended, "there is no old worker")
		}
		return err
	}
	_, err = x.conf.Apply(t.Context(), bad)
	require.Error(t, err)
	require.Equal(t, 1, refused)
	who, err := x.get()
	require.NoError(t, err)
	require.Equal(t, "slow", who)
}

// TestEndOldestReportsWhatHAProxyAnswers uses a master that refuses the command.
func TestEndOldestReportsWhatHAProxyAnswers(t *testing.T) {
	list := strings.ReplaceAll(proc26, "-1+deb12u4", "")
	w := Workers{Timeout: time.Second, Master: fakeMaster(t, func(command string) string {
		if command == "show proc" {
			return list
		}
		return "Permission denied\n"
	})}
	old, err := w.Old(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{11523, 11530}, old)
	// On a busy machine, the answer may come after the time for one command, which is a third of Timeout.
	require.Eventually(t, func() bool {
		_, err = w.EndOldest(t.Context())
		return strings.Contains(fmt.Sprint(err), "@!11523: HAProxy answers")
	}, time.Minute, time.Millisecond)
	require.ErrorContains(t, err, "old worker 11523 does not end: runtimeapi: end of worker @!11523: HAProxy answers \"Permission denied\"")
	require.ErrorContains(t, err, "old worker 11530")

	w.Master.Path = filepath.Join(t.TempDir(), "nobody")
	_, err = w.EndOldest(t.Context())
	require.ErrorContains(t, err, "deploy: old workers: runtimeapi: socket: dial unix")
}

// TestRedirect sends requests through an HAProxy whose configuration stays the same. After
// Redirect, a server that is gone gets no requests. The test can also undo the redirection.
func TestRedirect(t *testing.T) {
	t.Parallel()
	gone, stays := origin(t, "gone", 0), origin(t, "stays", 0)
	s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(gone, stays) })
	reloader := Reloader{Master: s.master()}
	redirect := func(servers ...haproxycfg.Server) {
		t.Helper()
		files, err := s.config(servers...).Render(s.dir)
		require.NoError(t, err)
		require.NoError(t, reloader.Redirect(t.Context(), files[len(files)-1].Data))
	}
	answers := func() map[string]bool {
		t.Helper()
		all := map[string]bool{}
		for range 8 {
			who, err := s.get()
			require.NoError(t, err)
			all[who] = true
		}
		return all
	}
	both, one := map[string]bool{"gone": true, "stays": true}, map[string]bool{"stays": true}
	require.Equal(t, both, answers())
	redirect(stays)
	require.Equal(t, one, answers())
	redirect(gone, stays)
	require.Equal(t, both, answers())

	// After a reload with the old configuration, the servers have their old addresses, even if the
	// saved state contains the address of a redirected server.
	redirect(stays)
	reloader.StateFile, reloader.Config = s.stateFile(), filepath.Join(s.conf.Path, configFile)
	s.reloads(t, func() { require.NoError(t, reloader.Reload(t.Context())) })
	require.Equal(t, both, answers())

	reloader.Master.Path = filepath.Join(s.dir, "nobody")
	require.ErrorContains(t, reloader.Redirect(t.Context(), nil), "deploy: redirect: ")
}

// TestKilledOldWorker kills an old worker, as the kernel does when memory runs out. The old worker
// loses its streams. The other workers keep their streams, and the next reload works.
func TestKilledOldWorker(t *testing.T) {
	t.Parallel()
	x := startSlowSite(t)
	lost := x.hold(t)
	x.reload(t, 1)
	kept := []<-chan int{x.hold(t)}
	x.reload(t, 2)
	old := x.old(t)
	require.Len(t, old, 2)
	require.NoError(t, syscall.Kill(old[0], syscall.SIGKILL))
	require.Zero(t, <-lost)
	require.Eventually(t, func() bool { return len(x.old(t)) == 1 }, 30*time.Second, 10*time.Millisecond)
	kept = append(kept, x.hold(t))
	x.reload(t, 3)
	require.Len(t, x.old(t), 2)
	close(x.release)
	for _, status := range kept {
		require.Equal(t, http.StatusOK, <-status)
	}
}
