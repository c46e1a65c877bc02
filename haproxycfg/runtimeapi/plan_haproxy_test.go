package runtimeapi_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// planConfig returns a configuration with the servers.
func planConfig(dir string, backends []runtimeapi.Backend) string {
	var cfg strings.Builder
	fmt.Fprintf(&cfg, `
global
    stats socket %[1]s/stats.sock level admin
defaults
    mode http
    option abortonclose
    timeout client 1h
    timeout server 1h
    timeout connect 1s
frontend f
    bind unix@%[1]s/http.sock
    default_backend a
`, dir)
	for _, b := range backends {
		fmt.Fprintf(&cfg, "backend %s\n    balance leastconn\n", b.Name)
		for _, s := range b.Servers {
			_, words, _ := strings.Cut(s.Add, "/")
			fmt.Fprintf(&cfg, "    server %s%s\n", words, map[bool]string{true: " disabled"}[s.Maint])
		}
	}
	return cfg.String()
}

// TestPlanBringsHAProxyToTheWantedServers makes the same random changes as FuzzPlan in each
// HAProxy.
func TestPlanBringsHAProxyToTheWantedServers(t *testing.T) {
	first := func(version runtimeapi.Version) []runtimeapi.Backend {
		s := script("0123456789abcdefghijklmnopqrstuvwxyz")
		return s.slots(version)
	}
	// The servers of the file are slots, so that each version can begin with it.
	config := func(dir string) string { return planConfig(dir, first(runtimeapi.Version{Major: 2, Minor: 6})) }
	eachVersion(t, config, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		actual, err := socket.Actual(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, actual.Backends)
		before := first(runtimeapi.Version{Major: 2, Minor: 6})
		random := rand.New(rand.NewPCG(1, 2))
		for round := range 8 {
			if round == 4 { // send the other commands through the master
				socket = runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket), Worker: "@1"}
			}
			data := make(script, 100)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			wanted := data.slots(actual.Version)
			byHand := map[string]runtimeapi.AdminState{}
			if round%2 == 1 {
				byHand = setOne(t, socket, before, wanted)
			}
			actual, err = socket.Actual(t.Context())
			require.NoError(t, err)
			plan := actual.Plan(before, wanted)
			require.Empty(t, plan.Reload)
			result, err := socket.Apply(t.Context(), plan)
			require.NoError(t, err)
			require.Equal(t, runtimeapi.Result{Done: len(plan.Commands)}, result)

			actual, err = socket.Actual(t.Context())
			require.NoError(t, err)
			m := &model{t: t, version: actual.Version}
			for _, row := range actual.Servers {
				s := &modelServer{ServerState: row}
				if now, ok := lookUp(wanted, row.Backend, row.Name); ok {
					s.words = wordsOf(strings.Fields(now.Add)[4:]) // HAProxy does not show the words
				}
				m.servers = append(m.servers, s)
			}
			m.requireWanted(wanted, byHand)
			require.True(t, actual.Plan(wanted, wanted).Empty())
			before = wanted
		}
	})
}

// setOne sets a server that stays in service to drain.
func setOne(t *testing.T, socket runtimeapi.Socket, before, wanted []runtimeapi.Backend) map[string]runtimeapi.AdminState {
	t.Helper()
	for _, b := range before {
		for _, s := range b.Servers {
			now, ok := lookUp(wanted, b.Name, s.Name)
			if !ok || s.Maint || now.Maint || s.Addr != now.Addr {
				continue
			}
			answer, err := socket.Do(t.Context(), "set server "+b.Name+"/"+s.Name+" state drain")
			require.NoError(t, err)
			require.Empty(t, strings.TrimSpace(answer))
			return map[string]runtimeapi.AdminState{b.Name + "/" + s.Name: runtimeapi.ForcedDrain}
		}
	}
	return nil
}

