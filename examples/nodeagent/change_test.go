package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// running is an agent that runs in the background.
type running struct {
	stop   context.CancelFunc
	exited chan int
	stderr *clitest.Output
}

func startAgent(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel, make(chan int, 1), &clitest.Output{}}
	go func() { r.exited <- run(ctx, cli.Invocation{Args: args, Stderr: r.stderr}) }()
	return r
}

// requireStops stops the agent and checks that it exits without a failure.
func (r *running) requireStops(t *testing.T) {
	t.Helper()
	r.stop()
	require.Equal(t, cli.ExitOK, <-r.exited, r.stderr)
}

func requireAnswer(t *testing.T, r *running, port, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		reply, err := new(agentcheck.Client).Check(t.Context(), "127.0.0.1:"+port)
		return err == nil && reply.String() == want
	}, time.Minute, 10*time.Millisecond, "%s on %s; %s", want, port, r.stderr)
}

func page(t *testing.T, admin, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + admin + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// TestServicesComeAndGo changes 200 Services repeatedly, faster than the agent can follow. The
// annotations of some Services name the same port. In the end, the agent must give the answers for
// the last state, and its metrics must have the Services of this state and no others.
func TestServicesComeAndGo(t *testing.T) {
	const services, rounds = 200, 40
	rng := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	ports := freePorts(t, services+2)
	node, admin, ports := ports[0], ports[1], ports[2:]

	var wanted []string // the service that gets each port; "" if no service names the port
	write := func() {
		wanted = make([]string, len(ports))
		text := "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n"
		for i := range services {
			if rng.IntN(3) == 0 {
				continue
			}
			name, p := fmt.Sprintf("s%03d", i), rng.IntN(len(ports))
			text += fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: %s, annotations: {headgate.dev/agent-port: %q, headgate.dev/weight: %q}}, spec: {type: NodePort, ports: [{port: 80, nodePort: %d}]}}\n",
				name, ports[p], fmt.Sprint(i), 50000+i) // the test opens no node ports
			if wanted[p] == "" { // the first Service by name gets the port
				wanted[p] = name
			}
		}
		file := filepath.Join(dir, "objects.yaml")
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write()
	agent := startAgent(t, "-node", "a", "-listen", "127.0.0.1:"+node, "-dir", dir, "-admin", "127.0.0.1:"+admin)
	requireAnswer(t, agent, node, "up ready")

	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for w := range 2 {
		asking.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				_, _ = new(agentcheck.Client).Check(ctx, "127.0.0.1:"+ports[i%len(ports)])
			}
		})
	}
	for range rounds {
		write()
		requireAnswer(t, agent, node, "up ready")
	}
	cancel()
	asking.Wait()

	open := 0
	for i, service := range wanted {
		if service == "" {
			require.Eventually(t, func() bool {
				c, err := net.Dial("tcp", "127.0.0.1:"+ports[i])
				if err == nil {
					c.Close()
				}
				return err != nil
			}, time.Minute, 10*time.Millisecond, "a port that nobody wants stays open; %s", agent.stderr)
			continue
		}
		open++
		var weight int
		_, err := fmt.Sscanf(service, "s%d", &weight)
		require.NoError(t, err)
		requireAnswer(t, agent, ports[i], fmt.Sprintf("up ready %d%%", weight))
	}
	require.Eventually(t, func() bool {
		status, _ := page(t, admin, "/readyz")
		return status == http.StatusOK
	}, time.Minute, 10*time.Millisecond)

	var metrics string
	require.Eventually(t, func() bool { // the agent updates the metrics after the answers
		_, metrics = page(t, admin, "/metrics")
		return strings.Count(metrics, "headgate_agent_draining{") == 1+open && strings.Count(metrics, "headgate_agent_weight_percent{") == open
	}, time.Minute, 10*time.Millisecond)
	for _, m := range regexp.MustCompile(`headgate_agent_checks_total\{.*service="(?:media/)?([^"]*)"`).FindAllStringSubmatch(metrics, -1) {
		if m[1] != "" {
			require.Contains(t, wanted, m[1], "metrics of a service that is gone")
		}
	}
	agent.requireStops(t)
}

// TestRollingRestart starts a second agent while the first agent still listens on the ports. A
// DaemonSet may do this for a moment. The second agent is not ready. When the first agent stops,
// the second agent opens the ports.
func TestRollingRestart(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 4)
	node, service, oldAdmin, newAdmin := ports[0], ports[1], ports[2], ports[3]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifests(false, "50", service)), 0o600))
	args := []string{"-node", "a", "-listen", "127.0.0.1:" + node, "-dir", dir, "-admin"}
	first := startAgent(t, append(args, "127.0.0.1:"+oldAdmin)...)
	requireAnswer(t, first, service, "up ready 50%")

	second := startAgent(t, append(args, "127.0.0.1:"+newAdmin)...)
	require.Eventually(t, func() bool { return strings.Contains(second.stderr.String(), "address already in use") }, time.Minute, 10*time.Millisecond)
	requirePage(t, second, newAdmin, "/readyz", http.StatusServiceUnavailable, "address already in use")
	requireAnswer(t, first, service, "up ready 50%")

	first.requireStops(t)
	requireAnswer(t, second, node, "up ready")
	requireAnswer(t, second, service, "up ready 50%")
	// One line for each reason, however often it was tried. While the first agent closes its ports, the
	// reason may change.
	lines := map[string]int{}
	for _, line := range regexp.MustCompile(`some agents do not answer.*`).FindAllString(second.stderr.String(), -1) {
		lines[line]++
		require.Equal(t, 1, lines[line], second.stderr)
	}
	require.NotEmpty(t, lines, second.stderr)
	second.requireStops(t)
}

// An agent exits with success even if checks continue to arrive, and even if a client keeps its
// connection open.
func TestStopsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 2)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifests(false, "50", ports[1])), 0o600))
	agent := startAgent(t, "-node", "a", "-listen", "127.0.0.1:"+ports[0], "-dir", dir)
	requireAnswer(t, agent, ports[1], "up ready 50%")

	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				_, _ = new(agentcheck.Client).Check(ctx, "127.0.0.1:"+ports[1])
			}
		})
	}
	stays, err := net.Dial("tcp", "127.0.0.1:"+ports[0])
	require.NoError(t, err)
	defer stays.Close()
	agent.requireStops(t)
	cancel()
	asking.Wait()
}

// The agent logs a problem once. It does not log the problem again when something else changes.
func TestProblemsAreLoggedOnce(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 2)
	file := filepath.Join(dir, "a.yaml")
	agentPort := ports[1]
	require.NoError(t, os.WriteFile(file, []byte(manifests(false, "lots", agentPort)), 0o600))
	agent := startAgent(t, "-node", "a", "-listen", "127.0.0.1:"+ports[0], "-dir", dir, "-hold-down", "0")
	for _, cordoned := range []bool{true, false, true} {
		want := map[bool]string{true: "up drain # cordoned", false: "up ready"}[cordoned]
		require.NoError(t, os.WriteFile(file+".new", []byte(manifests(cordoned, "lots", agentPort)), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
		requireAnswer(t, agent, ports[0], want)
	}
	require.Equal(t, 1, strings.Count(agent.stderr.String(), "want a weight in percent"), agent.stderr)
	agent.requireStops(t)
}
