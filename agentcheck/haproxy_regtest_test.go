package agentcheck_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// agentInTest matches the agent in HAProxy's regression test. It waits at the barrier b1, sends one
// answer, and waits at the barrier b2.
var agentInTest = regexp.MustCompile(`(?s)server s1 \{\s+barrier b1 sync\s.*?send "75%,maxconn:30,maint,down\\n"\s+expect_close\s+barrier b2 sync\s+\} -start`)

// agentOfServer is a client that waits at both barriers for our agent. The agent sends its answer
// after it gets a byte from this client, and closes this connection when HAProxy has read the answer.
const agentOfServer = `client c1 -connect "${gate}" {
  barrier b1 sync
  send "x"
  expect_close
  barrier b2 sync
} -start`

// TestRegressionTestOfHAProxy runs HAProxy's own test of agent checks, first with the agent of the
// test and then with a Server as the agent. "make haproxies" fetches HAProxy's test. If HAProxy's
// test is missing, TestRegressionTestOfHAProxy does nothing.
func TestRegressionTestOfHAProxy(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("HAPROXY_DIR"), "reg-tests/checks/agent-check.vtc"))
	require.NoError(t, err)
	if len(haproxytest.Required()) > 0 {
		require.NotEmpty(t, files, "make haproxies fetches HAProxy's own tests")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		// HAProxy waits for an answer for the time agent-inter. 100 ms are too short on a busy machine.
		const interval = "agent-inter 100ms"
		require.Contains(t, string(text), interval)
		text = bytes.ReplaceAll(text, []byte(interval), []byte("agent-inter 1s"))
		require.Len(t, agentInTest.FindAllIndex(text, -1), 1, "the agent in %s", file)
		run := func(text []byte, macros map[string]string) {
			changed := filepath.Join(t.TempDir(), "agent-check.vtc")
			require.NoError(t, os.WriteFile(changed, text, 0o600))
			haproxytest.Varnishtest(t, changed, macros)
		}
		run(text, nil)
		agent, gate := startGatedAgent(t)
		run(agentInTest.ReplaceAllLiteral(text, []byte(agentOfServer)), map[string]string{
			"s1_addr": "127.0.0.1", "s1_port": strconv.Itoa(agent), "gate": gate,
		})
	}
}

// startGatedAgent starts a Server whose answers change nothing at first. When a client has sent a byte
// to the address gate, the Server changes to the answer in HAProxy's regression test.
func startGatedAgent(t *testing.T) (port int, gate string) {
	t.Helper()
	down := agentcheck.Reply{State: agentcheck.Down, Admin: agentcheck.Maint, Weight: agentcheck.Percent(75), MaxConn: agentcheck.Connections(30)}
	open, again := make(chan struct{}), make(chan struct{})
	var answers atomic.Int32
	l, g := listen(t), listen(t)
	startOn(t, &agentcheck.Server{Handler: agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply {
		select {
		case <-open:
		default:
			return agentcheck.Reply{}
		}
		if answers.Add(1) == 2 { // HAProxy asks again after it has read the first answer
			close(again)
		}
		return down
	})}, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := g.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			close(open)
			select {
			case <-again:
			case <-t.Context().Done(): // the test has failed
			}
		}
	}()
	t.Cleanup(func() { _ = g.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port, g.Addr().String()
}