// TestBusyServers keeps a request of a server running. From 3.0 on, the unwanted server stays in
// maintenance until the request ends, and its words cannot be replaced.
func TestBusyServers(t *testing.T) {
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = origin.Close() })
	addr := origin.Addr().(*net.TCPAddr).AddrPort()
	server := runtimeapi.Server{Name: "s", Addr: addr, Weight: 10, Add: "add server a/s " + addr.String() + " weight 10"}
	before := []runtimeapi.Backend{{Name: "a", Servers: []runtimeapi.Server{server}}}
	eachVersion(t, func(dir string) string { return planConfig(dir, before) }, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		apply := func(before, wanted []runtimeapi.Backend, wait time.Duration) (runtimeapi.Plan, runtimeapi.Result, error) {
			actual, err := socket.Actual(t.Context())
			require.NoError(t, err)
			plan := actual.Plan(before, wanted)
			plan.Wait = wait
			result, err := socket.Apply(t.Context(), plan)
			return plan, result, err
		}
		actual, err := socket.Actual(t.Context())
		require.NoError(t, err)
		client, err := net.Dial("unix", filepath.Join(dir, "http.sock"))
		require.NoError(t, err)
		defer client.Close()
		_, err = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		var rows []runtimeapi.Stat
		require.Eventually(t, func() bool {
			rows, err = socket.Stats(t.Context())
			return err == nil && slices.ContainsFunc(rows, func(r runtimeapi.Stat) bool { return r.Server == "s" && r.Sessions == 1 })
		}, 20*time.Second, 5*time.Millisecond, "%+v", &rows)

		altered := server
		altered.Add += " maxconn 7"
		plan, _, err := apply(before, []runtimeapi.Backend{{Name: "a", Servers: []runtimeapi.Server{altered}}}, time.Millisecond)
		if !actual.Version.DeletesServers() {
			require.NoError(t, err)
			require.Empty(t, plan.Commands)
			require.Equal(t, "server a/s: its words have changed; HAProxy 2.6 cannot delete servers safely", plan.Reload[0].String())
			plan, result, err := apply(before, []runtimeapi.Backend{{Name: "a"}}, -1)
			require.NoError(t, err)
			require.Equal(t, runtimeapi.Result{Done: 1}, result)
			require.Empty(t, plan.Reload)
			return
		}
		var busy *runtimeapi.BusyError
		require.ErrorAs(t, err, &busy)
		require.Equal(t, runtimeapi.BusyError{Backend: "a", Server: "s"}, *busy)
		servers, err := socket.Servers(t.Context())
		require.NoError(t, err)
		require.Zero(t, servers[0].Admin, "in service again")

		none := []runtimeapi.Backend{{Name: "a"}}
		_, result, err := apply(before, none, -1)
		require.NoError(t, err)
		require.Equal(t, runtimeapi.Result{Done: 1, Busy: []string{"a/s"}}, result)

		// The next Apply, through the master, waits until the request ends.
		socket = runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket), Worker: "@1"}
		request := time.AfterFunc(200*time.Millisecond, func() { _ = client.Close() })
		defer request.Stop()
		_, result, err = apply(none, none, time.Minute)
		require.NoError(t, err)
		require.Equal(t, runtimeapi.Result{Done: 1}, result)
		servers, err = socket.Servers(t.Context())
		require.NoError(t, err)
		require.Empty(t, servers)
	})
}

// TestApplyReportsRefusals lets HAProxy refuse commands: a backend that adds no servers, and a
// server that other servers track.
func TestApplyReportsRefusals(t *testing.T) {
	config := func(dir string) string {
		return planConfig(dir, nil) + `
backend a
    balance static-rr
    server one 127.0.0.1:1
backend b
    server tracked 127.0.0.1:1 check
    server other 127.0.0.1:1 track b/tracked
`
	}
	eachVersion(t, config, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		actual, err := socket.Actual(t.Context())
		require.NoError(t, err)
		added := runtimeapi.Server{Name: "n", Addr: netip.MustParseAddrPort("127.0.0.1:1"), Weight: 1, Add: "add server a/n 127.0.0.1:1 weight 1"}
		wanted := []runtimeapi.Backend{
			{Name: "a", Servers: []runtimeapi.Server{{Name: "one", Weight: 1}, added}},
			{Name: "b", Servers: []runtimeapi.Server{{Name: "other", Weight: 1}}},
			{Name: "missing"},
		}
		plan := actual.Plan(nil, wanted)
		require.Contains(t, plan.Reload, runtimeapi.Reason{Backend: "missing", Text: "the running HAProxy has no such backend"})
		result, err := socket.Apply(t.Context(), plan)
		require.ErrorContains(t, err, `runtimeapi: a/n: "add server a/n 127.0.0.1:1 weight 1": HAProxy answers "Backend `)
		if !actual.Version.DeletesServers() {
			require.Equal(t, []string{"b/tracked"}, plan.Kept)
			require.Equal(t, runtimeapi.Result{Done: 1}, result)
			return
		}
		require.ErrorContains(t, err, `"del server b/tracked": HAProxy answers "This server cannot be removed`)
		require.Equal(t, runtimeapi.Result{Done: 1}, result, "the maintenance of b/tracked")
	})
}

