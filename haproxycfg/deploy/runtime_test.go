package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// liveSite is a site whose Dir has a Runtime.
type liveSite struct {
	*site
	version haproxycfg.Version
	changes []RuntimeChange
}

// eachLiveSite calls the function test with a site for the oldest and for the newest HAProxy on the
// machine. In the first configuration of the site, the backend "web" has the servers in the
// argument first.
func eachLiveSite(t *testing.T, first []haproxycfg.Server, test func(*testing.T, *liveSite)) {
	t.Helper()
	binaries := map[haproxycfg.Version]string{}
	for _, binary := range haproxytest.Binaries(t) {
		out, err := exec.Command(binary, "-v").Output()
		require.NoError(t, err)
		version, err := haproxycfg.ParseVersion(string(out))
		require.NoError(t, err)
		binaries[version] = binary
	}
	versions := slices.SortedFunc(maps.Keys(binaries), func(a, b haproxycfg.Version) int {
		return cmp.Or(a.Major-b.Major, a.Minor-b.Minor)
	})
	for _, version := range slices.Compact([]haproxycfg.Version{versions[0], versions[len(versions)-1]}) {
		binary := binaries[version]
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			s := &liveSite{site: &site{dir: haproxytest.Dir(t), port: haproxytest.Ports(t, 1)[0]}, version: version}
			s.stats = runtimeapi.Socket{Path: filepath.Join(s.dir, haproxytest.StatsSocket)}
			master := s.master()
			s.conf = &Dir{Path: filepath.Join(s.dir, "conf"), Check: Checker{Haproxy: binary}.Check}
			_, err := s.conf.Apply(t.Context(), s.config(first...))
			require.NoError(t, err)
			s.proc, err = haproxyproc.Start(t.Context(), haproxyproc.Options{
				Path: binary, Config: filepath.Join(s.conf.Path, configFile), StatsSocket: s.stats.Path, MasterSocket: master.Path,
			})
			require.NoError(t, err)
			t.Cleanup(s.proc.Stop)
			s.conf.Reload = Reloader{
				Master: master, StateFile: s.stateFile(), Config: filepath.Join(s.conf.Path, configFile), Timeout: time.Minute,
			}.Reload
			s.conf.Runtime = &Runtime{Stats: s.stats, Master: master, Changed: func(c RuntimeChange) { s.changes = append(s.changes, c) }}
			test(t, s)
		})
	}
}

const liveSlots = 4

// config returns a configuration with the servers. Before 3.0 they are in slots.
func (s *liveSite) config(servers ...haproxycfg.Server) *haproxycfg.Config {
	if !s.version.AtLeast(3, 0) {
		slots := make([]haproxycfg.Server, max(liveSlots, len(servers)))
		for i := range slots {
			slots[i] = haproxycfg.Server{Addr: netip.MustParseAddrPort("127.0.0.1:1"), Disabled: true}
			if i < len(servers) && servers[i].Addr.IsValid() {
				slots[i] = servers[i]
			}
			slots[i].Slot = fmt.Sprintf("s%d", i)
		}
		servers = slots
	} else {
		servers = slices.DeleteFunc(slices.Clone(servers), func(s haproxycfg.Server) bool { return !s.Addr.IsValid() })
	}
	c := s.site.config(servers...)
	c.Global.Version = s.version
	c.Global.Variables = []haproxycfg.Variable{{Name: "pods", Value: len(servers)}}
	c.Backends[0].AgentInterval = 0
	return c
}

func (s *liveSite) name(slot int, server haproxycfg.Server) string {
	if !s.version.AtLeast(3, 0) {
		return fmt.Sprintf("s%d", slot)
	}
	return server.Name()
}

func (s *liveSite) apply(t *testing.T, changed bool, c *haproxycfg.Config) {
	t.Helper()
	got, err := s.conf.Apply(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, changed, got)
	require.NoFileExists(t, filepath.Join(s.conf.Path, pendingFile))
}

// requireServers fails the test if other servers than these answer requests.
func (s *liveSite) requireServers(t *testing.T, names ...string) {
	t.Helper()
	got := map[string]bool{}
	for range 4 * len(names) {
		who, err := s.get()
		require.NoError(t, err)
		got[who] = true
	}
	for _, name := range names {
		require.True(t, got[name], "%s in %v", name, got)
	}
	require.Len(t, got, len(names), "%v", got)
}

