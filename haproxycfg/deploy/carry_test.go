package deploy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

const stateHead = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"

// stateLine is a line of a server that is up. addr is its present address.
func stateLine(backend, name, addr string, admin, weight, initial int) string {
	at := netip.MustParseAddrPort(addr)
	return fmt.Sprintf("3 %s 1 %s %s 2 %d %d %d 7 6 3 4 6 0 0 0 - %d - 0 0 - - 9801\n", backend, name, at.Addr(), admin, weight, initial, at.Port())
}

// backendText is a backend section. Each server has the form "name weight".
func backendText(name string, servers ...string) string {
	text := "backend " + name + "\n"
	for _, s := range servers {
		server, weight, _ := strings.Cut(s, " ")
		addr, agent, _ := strings.Cut(server, "-")
		text += "    server " + server + " " + addr + " track nodes.a/x weight " + weight
		if agent != "" {
			text += " agent-check agent-port " + agent
		}
		text += "\n"
	}
	return text + "\n"
}

// TestCarry looks at the weight and address with which each server of the new configuration starts.
func TestCarry(t *testing.T) {
	for name, tc := range map[string]struct {
		state, config string
		want          string // each server with a state, as "backend/name address admin-state weight/initial"
	}{
		"nothing changes": {
			stateLine("b", "10.0.0.1:80", "10.0.0.1:80", 8, 50, 100), backendText("b", "10.0.0.1:80 100"),
			"b/10.0.0.1:80 10.0.0.1:80 8 50/100",
		},
		"another port": {
			stateLine("b", "10.0.0.1:80-9801", "10.0.0.1:80", 0, 0, 100) + stateLine("b", "10.0.0.2:80-9801", "10.0.0.2:80", 8, 100, 100),
			backendText("b", "10.0.0.1:81-9801 100", "10.0.0.2:81-9801 100"),
			"b/10.0.0.1:81-9801 10.0.0.1:81 0 0/100, b/10.0.0.2:81-9801 10.0.0.2:81 8 100/100",
		},
		"another agent port": {
			stateLine("b", "10.0.0.1:80-9801", "10.0.0.1:80", 0, 25, 100), backendText("b", "10.0.0.1:80-9802 100"),
			"b/10.0.0.1:80-9802 10.0.0.1:80 0 25/100",
		},
		"another weight makes another backend": {
			stateLine("b:1", "10.0.0.1:80", "10.0.0.1:80", 0, 0, 100) + stateLine("b:1", "10.0.0.2:80", "10.0.0.2:80", 0, 50, 100),
			backendText("b:2", "10.0.0.1:80 60", "10.0.0.2:80 60"),
			"b:2/10.0.0.1:80 10.0.0.1:80 0 0/60, b:2/10.0.0.2:80 10.0.0.2:80 0 30/60",
		},
		"a weight does not become 0": {
			stateLine("b:1", "10.0.0.1:80", "10.0.0.1:80", 0, 1, 100), backendText("b:2", "10.0.0.1:80 2"),
			"b:2/10.0.0.1:80 10.0.0.1:80 0 1/2",
		},
		"the service moves and another service joins": {
			stateLine("b:1", "10.0.0.1:80", "10.0.0.1:80", 0, 10, 100) + stateLine("b:1", "10.0.0.1:90", "10.0.0.1:90", 0, 90, 100),
			backendText("b:1", "10.0.0.1:81 100", "10.0.0.1:90 100"),
			"b:1/10.0.0.1:90 10.0.0.1:90 0 90/100, b:1/10.0.0.1:81 10.0.0.1:81 0 10/100",
		},
		"a redirected server gets its own address": {
			stateLine("b", "10.0.0.1:80", "10.0.0.1:81", 0, 100, 100), backendText("b", "10.0.0.1:80 100"),
			"b/10.0.0.1:80 10.0.0.1:80 0 100/100",
		},
		"another node is no replacement": {
			stateLine("b", "10.0.0.1:80", "10.0.0.1:80", 0, 0, 100), backendText("b", "10.0.0.2:80 100"), "",
		},
		"another service is no replacement": {
			stateLine("c", "10.0.0.1:80", "10.0.0.1:80", 0, 0, 100), backendText("b", "10.0.0.1:81 100"), "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseState(stateHead + tc.state)
			require.NoError(t, err)
			to := readMembers([]byte(tc.config))
			s.carry(to)
			s, err = parseState(s.String())
			require.NoError(t, err)
			var got []string
			for _, x := range s.servers {
				for _, m := range to.backends[x.backend] {
					if m.name == x.name {
						got = append(got, fmt.Sprintf("%s/%s %v %s %s/%s", x.backend, x.name, x.addr, s.get(x.fields, "srv_admin_state"), s.get(x.fields, "srv_uweight"), s.get(x.fields, "srv_iweight")))
						break
					}
				}
			}
			require.Equal(t, tc.want, strings.Join(got, ", "))
		})
	}
}

