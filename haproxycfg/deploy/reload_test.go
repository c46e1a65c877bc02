package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// site is a running HAProxy in master-worker mode, with its configuration in a Dir.
type site struct {
	dir   string
	port  int
	conf  *Dir
	stats runtimeapi.Socket
	proc  *haproxyproc.Process
}

// startSite applies a configuration and starts HAProxy with it.
func startSite(t *testing.T, first func(*site) *haproxycfg.Config) *site {
	t.Helper()
	s := &site{dir: haproxytest.Dir(t), port: haproxytest.Ports(t, 1)[0]}
	s.stats = runtimeapi.Socket{Path: filepath.Join(s.dir, haproxytest.StatsSocket)}
	s.conf = &Dir{Path: filepath.Join(s.dir, "conf"), Check: Checker{Haproxy: haproxytest.Binary(t)}.Check}
	_, err := s.conf.Apply(t.Context(), first(s))
	require.NoError(t, err)
	s.proc, err = haproxyproc.Start(t.Context(), haproxyproc.Options{
		Config: filepath.Join(s.conf.Path, configFile), StatsSocket: s.stats.Path, MasterSocket: s.master().Path,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		s.proc.Stop()
		if t.Failed() {
			t.Logf("haproxy printed:\n%s", s.proc.Output())
		}
	})
	s.conf.Reload = Reloader{Master: s.master(), StateFile: s.stateFile(), Timeout: time.Minute}.Reload
	return s
}

func (s *site) master() runtimeapi.Socket {
	return runtimeapi.Socket{Path: filepath.Join(s.dir, haproxytest.MasterSocket)}
}

func (s *site) stateFile() string { return filepath.Join(s.dir, "state") }

// config returns a configuration with the given servers.
func (s *site) config(servers ...haproxycfg.Server) *haproxycfg.Config {
	c := testConfig(s.dir, s.port)
	c.Global.StateFile = s.stateFile()
	c.Global.HardStopAfter = 5 * time.Second
	c.Backends[0].Servers = servers
	c.Backends[0].AgentInterval = 50 * time.Millisecond
	c.Defaults.Check = time.Minute // the test may answer a check late
	return c
}

// worker is the address of the worker that serves new connections, on the master's command line.
func (s *site) worker(t *testing.T) string {
	t.Helper()
	all, err := Reloader{Master: s.master()}.processes(t.Context())
	require.NoError(t, err)
	return currentWorker(all)
}

// reloads calls the function change, which reloads HAProxy. It returns when the earlier worker
// accepts no more connections. Without this wait, the earlier worker could answer the next request
// or command.
func (s *site) reloads(t *testing.T, change func()) {
	t.Helper()
	before := s.worker(t)
	change()
	earlier := s.master()
	earlier.Worker = before
	require.Eventually(t, func() bool {
		info, err := earlier.Do(t.Context(), "show info")
		return err != nil || !strings.Contains(info, "Pid: ") || strings.Contains(info, "Stopping: 1")
	}, 30*time.Second, 10*time.Millisecond)
}

// server returns the row of a server in the worker that serves new connections.
func (s *site) server(t *testing.T, name string) runtimeapi.Stat {
	t.Helper()
	socket := s.master()
	socket.Worker = s.worker(t)
	all, err := socket.Stats(t.Context())
	require.NoError(t, err)
	for _, x := range all {
		if x.Proxy == "web" && x.Server == name {
			return x
		}
	}
	t.Fatalf("no server %s among %+v", name, all)
	return runtimeapi.Stat{}
}

func (s *site) eventually(t *testing.T, name string, ok func(runtimeapi.Stat) bool) {
	t.Helper()
	var last runtimeapi.Stat
	require.Eventually(t, func() bool { last = s.server(t, name); return ok(last) },
		30*time.Second, 10*time.Millisecond, "last seen: %+v", &last)
}

// get sends a request on a new connection, and returns the name of the server that answered.
func (s *site) get() (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", s.port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	return string(body), err
}

// origin starts a server that answers with its name. agent is the port of its agent, 0 for none.
func origin(t *testing.T, name string, agent uint16) haproxycfg.Server {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(h.Close)
	return haproxycfg.Server{Addr: h.Listener.Addr().(*net.TCPAddr).AddrPort(), AgentPort: agent}
}