// eventuallyServers waits until exactly these servers answer requests. After a reload, the old
// worker may accept connections until it has closed its listener.
func (s *liveSite) eventuallyServers(t *testing.T, names ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := map[string]bool{}
		for range 4 * len(names) {
			who, err := s.get()
			require.NoError(c, err)
			got[who] = true
		}
		require.Len(c, got, len(names))
		for _, name := range names {
			require.True(c, got[name])
		}
	}, time.Minute, 20*time.Millisecond)
}

func (s *liveSite) do(t *testing.T, format string, args ...any) string {
	t.Helper()
	answer, err := s.stats.Do(t.Context(), fmt.Sprintf(format, args...))
	require.NoError(t, err)
	return strings.TrimSpace(answer)
}

func TestRuntimeChangesServersWithoutAReload(t *testing.T) {
	t.Parallel()
	a, b, c := origin(t, "a", 0), origin(t, "b", 0), origin(t, "c", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		none := haproxycfg.Server{}
		worker := s.worker(t)
		s.requireServers(t, "a")
		plan, err := s.conf.Plan(s.config(a, b))
		require.NoError(t, err)
		require.False(t, plan.Reloads())
		s.apply(t, true, s.config(a, b))
		s.requireServers(t, "a", "b")
		s.apply(t, true, s.config(none, b))
		s.requireServers(t, "b")
		s.apply(t, true, s.config(c, b))
		s.requireServers(t, "b", "c")
		require.Equal(t, worker, s.worker(t))
		require.Len(t, s.changes, 3)
		require.Empty(t, s.changes[0].Reload)

		// A drain by hand stays, over a change at run time and over a reload.
		s.do(t, "set server web/%s state drain", s.name(1, b))
		s.apply(t, true, s.config(c, b, a))
		s.requireServers(t, "a", "c")
		require.Equal(t, worker, s.worker(t))
		other := s.config(c, b, a)
		other.Defaults.Retries = 1
		plan, err = s.conf.Plan(other)
		require.NoError(t, err)
		require.True(t, plan.Reloads())
		s.apply(t, true, other)
		require.Eventually(t, func() bool { return s.worker(t) != worker }, time.Minute, 20*time.Millisecond)
		s.eventuallyServers(t, "a", "c")
		require.Equal(t, "defaults has changed", s.changes[len(s.changes)-1].Reload)
		s.apply(t, false, other)
	})
}

// TestRuntimeWantsABusyServerAgain removes a server whose request does not end, and wants it again.
func TestRuntimeWantsABusyServerAgain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) })
	a, b := haproxycfg.Server{Addr: netip.MustParseAddrPort(slow.Listener.Addr().String())}, origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		s.conf.Runtime.Wait = time.Millisecond
		client, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		_, err = client.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		require.NoError(t, err)
		name := s.name(0, a)
		s.eventually(t, name, func(x runtimeapi.Stat) bool { return x.Sessions == 1 })
		worker := s.worker(t)
		for range 2 {
			s.apply(t, true, s.config(haproxycfg.Server{}, b))
			s.apply(t, false, s.config(haproxycfg.Server{}, b)) // HAProxy still has the server
			s.apply(t, true, s.config(a, b))
			require.Contains(t, []string{"UP", "no check"}, s.server(t, name).Status)
		}
		require.Equal(t, worker, s.worker(t), "%+v", s.changes)
		for _, c := range s.changes {
			require.Empty(t, c.Reload)
		}
	})
}

// TestRuntimeChangesVariables changes the value of a variable together with servers.
func TestRuntimeChangesVariables(t *testing.T) {
	t.Parallel()
	a := origin(t, "a", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		worker := s.worker(t)
		c := s.config(a)
		c.Global.Variables[0].Value = 77
		s.apply(t, true, c)
		require.Equal(t, "proc.pods: type=sint value=<77>", s.do(t, "get var proc.pods"))
		require.Equal(t, worker, s.worker(t))
		c = s.config(a)
		c.Global.Variables = append(c.Global.Variables, haproxycfg.Variable{Name: "more"})
		s.apply(t, true, c)
		require.Equal(t, "global has changed", s.changes[len(s.changes)-1].Reload)
	})
}

