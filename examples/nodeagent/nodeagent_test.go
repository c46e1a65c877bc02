package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// freePorts returns ports that no other test gets during this test.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i, port := range haproxytest.Ports(t, n) {
		ports[i] = strconv.Itoa(port)
	}
	return ports
}

func manifests(unschedulable bool, weight, agentPort string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: a}, spec: {unschedulable: %t}}
- {apiVersion: v1, kind: Node, metadata: {name: b}}
- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: tracks, annotations: {headgate.dev/agent-port: "%s", headgate.dev/weight: "%s"}}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}}
`, unschedulable, agentPort, weight)
}

func TestAnswersFollowTheManifests(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "objects.yaml")
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	ports := freePorts(t, 4)
	node, service, other, admin := ports[0], ports[1], ports[2], ports[3]
	write(manifests(false, "50", service))

	ctx, cancel := context.WithCancel(t.Context())
	stderr := &clitest.Output{}
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, cli.Invocation{
			Args:   []string{"-node", "a", "-listen", "127.0.0.1:" + node, "-dir", dir, "-hold-down", "0", "-zero-weight-delay", "0", "-admin", "127.0.0.1:" + admin},
			Stderr: stderr,
		})
	}()
	answers := func(port, want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			reply, err := new(agentcheck.Client).Check(ctx, "127.0.0.1:"+port)
			return err == nil && reply.String() == want
		}, time.Minute, 10*time.Millisecond, "%s on %s; %s", want, port, stderr)
	}
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get("http://127.0.0.1:" + admin + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}

	answers(node, "up ready")
	answers(service, "up ready 50%")
	// The ports give the new answers a moment before the admin pages show the new state.
	shows := func(path, want string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(get(path), want) },
			time.Minute, 10*time.Millisecond, "%s without %q; %s", path, want, stderr)
	}
	require.Eventually(t, func() bool { return get("/readyz") == "ok\n" }, time.Minute, 10*time.Millisecond, "%s", stderr)

	write(manifests(true, "50", service)) // cordoned
	answers(node, "up drain # cordoned")
	answers(service, "up drain 50% # cordoned")
	shows("/metrics", `headgate_agent_draining{service=""} 1`)

	write(manifests(false, "0", other)) // uncordoned, another weight on another port
	answers(node, "up ready")
	answers(other, "up ready 0%")
	// The agent closes the old port after it has opened the new one.
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+service)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, time.Minute, 10*time.Millisecond, "the old port stays open; %s", stderr)

	write(manifests(false, "lots", other)) // an invalid weight counts as no annotation
	answers(other, "up ready 100%")
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "want a weight in percent") },
		time.Minute, 10*time.Millisecond)
	shows("/metrics", "headgate_agent_problems 1")
	shows("/metrics", `headgate_agent_checks_total{outcome="answered",service="media/tracks"}`)
	clitest.Scrape(t, get("/metrics"))

	write(manifests(false, "70", admin)) // no Service may have the port of the metrics
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "it is reserved") }, time.Minute, 10*time.Millisecond)
	answers(node, "up ready")

	write("kind: Node\nmetadata: {name: [\n") // a truncated file: the last good state stays
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "objects.yaml:") }, time.Minute, 10*time.Millisecond)
	answers(node, "up ready")

	write("apiVersion: v1\nkind: List\nitems: []\n") // all nodes are missing, probably by mistake
	answers(node, "up ready # node is gone; waits: 2 of 2 nodes are gone, no more than 1 are believed at once (30%)")

	write("{apiVersion: v1, kind: Node, metadata: {name: b}}\n") // the node is deleted
	answers(node, "up drain # node is gone")

	cancel()
	require.Equal(t, cli.ExitOK, <-exited, stderr.String())
}

func TestAgentRetriesAPortInUse(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 3)
	admin := ports[2]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifests(false, "50", ports[1])), 0o600))
	taken, err := net.Listen("tcp", "127.0.0.1:"+ports[1])
	require.NoError(t, err)
	defer taken.Close()
	ctx, cancel := context.WithCancel(t.Context())
	stderr := &clitest.Output{}
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, cli.Invocation{Args: []string{"-node", "a", "-listen", "127.0.0.1:" + ports[0], "-dir", dir, "-admin", "127.0.0.1:" + admin}, Stderr: stderr})
	}()
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "address already in use") }, time.Minute, 10*time.Millisecond)
	requirePage(t, &running{stderr: stderr}, admin, "/readyz", http.StatusOK, "ok\nagentcheck/nodeagent: agent port of media/tracks: ")
	requirePage(t, &running{stderr: stderr}, admin, "/metrics", http.StatusOK, "headgate_agent_problems 1")
	reply, err := (&agentcheck.Client{Timeout: time.Minute}).Check(ctx, "127.0.0.1:"+ports[0])
	require.NoError(t, err, "the agent of the node answers meanwhile")
	require.Equal(t, "up ready", reply.String())
	require.NoError(t, taken.Close())
	require.Eventually(t, func() bool {
		reply, err := new(agentcheck.Client).Check(ctx, "127.0.0.1:"+ports[1])
		return err == nil && reply.String() == "up ready 50%"
	}, time.Minute, 10*time.Millisecond)
	requirePage(t, &running{stderr: stderr}, admin, "/metrics", http.StatusOK, "headgate_agent_problems 0")
	require.Eventually(t, func() bool {
		_, body := page(t, admin, "/readyz")
		return body == "ok\n"
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.Equal(t, cli.ExitOK, <-exited, stderr.String())
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifests(false, "50", "9801")), 0o600))
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing given", nil, cli.ExitUsage, "-node is needed"},
		{"bad address", []string{"-node", "a", "-dir", dir, "-listen", "here"}, cli.ExitUsage, "-listen here: "},
		{"bad port", []string{"-node", "a", "-dir", dir, "-listen", ":70000"}, cli.ExitUsage, "want a port"},
		{"no such node", []string{"-node", "c", "-dir", dir, "-listen", "127.0.0.1:1"}, cli.ExitFailed, `no such node: "c"; there are a, b`},
		{"no such directory", []string{"-node", "a", "-dir", filepath.Join(dir, "none")}, cli.ExitFailed, "none"},
		{"two clusters", []string{"-node", "a", "-dir", dir, "-kubeconfig", "x"}, cli.ExitUsage, "exclude each other"},
		{"no such kubeconfig", []string{"-node", "a", "-kubeconfig", filepath.Join(dir, "none")}, cli.ExitUsage, "no such file"},
		{"share of nothing", []string{"-node", "a", "-dir", dir, "-max-drain", "0%"}, cli.ExitUsage, "more than 0%"},
		{"share of too much", []string{"-node", "a", "-dir", dir, "-max-drain", "101%"}, cli.ExitUsage, "-max-drain 101%"},
		{"no label", []string{"-node", "a", "-dir", dir, "-drain-label", "a=b"}, cli.ExitUsage, "-drain-label a=b"},
		{"drain without an address", []string{"drain"}, cli.ExitUsage, "-admin is needed"},
		{"drain at a bad address", []string{"drain", "-admin", "here"}, cli.ExitUsage, "missing port"},
		{"drain for ever", []string{"drain", "-admin", ":1", "-timeout", "24h"}, cli.ExitUsage, "at most 10m"},
		{"admin address", []string{"-node", "a", "-dir", dir, "-admin", "256.0.0.1:1"}, cli.ExitFailed, "256.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stderr := &clitest.Output{}
			code := run(t.Context(), cli.Invocation{Args: tt.args, Stderr: stderr})
			require.Equal(t, tt.code, code, stderr.String())
			require.Contains(t, stderr.String(), tt.want)
		})
	}
}