func fakeMaster(t *testing.T, answer func(command string) string) runtimeapi.Socket {
	t.Helper()
	return runtimeapi.Socket{Path: haproxytest.FakeSocket(t, "unix", answer)}
}

// startAgent sends a line to each connection until somebody calls the returned function.
func startAgent(t *testing.T, line string) (port uint16, stop func()) {
	t.Helper()
	listened := haproxytest.Ports(t, 1)[0] // no other test uses the port after a call of stop
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", listened))
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, line+"\n")
			_ = conn.Close()
		}
	})
	stop = sync.OnceFunc(func() { _ = l.Close(); wg.Wait() })
	t.Cleanup(stop)
	return uint16(listened), stop
}

func TestReloadBringsANewConfigurationIntoForce(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(a) })
	who, err := s.get()
	require.NoError(t, err)
	require.Equal(t, "a", who)
	for i, x := range []struct {
		server haproxycfg.Server
		want   string
	}{{b, "b"}, {a, "a"}} {
		changed, err := s.conf.Apply(t.Context(), s.config(x.server))
		require.NoError(t, err, i)
		require.True(t, changed)
		// The old worker may accept connections until it has closed its listener.
		require.Eventually(t, func() bool { who, err := s.get(); return err == nil && who == x.want },
			30*time.Second, 20*time.Millisecond)
	}
	changed, err := s.conf.Apply(t.Context(), s.config(a))
	require.NoError(t, err)
	require.False(t, changed)
}

// TestReloadRefusedRestoresTheLastGood applies a configuration that HAProxy refuses. Apply restores
// the last good one. The state of the servers survives two reloads: the refused one, and the one
// with the restored configuration. After the refused reload, the master may list the current worker
// as an old one.
func TestReloadRefusedRestoresTheLastGood(t *testing.T) {
	t.Parallel()
	port, stop := startAgent(t, "up drain 100%")
	drained, open := origin(t, "drained", port), origin(t, "open", 0)
	s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(drained, open) })
	s.eventually(t, drained.Name(), func(x runtimeapi.Stat) bool { return strings.HasPrefix(x.Status, "DRAIN") })
	stop()
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]))
	require.NoError(t, err)
	defer taken.Close()
	bad := s.config(drained, open)
	bad.Frontends[0].Binds = append(bad.Frontends[0].Binds, haproxycfg.Bind{Address: taken.Addr().String()})
	good := onDisk(t, s.conf.Path, configFile)
	allOpen := func() {
		t.Helper()
		for range 20 {
			who, err := s.get()
			require.NoError(t, err)
			require.Equal(t, "open", who)
		}
	}

	changed, err := s.conf.Apply(t.Context(), bad)
	var refused *ReloadError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "restored and in force")
	require.False(t, changed)
	require.Equal(t, good, onDisk(t, s.conf.Path, configFile))
	require.NoFileExists(t, filepath.Join(s.conf.Path, pendingFile))
	allOpen()

	// With the port free, HAProxy accepts the same configuration.
	require.NoError(t, taken.Close())
	changed, err = s.conf.Apply(t.Context(), bad)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, good, onDisk(t, s.conf.Path, lastGoodFile))
	allOpen()
}