// For some time after a reload, the old worker may accept connections at the stats socket. In this
// test, the stats socket belongs to a worker of another HAProxy.
func TestRuntimeChangesTheCurrentWorker(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		var commands []string
		s.conf.Runtime.Stats.Path = haproxytest.FakeSocket(t, "unix", func(command string) string {
			commands = append(commands, command)
			if len(commands) == 1 {
				return "proc.pods: type=sint value=<5>\n" // of the old worker
			}
			value, _, _ := strings.Cut(strings.TrimPrefix(command, "experimental-mode on; set var proc.pods int("), ")")
			n, err := strconv.Atoi(value)
			if err == nil {
				err = s.stats.SetVariable(t.Context(), "pods", n)
			}
			return fmt.Sprintf("proc.pods: type=sint value=<%d>\n%v", n, err)
		})
		next := s.config(a, b)
		next.Global.Variables[0].Value = 5
		s.apply(t, true, next)
		s.requireServers(t, "a", "b")
		require.Contains(t, s.do(t, "get var proc.pods"), "value=<5>")
		require.Empty(t, s.changes[0].Reload)
		require.Len(t, commands, 2, "the stats socket gets only the commands for the variable: %v", commands)

		require.NoError(t, s.conf.Runtime.SetVariable(t.Context(), "pods", 6))
		require.Contains(t, s.do(t, "get var proc.pods"), "value=<6>")
	})
}

// TestRuntimeCompletesAnInterruptedChange ends the process after the files were written, and after
// some of the commands. The next Apply completes the change without a reload.
func TestRuntimeCompletesAnInterruptedChange(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		worker := s.worker(t)
		killed := errors.New("killed")
		s.conf.beforeStep = func(name string) error {
			if name == "change servers" {
				return killed
			}
			return nil
		}
		_, err := s.conf.Apply(t.Context(), s.config(a, b))
		require.ErrorIs(t, err, killed)
		require.FileExists(t, filepath.Join(s.conf.Path, pendingFile))
		s.requireServers(t, "a")
		s.conf.beforeStep = nil
		s.apply(t, false, s.config(a, b))
		s.requireServers(t, "a", "b")

		// The next process ends after the first command of a change, and the one after it is started
		// with other servers.
		s.conf.beforeStep = func(name string) error {
			if name == "change servers" {
				s.do(t, "set server web/%s state maint", s.name(0, a))
				return killed
			}
			return nil
		}
		_, err = s.conf.Apply(t.Context(), s.config(haproxycfg.Server{}, b))
		require.ErrorIs(t, err, killed)
		s.conf.beforeStep = nil
		s.apply(t, true, s.config(a, b))
		s.requireServers(t, "a", "b")
		require.Equal(t, worker, s.worker(t))
	})
}

// TestRuntimeCorrectsDrift changes the servers by hand. An Apply of the same configuration corrects
// them.
func TestRuntimeCorrectsDrift(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a, b}, func(t *testing.T, s *liveSite) {
		worker := s.worker(t)
		if s.version.AtLeast(3, 0) {
			s.do(t, "set server web/%s state maint", s.name(0, a))
			require.Equal(t, "Server deleted.", s.do(t, "del server web/%s", s.name(0, a)))
		} else {
			s.do(t, "set server web/s0 addr 127.0.0.1 port %d", b.Addr.Port())
		}
		s.requireServers(t, "b")
		s.apply(t, false, s.config(a, b))
		s.requireServers(t, "a", "b")
		require.Equal(t, worker, s.worker(t))
	})
}

// TestRuntimeReloads makes changes that need a reload: more slots before 3.0, and other words of
// servers. After the reload the servers are in service.
func TestRuntimeReloads(t *testing.T) {
	t.Parallel()
	servers := make([]haproxycfg.Server, liveSlots+1)
	names := make([]string, len(servers))
	for i := range servers {
		names[i] = fmt.Sprintf("s%d", i)
		servers[i] = origin(t, names[i], 0)
	}
	eachLiveSite(t, servers[:1], func(t *testing.T, s *liveSite) {
		worker := s.worker(t)
		s.apply(t, true, s.config(servers[1:2]...))
		s.apply(t, true, s.config(servers...))
		if s.version.AtLeast(3, 0) {
			require.Equal(t, worker, s.worker(t))
		} else {
			require.True(t, slices.ContainsFunc(s.changes, func(c RuntimeChange) bool {
				return c.Reload == "HAProxy cannot add server web/s4 at run time"
			}), "%+v", s.changes)
			require.Eventually(t, func() bool { return s.worker(t) != worker }, time.Minute, 20*time.Millisecond)
		}
		s.eventuallyServers(t, names...)

		// A check changes the words of each server.
		checked := slices.Clone(servers)
		for i := range checked {
			checked[i].Check = true
		}
		s.conf.Runtime.MaxReplaced = 2
		worker = s.worker(t)
		s.apply(t, true, s.config(checked...))
		require.Eventually(t, func() bool { return s.worker(t) != worker }, time.Minute, 20*time.Millisecond)
		s.conf.Runtime.MaxReplaced = 0
		worker = s.worker(t)
		s.apply(t, true, s.config(servers...))
		if s.version.AtLeast(3, 0) {
			require.Equal(t, worker, s.worker(t), "replaced at run time")
			require.Empty(t, s.changes[len(s.changes)-1].Reload)
		}
		s.apply(t, false, s.config(servers...))
	})
}