// TestCarryForgetsHealth: the old port of a server has failed its health checks. The server with
// the new port is up, and keeps the weight 0.
func TestCarryForgetsHealth(t *testing.T) {
	down := strings.Replace(stateLine("b", "10.0.0.1:80", "10.0.0.1:80", 0, 0, 100), " 2 0 0 100 7 6 3 4 ", " 0 0 0 100 7 6 2 0 ", 1)
	s, err := parseState(stateHead + down)
	require.NoError(t, err)
	s.carry(readMembers([]byte(backendText("b", "10.0.0.1:81 100"))))
	require.Len(t, s.servers, 2)
	require.Equal(t, "3 b 1 10.0.0.1:81 10.0.0.1 2 0 0 100 7 1 0 0 6 0 0 0 - 81 - 0 0 - - 0", strings.Join(s.servers[1].fields, " "))
}

func TestMoves(t *testing.T) {
	up := func(backend, name, addr string) string { return stateLine(backend, name, addr, 0, 100, 100) }
	for name, tc := range map[string]struct {
		state, config string
		want          string // the moves, each as backend/name address
	}{
		"nothing changes": {up("b", "10.0.0.1:80", "10.0.0.1:80"), backendText("b", "10.0.0.1:80 100"), ""},
		"another port": {
			up("b", "10.0.0.1:80", "10.0.0.1:80") + up("b", "10.0.0.2:80", "10.0.0.2:80"), backendText("b", "10.0.0.1:81 100", "10.0.0.2:81 100"),
			"b/10.0.0.1:80 10.0.0.1:81, b/10.0.0.2:80 10.0.0.2:81",
		},
		"moved already":      {up("b", "10.0.0.1:80", "10.0.0.1:81"), backendText("b", "10.0.0.1:81 100"), ""},
		"back again":         {up("b", "10.0.0.1:80", "10.0.0.1:81"), backendText("b", "10.0.0.1:80 100"), "b/10.0.0.1:80 10.0.0.1:80"},
		"another agent port": {up("b", "10.0.0.1:80-9801", "10.0.0.1:80"), backendText("b", "10.0.0.1:80-9802 100"), ""},
		"another weight":     {up("b:1", "10.0.0.1:80", "10.0.0.1:80"), backendText("b:2", "10.0.0.1:80 50"), ""},
		"a node is gone": {
			up("b", "10.0.0.1:80", "10.0.0.1:80") + up("b", "10.0.0.2:80", "10.0.0.2:80"), backendText("b", "10.0.0.2:80 100"),
			"b/10.0.0.1:80 10.0.0.2:80",
		},
		"the weight is 0 now": {
			up("b:1", "10.0.0.1:80", "10.0.0.1:80") + up("b:1", "10.0.0.1:90", "10.0.0.1:90"), backendText("b:2", "10.0.0.1:80 100", "10.0.0.1:90 0"),
			"b:1/10.0.0.1:90 10.0.0.1:80",
		},
		"a node is gone, and the only other one drains": {
			up("b", "10.0.0.1:80", "10.0.0.1:80") + stateLine("b", "10.0.0.2:80", "10.0.0.2:80", 8, 100, 100), backendText("b", "10.0.0.2:80 100"), "",
		},
		"a node is gone, and the only other one has the weight 0": {
			up("b", "10.0.0.1:80", "10.0.0.1:80") + stateLine("b", "10.0.0.2:80", "10.0.0.2:80", 0, 0, 100), backendText("b", "10.0.0.2:80 100"), "",
		},
		"the whole route is gone":      {up("b", "10.0.0.1:80", "10.0.0.1:80"), backendText("c", "10.0.0.1:80 100"), ""},
		"two new ports on one node":    {up("b", "10.0.0.1:80", "10.0.0.1:80"), backendText("b", "10.0.0.1:81 100", "10.0.0.1:82 100"), ""},
		"servers that others track":    {up("nodes.a", "10.0.0.1:9707", "10.0.0.1:9707") + up("nodes.a", "10.0.0.2:9707", "10.0.0.2:9707"), backendText("nodes.a", "10.0.0.2:9707 100"), ""},
		"IPv6":                         {up("b", "fd00::1:80", "[fd00::1]:80"), "backend b\n    server fd00::1:81 [fd00::1]:81 weight 1\n", "b/fd00::1:80 [fd00::1]:81"},
		"a name that is no address":    {up("b", "web1", "10.0.0.1:80"), backendText("b", "10.0.0.1:81 100"), ""},
		"a new server beside a server": {up("b", "10.0.0.1:80", "10.0.0.1:80"), backendText("b", "10.0.0.1:80 100", "10.0.0.1:81 100"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseState(stateHead + tc.state)
			require.NoError(t, err)
			var got []string
			for _, m := range s.moves(readMembers([]byte(tc.config))) {
				got = append(got, fmt.Sprintf("%s/%s %v", m.backend, m.name, m.to))
			}
			require.Equal(t, tc.want, strings.Join(got, ", "))
		})
	}
}

func TestParseStateRefuses(t *testing.T) {
	for _, text := range []string{"", "1\n", "1\n# be_name srv_name\n", "Unknown command.\n", "1\n#\n"} {
		_, err := parseState(text)
		require.Error(t, err, "%q", text)
	}
}