// TestReloadKeepsDrainAndWeight stops the agents and reloads under load. A drained server gets no
// requests, and weights stay. Without a state file, both are lost.
func TestReloadKeepsDrainAndWeight(t *testing.T) {
	t.Parallel()
	for _, saved := range []bool{true, false} {
		t.Run(fmt.Sprintf("saved=%v", saved), func(t *testing.T) {
			drainPort, stopDrain := startAgent(t, "up drain 100%")
			halfPort, stopHalf := startAgent(t, "up ready 50%")
			drained, half, extra := origin(t, "drained", drainPort), origin(t, "half", halfPort), origin(t, "extra", 0)
			s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(drained, half) })
			if !saved {
				s.conf.Reload = Reloader{Master: s.master()}.Reload
			}
			s.eventually(t, drained.Name(), func(x runtimeapi.Stat) bool { return strings.HasPrefix(x.Status, "DRAIN") })
			s.eventually(t, half.Name(), func(x runtimeapi.Stat) bool { return x.Weight == 50 })
			stopDrain()
			stopHalf()

			var hits sync.Map // server name -> *atomic.Int64
			var failed atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var load sync.WaitGroup
			for range 2 {
				load.Go(func() {
					for ctx.Err() == nil {
						who, err := s.get()
						if err != nil {
							failed.Add(1)
							continue
						}
						n, _ := hits.LoadOrStore(who, new(atomic.Int64))
						n.(*atomic.Int64).Add(1)
					}
				})
			}
			count := func(who string) int64 {
				n, ok := hits.Load(who)
				if !ok {
					return 0
				}
				return n.(*atomic.Int64).Load()
			}
			answered := func(who string, least int64) {
				t.Helper()
				require.Eventually(t, func() bool { return count(who) >= least }, 30*time.Second, 20*time.Millisecond)
			}
			answered("half", 20)
			require.Zero(t, count("drained"))
			changed, err := s.conf.Apply(t.Context(), s.config(drained, half, extra))
			require.NoError(t, err)
			require.True(t, changed)
			answered("extra", 100)
			if !saved {
				answered("drained", 1)
			}
			cancel()
			load.Wait()
			require.Zero(t, failed.Load())
			if saved {
				require.Zero(t, count("drained"))
				require.Contains(t, s.server(t, drained.Name()).Status, "DRAIN")
				require.Equal(t, 50, s.server(t, half.Name()).Weight)
			} else {
				require.Equal(t, 100, s.server(t, half.Name()).Weight)
			}
		})
	}
}

// TestReloadKeepsTheDrainOfANode stops the agents and reloads. The servers that track a drained
// node get no requests: neither those of the old configuration nor new ones.
func TestReloadKeepsTheDrainOfANode(t *testing.T) {
	t.Parallel()
	drainPort, stopDrain := startAgent(t, "up drain 100%")
	openPort, stopOpen := startAgent(t, "up ready 100%")
	servicePort, stopService := startAgent(t, "ready 50%")
	drained, open, extra := origin(t, "drained", servicePort), origin(t, "open", servicePort), origin(t, "extra", 0)
	nodes := haproxycfg.Backend{Name: "nodes", Servers: []haproxycfg.Server{
		{Addr: drained.Addr, Check: true, AgentPort: drainPort}, {Addr: open.Addr, Check: true, AgentPort: openPort},
	}}
	drained.Track, open.Track = "nodes/"+nodes.Servers[0].Name(), "nodes/"+nodes.Servers[1].Name()
	extra.Track = drained.Track
	config := func(s *site, servers ...haproxycfg.Server) *haproxycfg.Config {
		c := s.config(servers...)
		c.Backends = append(c.Backends, nodes)
		return c
	}
	s := startSite(t, func(s *site) *haproxycfg.Config { return config(s, drained, open) })
	s.eventually(t, drained.Name(), func(x runtimeapi.Stat) bool { return strings.HasPrefix(x.Status, "DRAIN") && x.Weight == 50 })
	s.eventually(t, open.Name(), func(x runtimeapi.Stat) bool { return x.Weight == 50 })
	stopDrain()
	stopOpen()
	stopService()
	for _, servers := range [][]haproxycfg.Server{{drained, open, extra}, {drained, open}, {drained, open, extra}} {
		changed, err := s.conf.Apply(t.Context(), config(s, servers...))
		require.NoError(t, err)
		require.True(t, changed)
		for range 50 {
			who, err := s.get()
			require.NoError(t, err)
			require.Equal(t, "open", who)
		}
		require.Equal(t, 50, s.server(t, drained.Name()).Weight)
	}
}