// TestRuntimeReloadsAfterAFailure removes the permission to change variables.
func TestRuntimeReloadsAfterAFailure(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		s.conf.Runtime.Stats.Path = haproxytest.FakeSocket(t, "unix", func(string) string { return "Permission denied\n\n" })
		c := s.config(a, b)
		c.Global.Variables[0].Value = 9
		worker := s.worker(t)
		s.apply(t, true, c)
		require.Contains(t, s.changes[0].Reload, `HAProxy answers "Permission denied"`)
		require.Eventually(t, func() bool { return s.worker(t) != worker }, time.Minute, 20*time.Millisecond)
		s.eventuallyServers(t, "a", "b")
	})
}

// TestRuntimeAfterARefusedReload makes a change that HAProxy refuses to load. The servers of the
// last good configuration serve again.
func TestRuntimeAfterARefusedReload(t *testing.T) {
	t.Parallel()
	a, b := origin(t, "a", 0), origin(t, "b", 0)
	eachLiveSite(t, []haproxycfg.Server{a}, func(t *testing.T, s *liveSite) {
		s.apply(t, true, s.config(b))
		taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]))
		require.NoError(t, err)
		defer taken.Close()
		bad := s.config(a, haproxycfg.Server{})
		bad.Frontends[0].Binds = append(bad.Frontends[0].Binds, haproxycfg.Bind{Address: taken.Addr().String()})
		changed, err := s.conf.Apply(t.Context(), bad)
		var refused *ReloadError
		require.ErrorAs(t, err, &refused)
		require.False(t, changed)
		s.eventuallyServers(t, "b")

		// A change at run time still works, and so does the refused one with a free port.
		s.apply(t, true, s.config(b, a))
		s.eventuallyServers(t, "a", "b")
		require.NoError(t, taken.Close())
		s.apply(t, true, bad)
		s.eventuallyServers(t, "a")
	})
}

func TestRuntimeWithoutHAProxy(t *testing.T) {
	t.Parallel()
	dir := haproxytest.Dir(t)
	d := &Dir{Path: filepath.Join(dir, "conf")}
	_, err := d.Apply(t.Context(), testConfig(dir, 80, 1))
	require.NoError(t, err)
	master := runtimeapi.Socket{Path: filepath.Join(dir, "none")}
	d.Reload = Reloader{Master: master}.Reload
	d.Runtime = &Runtime{Stats: master}
	_, err = d.Apply(t.Context(), testConfig(dir, 80, 1))
	require.ErrorIs(t, err, ErrNoMaster)
}

func TestOtherChange(t *testing.T) {
	const before = "global\n    set-var proc.n int(1)\nbackend b\n    balance leastconn\n    server a 10.0.0.1:1 weight 100\n"
	for name, tc := range map[string]struct{ old, new, want string }{
		"server":          {"10.0.0.1:1 weight 100", "10.0.0.2:1 check", ""},
		"new server":      {"weight 100\n", "weight 100\n    server b 10.0.0.2:1\n", ""},
		"variable":        {"int(1)", "int(2)", ""},
		"comment":         {"global\n", "global\n    # text\n", ""},
		"other variable":  {"proc.n", "proc.m", "global has changed"},
		"no number":       {"int(1)", "str(1)", "global has changed"},
		"setting":         {"leastconn", "roundrobin", "backend b has changed"},
		"renamed backend": {"backend b", "backend c", "backend b is gone"},
		"new section":     {"backend b", "frontend f\nbackend b", "frontend f is new"},
		"a map":           {"leastconn", "leastconn\n    use maps/x-0123456789abcdef.map", "backend b has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, before, tc.old)
			for _, loaded := range []bool{false, true} {
				backends, got := otherChange([]byte(before), []byte(strings.Replace(before, tc.old, tc.new, 1)), loaded)
				require.Equal(t, tc.want, got)
				require.Empty(t, backends.added)
				require.Empty(t, backends.gone)
			}
		})
	}
}