// FuzzCarry uses any state and any configuration. The state stays readable. If a server of the
// configuration has a state, the address in the state is the address of this server.
func FuzzCarry(f *testing.F) {
	f.Fuzz(func(t *testing.T, text, config string) {
		s, err := parseState(text)
		if err != nil {
			return
		}
		to := readMembers([]byte(config))
		for _, m := range s.moves(to) {
			if !m.to.IsValid() || m.to.Port() == 0 && !strings.Contains(config, ":0") {
				t.Fatalf("%+v", m)
			}
		}
		s.carry(to)
		again, err := parseState(s.String())
		if err != nil || len(again.servers) != len(s.servers) {
			t.Fatalf("%d servers of %d: %v", len(again.servers), len(s.servers), err)
		}
	})
}

// TestMovesDoNotStop makes three moves. HAProxy refuses the first one.
func TestMovesDoNotStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	commands := make(chan string, 3)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			commands <- line
			answer := "IP changed from '192.0.2.1' to '192.0.2.2'\n\n"
			if strings.Contains(line, "b/first") {
				answer = "No such server.\n\n"
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	to := netip.MustParseAddrPort("192.0.2.2:80")
	err = makeMoves(t.Context(), runtimeapi.Socket{Path: path}, []move{{"b", "first", to}, {"b", "second", to}, {"b", "third", to}})
	require.ErrorContains(t, err, "b/first")
	require.Len(t, commands, 3)
}

// TestSavedStateAfterRuntimeChanges: the saved state contains what a Runtime has changed since
// HAProxy started. It must not bring back an old weight or the maintenance of a removed server.
func TestSavedStateAfterRuntimeChanges(t *testing.T) {
	const head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port\n"
	before := readMembers([]byte("backend b\n server 10.0.0.1:80 10.0.0.1:80 weight 50\n server 10.0.0.2:80 10.0.0.2:80 weight 50\n" +
		" server 10.0.0.3:80-81 10.0.0.3:80 weight 50 agent-check agent-port 81\n server 10.0.0.4:80 10.0.0.4:80 weight 50\n"))
	now := readMembers([]byte("backend b\n server 10.0.0.1:80 10.0.0.1:80 weight 100\n server 10.0.0.2:80 10.0.0.2:80 weight 100\n" +
		" server 10.0.0.3:80-81 10.0.0.3:80 weight 100 agent-check agent-port 81\n server 10.0.0.4:80 10.0.0.4:80 weight 50\n server 10.0.0.5:80 10.0.0.5:80 weight 9\n"))
	s, err := parseState(head +
		"1 b 1 10.0.0.1:80 10.0.0.1 2 0 50 100 80\n" + // HAProxy got the weight 50 at run time
		"1 b 2 10.0.0.2:80 10.0.0.2 2 0 7 100 80\n" + // a person has set the weight 7
		"1 b 3 10.0.0.3:80-81 10.0.0.3 2 0 50 100 80\n" + // the agent answers 50%
		"1 b 4 10.0.0.4:80 10.0.0.4 0 1 50 50 80\n" + // a person has set the maintenance
		"1 b 5 10.0.0.5:80 10.0.0.5 0 1 9 9 80\n") // the server was removed earlier, and returns
	require.NoError(t, err)
	s.dropLeftovers(before)
	s.reweigh(before, now)
	require.Equal(t, head+
		"1 b 1 10.0.0.1:80 10.0.0.1 2 0 100 100 80\n"+
		"1 b 2 10.0.0.2:80 10.0.0.2 2 0 7 100 80\n"+
		"1 b 3 10.0.0.3:80-81 10.0.0.3 2 0 50 100 80\n"+
		"1 b 4 10.0.0.4:80 10.0.0.4 0 1 50 50 80\n", s.String())
}

// TestSavedStateKeepsForeignServers: the saved state keeps the servers of backends that the
// configuration does not contain. They belong to the files of somebody else, who has set the
// maintenance and the weight, and may use the name of a spare server.
func TestSavedStateKeepsForeignServers(t *testing.T) {
	const spare = "spare1" // see haproxycfg.Server.Spare
	foreign := stateLine("app", "web1", "10.0.0.9:80", 1, 7, 100) + stateLine("app", spare, "10.0.0.8:80", 1, 100, 100)
	ours := stateLine("headgate-b", "10.0.0.1:80", "10.0.0.1:80", 0, 100, 100)
	s, err := parseState(stateHead + foreign + ours +
		stateLine("headgate-b", "10.0.0.2:80", "10.0.0.2:80", 1, 100, 100) + stateLine("headgate-b", spare, "10.0.0.3:80", 0, 100, 100))
	require.NoError(t, err)
	config := readMembers([]byte(backendText("headgate-b", "10.0.0.1:80 100")))
	s.dropLeftovers(config)
	s.reweigh(config, config)
	s.carry(config)
	require.Equal(t, stateHead+foreign+ours, s.String())
}