// TestReloadFollowsAChangedPort changes the port of a server. HAProxy restores ports from the state
// file by the name of the server. The server has a new name, so HAProxy uses the new port.
func TestReloadFollowsAChangedPort(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(a) })
	s.reloads(t, func() {
		_, err := s.conf.Apply(t.Context(), s.config(b))
		require.NoError(t, err)
	})
	state, err := os.ReadFile(s.stateFile())
	require.NoError(t, err)
	require.Contains(t, string(state), fmt.Sprintf(" %d ", a.Addr.Port()), "the old port is in the saved state")
	require.Equal(t, b.Addr.String(), s.server(t, b.Name()).Addr)
	who, err := s.get()
	require.NoError(t, err)
	require.Equal(t, "b", who)

	t.Run("control: one name for both", func(t *testing.T) {
		dir := haproxytest.Dir(t)
		text := rendered(t, dir, s.config(a))
		text = strings.ReplaceAll(text, s.dir, dir)
		text = strings.Replace(text, fmt.Sprintf("127.0.0.1:%d\n", s.port), fmt.Sprintf("127.0.0.1:%d\n", haproxytest.Ports(t, 1)[0]), 1)
		files, err := s.config(a).Render(dir)
		require.NoError(t, err)
		require.NoError(t, os.Mkdir(filepath.Join(dir, mapsDir), 0o700))
		for _, f := range files[:len(files)-1] {
			require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600))
		}
		haproxytest.StartMaster(t, dir, text)
		old, renewed := "server "+a.Name()+" "+a.Addr.String(), "server "+a.Name()+" "+b.Addr.String()
		require.Contains(t, text, old)
		require.NoError(t, os.WriteFile(filepath.Join(dir, configFile), []byte(strings.Replace(text, old, renewed, 1)), 0o600))
		require.NoError(t, Reloader{Master: runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket)}, StateFile: filepath.Join(dir, "state")}.Reload(t.Context()))
		all, err := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}.Stats(t.Context())
		require.NoError(t, err)
		for _, x := range all {
			if x.Server == a.Name() {
				require.Equal(t, a.Addr.String(), x.Addr, "HAProxy keeps the old port; if this fails, names no longer need the port")
			}
		}
	})
}

func TestReloadWithoutMaster(t *testing.T) {
	r := Reloader{Master: runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "none")}}
	err := r.Reload(t.Context())
	require.ErrorContains(t, err, "deploy: reload: ")
	var refused *ReloadError
	require.NotErrorAs(t, err, &refused)
}

// TestReloadAgainstOtherMasters uses fake masters with the answers of other versions, as their
// manuals show them.
func TestReloadAgainstOtherMasters(t *testing.T) {
	const list26 = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
	newAnswer := func(verdict string) func(string) string {
		return func(command string) string {
			if command == "show proc" {
				return list26 + "10 master 0 [failed: 0] 0d00h00m01s 3.0.1\n# workers\n11 worker 0 0d00h00m01s 3.0.1\n\n"
			}
			return verdict
		}
	}
	t.Run("success", func(t *testing.T) {
		m := fakeMaster(t, newAnswer("Success=1\n--\n[NOTICE]   (10) : New worker (12) forked\n\n"))
		require.NoError(t, Reloader{Master: m}.Reload(t.Context()))
	})
	t.Run("refused with log", func(t *testing.T) {
		m := fakeMaster(t, newAnswer("Success=0\n--\n[NOTICE]   (10) : x\n[ALERT]    (10) : config : parsing [h.cfg:7] : unknown keyword 'x'\n\n"))
		err := Reloader{Master: m}.Reload(t.Context())
		var refused *ReloadError
		require.ErrorAs(t, err, &refused)
		require.Contains(t, refused.Log, "[NOTICE]")
		require.Equal(t, "deploy: haproxy refuses the reload:\n\th.cfg:7: unknown keyword 'x'", err.Error())
	})
	t.Run("refused without log", func(t *testing.T) {
		err := Reloader{Master: fakeMaster(t, newAnswer("Success=0\n"))}.Reload(t.Context())
		require.ErrorContains(t, err, "the reason is in its log")
	})
	t.Run("2.4 in wait mode", func(t *testing.T) {
		var reloaded atomic.Bool
		m := fakeMaster(t, func(command string) string {
			const head = "#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>      \n"
			switch {
			case command == "reload":
				reloaded.Store(true)
				return ""
			case reloaded.Load():
				return head + "10 master 0 1 0d00h00m02s 2.4.1\n# workers\n# old workers\n11 worker [was: 1] 1 0d00h00m02s 2.4.1\n# programs\n\n"
			}
			return head + "10 master 0 0 0d00h00m01s 2.4.1\n# workers\n11 worker 1 0 0d00h00m01s 2.4.1\n# programs\n\n"
		})
		var refused *ReloadError
		require.ErrorAs(t, Reloader{Master: m}.Reload(t.Context()), &refused)
	})
	t.Run("never confirmed", func(t *testing.T) {
		err := Reloader{Master: fakeMaster(t, newAnswer("")), Timeout: 50 * time.Millisecond}.Reload(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var refused *ReloadError
		require.NotErrorAs(t, err, &refused)
	})
	t.Run("gone before the command", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(haproxytest.Dir(t), "s"))
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			_ = l.Close()
			if err == nil {
				_, _ = io.ReadAll(conn) // until the client closes its side
				_, _ = io.WriteString(conn, newAnswer("")("show proc"))
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
		err = Reloader{Master: runtimeapi.Socket{Path: l.Addr().String()}, Timeout: time.Minute}.Reload(t.Context())
		require.ErrorContains(t, err, "dial unix")
		require.NotErrorIs(t, err, context.DeadlineExceeded, "it does not wait for a command that was not sent")
	})
	t.Run("not allowed", func(t *testing.T) {
		err := Reloader{Master: fakeMaster(t, newAnswer("Permission denied\n\n"))}.Reload(t.Context())
		require.EqualError(t, err, `deploy: reload: the master says "Permission denied"`)
	})
	t.Run("no reload without a saved state", func(t *testing.T) {
		var reloads atomic.Int64
		m := fakeMaster(t, func(command string) string {
			if command == "reload" {
				reloads.Add(1)
			}
			return newAnswer("Permission denied\n\n")(command)
		})
		file := filepath.Join(t.TempDir(), "state")
		require.ErrorContains(t, Reloader{Master: m, StateFile: file}.Reload(t.Context()), "not a servers state")
		require.NoFileExists(t, file)
		require.Zero(t, reloads.Load())
	})
	t.Run("a worker's socket", func(t *testing.T) {
		m := fakeMaster(t, func(string) string { return "Unknown command.\n\n" })
		require.ErrorContains(t, Reloader{Master: m}.Reload(t.Context()), "not a process list of a master")
	})
}

