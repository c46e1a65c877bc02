package agentcheck_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/netserve"
)

// This file runs a real HAProxy. A test sets the bytes that the agent of each server answers, and
// reads the state of the servers back.

// rig is a HAProxy with the agent of all its servers.
type rig struct {
	haproxy *haproxyproc.Process
	socket  runtimeapi.Socket
	group   netserve.Group

	mu       sync.Mutex
	answers  map[string][]byte         // by server name
	gone     map[string]func(net.Conn) // called instead of answering
	asked    map[string]int            // number of checks
	progress chan struct{}             // closed and replaced at each check
}

// rigServer is one server of the rig. HAProxy sends its name with agent-send.
type rigServer struct {
	name     string
	weight   int
	balance  string // "" is roundrobin
	hashType string // "" is HAProxy's default
	options  string // more words of the server line
}

// patient is a time-out that is long enough for a complete answer on a busy machine.
const patient = "15s"

// newRig starts a HAProxy with these servers. At first all agents answer an empty line, which
// changes nothing. timeout is the value of HAProxy's timeout check.
func newRig(t *testing.T, timeout string, servers []rigServer) *rig {
	t.Helper()
	r := &rig{
		answers:  make(map[string][]byte),
		asked:    make(map[string]int),
		progress: make(chan struct{}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- r.group.Serve(l, r.serveConn) }()
	t.Cleanup(func() {
		r.group.Close()
		<-served
	})
	for _, s := range servers {
		r.answers[s.name] = []byte("\n")
	}

	dir := haproxytest.Dir(t)
	r.haproxy = haproxytest.Start(t, dir, rigConfig(dir, timeout, l.Addr().(*net.TCPAddr).Port, servers))
	r.socket = runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	return r
}

// rigConfig renders one backend for each balance algorithm. Health checks connect to the agent's
// port, which accepts every connection. With max-spread-checks, HAProxy does not spread the first
// checks over the longest interval. With "timeout check", HAProxy waits for an answer for longer
// than agent-inter. The value of agent-inter grows with the number of servers, because a busy
// machine can do about 500 checks a second.
//
// HAProxy has one thread. With several, "show stat" can read a server while another thread begins a
// check: the message of the last answer is gone already, and no check seems to run.
func rigConfig(dir, timeout string, port int, servers []rigServer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  nbthread 1\n  stats socket %s/stats.sock level admin\n  max-spread-checks 100\n", dir)
	fmt.Fprintf(&b, "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n  timeout check %s\n", timeout)
	type algorithm struct{ balance, hashType string }
	backends := make(map[algorithm][]rigServer)
	var order []algorithm
	for _, s := range servers {
		a := algorithm{s.balance, s.hashType}
		if backends[a] == nil {
			order = append(order, a)
		}
		backends[a] = append(backends[a], s)
	}
	for i, a := range order {
		fmt.Fprintf(&b, "backend b%d\n  balance %s\n", i, cmp.Or(a.balance, "roundrobin"))
		if a.hashType != "" {
			fmt.Fprintf(&b, "  hash-type %s\n", a.hashType)
		}
		fmt.Fprintf(&b, "  default-server check inter 1h agent-check agent-inter %dms agent-addr 127.0.0.1 agent-port %d\n", max(150, 2*len(servers)), port)
		for _, s := range backends[a] {
			fmt.Fprintf(&b, "  server %s 127.0.0.1:%d weight %d agent-send %s\\n %s\n", s.name, port, s.weight, s.name, s.options)
		}
	}
	return b.String()
}

// serveConn reads a line with the name of a server and writes the bytes of its answer. A health
// check sends no name and gets no answer.
func (r *rig) serveConn(_ context.Context, c net.Conn) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	name, err := bufio.NewReaderSize(c, 64).ReadString('\n')
	if err != nil {
		return
	}
	name = strings.TrimSuffix(name, "\n")
	r.mu.Lock()
	answer, gone := r.answers[name], r.gone[name]
	r.asked[name]++
	close(r.progress)
	r.progress = make(chan struct{})
	r.mu.Unlock()
	if gone != nil {
		gone(c)
		return
	}
	c.Write(answer)
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
}

// answer sets the answers of some servers. It returns when HAProxy has read each answer: HAProxy
// asks an agent again only after it has processed the previous answer.
func (r *rig) answer(t *testing.T, answers map[string][]byte) {
	t.Helper()
	require.True(t, r.survives(t, answers), "HAProxy has ended")
}