// TestBackendChanges: HAProxy can add and delete a backend at run time if a section "defaults" that it
// has loaded contains the settings of the backend.
func TestBackendChanges(t *testing.T) {
	t.Parallel()
	const (
		common = "    mode http\n    timeout client 1s\n"
		a      = "    balance roundrobin\n    default-server inter 2s\n"
		b      = "    balance leastconn\n    default-server inter 2s\n"
		nameA  = "x-settings-0123456789"
		nameB  = "x-settings-abcdef0123"
	)
	config := func(backends map[string]string, settings map[string]string) []byte {
		text := "global\n    maxconn 1\ndefaults x-defaults\n" + common + "backend fixed\n    http-request return status 404\n"
		for name, lines := range backends {
			text += "backend " + name + "\n" + lines + "    server s 10.0.0.1:1\n"
		}
		for name, lines := range settings {
			text += "defaults " + name + "\n" + lines
		}
		return []byte(text)
	}
	both := map[string]string{nameA: common + a, nameB: common + b}
	before := config(map[string]string{"a": a, "b": b}, both)
	for name, tt := range map[string]struct {
		backends, settings map[string]string
		added, gone        map[string]string
		reload             string
	}{
		"new backend":          {map[string]string{"a": a, "b": b, "c": b}, both, map[string]string{"c": nameB}, nil, ""},
		"gone backend":         {map[string]string{"b": b}, map[string]string{nameB: common + b}, nil, map[string]string{"a": nameA}, ""},
		"one for another":      {map[string]string{"a": a, "c": b}, both, map[string]string{"c": nameB}, map[string]string{"b": nameB}, ""},
		"new settings":         {map[string]string{"a": a, "b": b, "c": b + a}, both, nil, nil, "backend c is new, and no other backend has its settings"},
		"changed settings":     {map[string]string{"a": a, "b": b + a}, both, nil, nil, "backend b has changed"},
		"common lines changed": {map[string]string{"a": a, "b": b, "c": b}, map[string]string{nameA: common + a, nameB: b}, nil, nil, "defaults " + nameB + " has changed"},
		"new section":          {map[string]string{"a": a, "b": b}, map[string]string{nameA: common + a, nameB: common + b, "x-settings-0000000000": common}, nil, nil, "defaults x-settings-0000000000 is new"},
	} {
		t.Run(name, func(t *testing.T) {
			after := config(tt.backends, tt.settings)
			got, reload := otherChange(before, after, true)
			require.Equal(t, tt.reload, reload)
			require.Len(t, got.added, len(tt.added))
			require.Len(t, got.gone, len(tt.gone))
			for name, from := range tt.added {
				require.Equal(t, from, got.added[name])
			}
			for name, from := range tt.gone {
				require.Equal(t, from, got.gone[name])
			}
			if len(tt.added)+len(tt.gone) > 0 {
				got, reload = otherChange(before, after, false)
				require.Empty(t, got)
				require.Regexp(t, "^backend . is (new|gone)", reload, "HAProxy may run another configuration")
			}
		})
	}
	tracking := a + "    server t 10.0.0.1:1 track b/s\n"
	gone := compareLiveOf(config(map[string]string{"a": tracking, "b": b}, both), config(nil, both))
	require.Equal(t, "backend b is gone, and other servers tracked its servers", gone.reload)
}

// TestLeftoverAfterAnInterruptedChange: HAProxy still has a removed backend, and the last Apply ended
// after it had written other servers. The next Apply then deletes the backend too.
func TestLeftoverAfterAnInterruptedChange(t *testing.T) {
	t.Parallel()
	config := func(port int) []byte {
		return fmt.Appendf(nil, "global\n    maxconn 1\ndefaults\n    mode http\nbackend a\n    server s 10.0.0.1:%d\n", port)
	}
	r := Runtime{leftover: map[string]string{"gone": "settings-0123456789"}}
	c := r.compareLive(config(1), config(2), target{files: []haproxycfg.RenderedFile{{Name: configFile, Data: config(2)}}})
	require.Empty(t, c.reload)
	require.Equal(t, r.leftover, c.gone)
	require.Contains(t, c.wanted, runtimeapi.Backend{Name: "gone", Delete: true})
}

func compareLiveOf(before, after []byte) liveChange {
	return (&Runtime{}).compareLive(before, before, target{files: []haproxycfg.RenderedFile{{Name: configFile, Data: after}}})
}

// FuzzLive compares the text of a haproxy.cfg with itself: there is no change. Every server name
// comes from the text.
func FuzzLive(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if backends, reason := otherChange([]byte(text), []byte(text), true); len(backends.added)+len(backends.gone) > 0 || reason != "" {
			t.Fatal(backends, reason)
		}
		for _, b := range textServers([]byte(text)) {
			for _, s := range b.Servers {
				if !strings.Contains(text, s.Name) || s.Name == "" {
					t.Fatalf("%+v", s)
				}
			}
		}
		if changed := changedVariables([]byte(text), []byte(text)); changed != nil {
			t.Fatalf("%+v", changed)
		}
	})
}