// TestPlanReplacesServersWithAgents replaces a server by a server with another name on the same
// node. Both track the server of the node. The new server begins with the percentage that the agent
// has answered, and the agent, which answers "ready", does not end the maintenance of the old
// server.
func TestPlanReplacesServersWithAgents(t *testing.T) {
	agent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = agent.Close() })
	go func() {
		for {
			conn, err := agent.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "up ready 40%\n")
			_ = conn.Close()
		}
	}()
	port := agent.Addr().(*net.TCPAddr).Port
	server := func(backend, name string, weight int) runtimeapi.Server {
		addr := netip.MustParseAddrPort("127.0.0.1:1")
		return runtimeapi.Server{
			Name: name, Addr: addr, Weight: weight, Agent: true,
			Add: fmt.Sprintf("add server %s/%s %s track nodes/n weight %d agent-check agent-port %d agent-inter 1h", backend, name, addr, weight, port),
		}
	}
	nodes := runtimeapi.Backend{Name: "nodes", Tracked: true, Servers: []runtimeapi.Server{
		{Name: "n", Addr: netip.MustParseAddrPort("127.0.0.1:1"), Weight: 1, Check: true, Add: "add server nodes/n 127.0.0.1:1 weight 1 check inter 1h"},
	}}
	before := []runtimeapi.Backend{{Name: "a", Servers: []runtimeapi.Server{server("a", "old", 100)}}, {Name: "empty"}, nodes}
	config := func(dir string) string {
		return strings.ReplaceAll(planConfig(dir, before), "agent-inter 1h", "agent-inter 100ms")
	}
	eachVersion(t, config, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		var actual runtimeapi.Actual
		find := func(name string) (row runtimeapi.ServerState) {
			present, err := socket.Actual(t.Context())
			require.NoError(t, err)
			actual = present
			for _, row := range actual.Servers {
				if row.Backend+"/"+row.Name == name {
					return row
				}
			}
			return runtimeapi.ServerState{Weight: -1}
		}
		require.Eventually(t, func() bool { return find("a/old").Weight == 40 }, 30*time.Second, 5*time.Millisecond)
		wanted := []runtimeapi.Backend{
			{Name: "a", Servers: []runtimeapi.Server{server("a", "new", 50)}},
			{Name: "empty", Servers: []runtimeapi.Server{server("empty", "first", 10)}},
			nodes,
		}
		plan := actual.Plan(before, wanted)
		require.Empty(t, plan.Reload)
		require.Equal(t, "empty", plan.Commands[plan.First-1].Backend)
		require.Equal(t, "a", plan.Commands[plan.First].Backend)
		_, err := socket.Apply(t.Context(), plan)
		require.NoError(t, err)
		for name, weight := range map[string]int{"a/new": 20, "empty/first": 4} {
			row := find(name)
			require.Equal(t, weight, row.Weight, "%s: before the first answer of its agent, which comes after an hour", name)
			require.Zero(t, row.Admin)
			require.Equal(t, runtimeapi.Running, row.Op, "%s: it gets requests before this answer", name)
		}
		old := find("a/old")
		require.Eventually(t, func() bool { // the answer to an earlier agent check may end the maintenance
			again := actual.Plan(wanted, wanted)
			_, err := socket.Apply(t.Context(), again)
			require.NoError(t, err)
			old = find("a/old")
			return again.Empty()
		}, 30*time.Second, 5*time.Millisecond)
		if actual.Version.DeletesServers() {
			require.Equal(t, -1, old.Weight, "deleted")
			require.Empty(t, plan.Kept)
		} else {
			require.Equal(t, []string{"a/old"}, plan.Kept)
			require.Equal(t, runtimeapi.ForcedMaint, old.Admin)
			require.Zero(t, old.Agent&runtimeapi.CheckEnabled)
		}
	})
}