func TestServerNamesAreThoseOfTheStateFile(t *testing.T) {
	s := haproxycfg.Server{Addr: netip.MustParseAddrPort("10.0.0.1:31000")}
	other := s
	other.Addr = netip.MustParseAddrPort("10.0.0.1:31001")
	agent := s
	agent.AgentPort = 9801
	require.NotEqual(t, s.Name(), other.Name())
	require.NotEqual(t, s.Name(), agent.Name())
}

func TestStatsOfARealProcess(t *testing.T) {
	port, _ := startAgent(t, "up ready 75% #at work")
	web := origin(t, "web", port)
	s := startSite(t, func(s *site) *haproxycfg.Config { return s.config(web) })
	s.eventually(t, web.Name(), func(x runtimeapi.Stat) bool { return x.Weight == 75 })
	for range 3 {
		_, err := s.get()
		require.NoError(t, err)
	}
	x := s.server(t, web.Name())
	require.Equal(t, "web", x.Proxy)
	require.Equal(t, "no check", x.Status)
	require.Equal(t, 75, x.UserWeight)
	require.Equal(t, web.Addr.String(), x.Addr)
	require.Equal(t, "L7OK", x.AgentStatus)
	require.EqualValues(t, 3, x.Total)
	require.EqualValues(t, 3, x.Responses[2])
	require.Zero(t, x.Limit)
	// HAProxy counts a request of a backend when its stream ends, and the client may have read the
	// answer before.
	s.eventually(t, "BACKEND", func(x runtimeapi.Stat) bool { return x.Requests == 3 && x.Status == "UP" })

	state, err := s.stats.ServersState(t.Context())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(state, "1\n# be_id be_name srv_id srv_name srv_addr "), state)
	require.True(t, strings.HasSuffix(state, "\n") && !strings.HasSuffix(state, "\n\n"), state)
	require.Contains(t, state, " web 1 "+web.Name()+" 127.0.0.1 ")
	missing := Reloader{Master: s.master(), StateFile: filepath.Join(s.dir, "no", "such", "dir")}
	require.ErrorContains(t, missing.Reload(t.Context()), "save the state of the servers")
}