// survives does the same as the method "answer", for answers that may crash HAProxy. It reports
// whether HAProxy still runs.
func (r *rig) survives(t *testing.T, answers map[string][]byte) bool {
	t.Helper()
	want := make(map[string]int)
	r.mu.Lock()
	for name, a := range answers {
		r.answers[name] = a
		want[name] = r.asked[name] + 2
	}
	r.mu.Unlock()

	deadline := time.After(patience)
	for {
		r.mu.Lock()
		progress := r.progress
		for name, n := range want {
			if r.asked[name] >= n {
				delete(want, name)
			}
		}
		r.mu.Unlock()
		if len(want) == 0 {
			return true
		}
		select {
		case <-progress:
		case <-r.haproxy.Done():
			return false
		case <-deadline:
			t.Fatalf("HAProxy did not ask for %d of %d servers", len(want), len(answers))
		}
	}
}

// insist calls the method "answer" until each server has the wanted weight. One call is not enough
// if the time-out is short, because an answer may come too late.
func (r *rig) insist(t *testing.T, answers map[string][]byte, want model) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		r.answer(t, answers)
		servers, late := r.look(t), 0
		for name := range answers {
			if servers[name].weight != want.weight {
				late++
			}
		}
		if late == 0 {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d servers did not get their first answer", late)
	}
}

// do runs commands on the stats socket. Each of them must print nothing.
func (r *rig) do(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		out, err := r.socket.Do(t.Context(), c)
		require.NoError(t, err)
		require.Empty(t, strings.TrimSpace(out), "%s", c)
	}
}

// seen is the state of a server as HAProxy shows it.
type seen struct {
	down, drain, maint bool
	weight             int
	maxConn            uint32 // 0 is unlimited
	status             string // from the statistics page
	agent              string // message about the agent's last answer
	check              string // result of the last agent check, such as "L7OK"
}

// Bits of srv_admin_state in "show servers state" (HAProxy management guide, section 9.3).
const (
	adminForcedMaint = 0x01
	adminForcedDrain = 0x08
)

// lateConnect is the result of a check whose connection took longer than agent-inter. HAProxy then
// shows no message. A local connection takes nearly no time, but on a busy machine HAProxy may read
// the clock too late.
const lateConnect = "L4TOUT"

// look returns the state of every server. HAProxy shows the message about the last answer only
// between two checks. So look repeats until it has seen each server between two checks.
func (r *rig) look(t *testing.T) map[string]seen {
	t.Helper()
	servers := make(map[string]seen)
	for deadline := time.Now().Add(patience); ; {
		checked := true
		now, asking := r.lookOnce(t)
		for name, s := range now {
			if !asking[name] && s.check != lateConnect {
				servers[name] = s
			} else if _, ok := servers[name]; !ok {
				checked = false
			}
		}
		if checked {
			return servers
		}
		require.True(t, time.Now().Before(deadline), "HAProxy is always within a check")
	}
}

// lookOnce returns the state of the servers, and the servers with a running agent check.
func (r *rig) lookOnce(t *testing.T) (servers map[string]seen, asking map[string]bool) {
	t.Helper()
	servers, asking = make(map[string]seen), make(map[string]bool)

	state, err := r.socket.Do(t.Context(), "show servers state")
	require.NoError(t, err)
	var header []string
	for line := range strings.Lines(state) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "#" {
			header = fields[1:]
			continue
		}
		if len(fields) < len(header) || header == nil {
			continue
		}
		row := rowOf(header, fields)
		admin := atoi(t, row["srv_admin_state"])
		servers[row["srv_name"]] = seen{
			down:   row["srv_op_state"] == "0",
			drain:  admin&adminForcedDrain != 0,
			maint:  admin&adminForcedMaint != 0,
			weight: atoi(t, row["srv_uweight"]),
		}
	}

	table, err := r.socket.Do(t.Context(), "show stat -1 4 -1")
	require.NoError(t, err)
	rows := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(table, "# "))))
	rows.FieldsPerRecord = -1
	header, err = rows.Read()
	require.NoError(t, err)
	for {
		fields, err := rows.Read()
		if err == io.EOF {
			return servers, asking
		}
		require.NoError(t, err)
		row := rowOf(header, fields)
		s, ok := servers[row["svname"]]
		if !ok {
			continue
		}
		asking[row["svname"]] = strings.HasPrefix(row["agent_status"], "* ")
		s.status = row["status"]
		s.agent = row["last_agt"]
		s.check = strings.TrimPrefix(row["agent_status"], "* ")
		if limit := row["slim"]; limit != "" {
			n, err := strconv.ParseUint(limit, 10, 32)
			require.NoError(t, err)
			s.maxConn = uint32(n)
		}
		servers[row["svname"]] = s
	}
}

func rowOf(header, fields []string) map[string]string {
	row := make(map[string]string, len(header))
	for i, name := range header {
		if i < len(fields) {
			row[name] = fields[i]
		}
	}
	return row
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// version returns HAProxy's version, such as "2.6.12-1".
func (r *rig) version(t *testing.T) string {
	t.Helper()
	info, err := r.socket.Do(t.Context(), "show info")
	require.NoError(t, err)
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no version in %q", info)
	return ""
}
