package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
)

// apiServer starts an API server with the nodes n0, n1, n2 and so on, and a Service with an agent
// port. It also returns the path of a kubeconfig for the server.
func apiServer(t *testing.T, nodes int, agentPort string) (server *kubewatchtest.Server, kubeconfig string) {
	t.Helper()
	server = kubewatchtest.New(t)
	for i := range nodes {
		server.Set(liveNode(i, false))
	}
	server.Set(liveService(agentPort, "50"))
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: eu-1, cluster: {server: %q}}]
contexts: [{name: eu-1, context: {cluster: eu-1}}]
current-context: eu-1
`, server.Config().Host), 0o600))
	return server, kubeconfig
}

func liveNode(i int, cordoned bool) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}, Spec: corev1.NodeSpec{Unschedulable: cordoned}}
}

func liveService(agentPort, weight string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "tracks", Annotations: map[string]string{
			"headgate.dev/agent-port": agentPort, "headgate.dev/weight": weight,
		}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}},
	}
}

func requirePage(t *testing.T, r *running, admin, path string, status int, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://127.0.0.1:" + admin + path)
		if err != nil {
			return false
		}
		resp.Body.Close()
		code, body := page(t, admin, path)
		return code == status && strings.Contains(body, want)
	}, time.Minute, 10*time.Millisecond, "%s: want %d %s; %s", path, status, want, r.stderr)
}

func TestLiveCluster(t *testing.T) {
	ports := freePorts(t, 3)
	node, service, admin := ports[0], ports[1], ports[2]
	server, kubeconfig := apiServer(t, 4, service)
	file := filepath.Join(t.TempDir(), "drain")
	agent := startAgent(t, "-node", "n0", "-listen", "127.0.0.1:"+node, "-kubeconfig", kubeconfig+":eu-1",
		"-admin", "127.0.0.1:"+admin, "-hold-down", "0", "-drain-file", file,
		"-drain-label", "example.com/repair", "-drain-taint", "example.com/full", "-max-drain", "30%")
	requireAnswer(t, agent, node, "up ready")
	requireAnswer(t, agent, service, "up ready 50%")
	requirePage(t, agent, admin, "/readyz", 200, "ok\n")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_api_up 1")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_ports 2")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_nodes 4")

	server.Set(liveService(service, "100"))
	requireAnswer(t, agent, service, "up ready 100%")

	// The causes of -drain-label, -drain-taint and -drain-file drain the node.
	labelled := liveNode(0, false)
	labelled.Labels = map[string]string{"example.com/repair": "disk"}
	server.Set(labelled)
	requireAnswer(t, agent, node, `up drain # label example.com/repair="disk"`)
	tainted := liveNode(0, false)
	tainted.Spec.Taints = []corev1.Taint{{Key: "example.com/full", Effect: corev1.TaintEffectNoSchedule}}
	server.Set(tainted)
	requireAnswer(t, agent, node, "up drain # taint example.com/full")
	server.Set(liveNode(0, false))
	requireAnswer(t, agent, node, "up ready")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	requireAnswer(t, agent, node, "up drain # file "+file)
	requirePage(t, agent, admin, "/metrics", 200, `headgate_agent_drain_reason{reason="file `+file+`"} 1`)
	require.NoError(t, os.Remove(file))
	requireAnswer(t, agent, node, "up ready")

	// Another node drains first.
	server.Set(liveNode(1, true))
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_nodes_draining 1")
	cordoned := liveNode(0, true)
	cordoned.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, TimeAdded: &metav1.Time{Time: time.Now().Add(time.Hour)}}}
	server.Set(cordoned)
	requireAnswer(t, agent, node, "up ready # cordoned; waits: 1 of 4 nodes drains, no more than 1 may (30%)")
	requireAnswer(t, agent, service, "up ready 100% # cordoned; waits: 1 of 4 nodes drains, no more than 1 may (30%)")
	for _, want := range []string{
		"headgate_agent_drain_wanted 1", "headgate_agent_drain_effective 0", "headgate_agent_drain_waiting 1",
		"headgate_agent_drain_limit 1", "headgate_agent_nodes_waiting 1", `headgate_agent_drain_reason{reason="cordoned"} 1`,
	} {
		requirePage(t, agent, admin, "/metrics", 200, want)
	}

	// While the API server does not answer, the agent gives its last answers, and /readyz says so.
	server.Refuse("list", 503)
	server.Refuse("watch", 503)
	requirePage(t, agent, admin, "/readyz", 200, "ok\nagentcheck/nodeagent: the last good state stays in force: ")
	requirePage(t, agent, admin, "/readyz", 200, "; last heard 20")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_api_up 0")
	requireAnswer(t, agent, service, "up ready 100% # cordoned; waits: 1 of 4 nodes drains, no more than 1 may (30%)")
	server.Set(liveNode(1, false), liveService(service, "70"))
	server.Refuse("watch", 0)
	server.Refuse("list", 0)
	requireAnswer(t, agent, node, "up drain # cordoned")
	requireAnswer(t, agent, service, "up drain 70% # cordoned")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_api_up 1")
	require.Contains(t, agent.stderr.String(), "no contact with the cluster")
	agent.requireStops(t)
}

// An agent that does not know its cluster yet does not answer, because its answers might be wrong.
// HAProxy keeps the last answers.
func TestLiveClusterAwayAtStart(t *testing.T) {
	ports := freePorts(t, 3)
	node, service, admin := ports[0], ports[1], ports[2]
	server, kubeconfig := apiServer(t, 2, service)
	server.Set(liveNode(0, true))
	server.Refuse("list", 403)
	server.Refuse("watch", 403)
	agent := startAgent(t, "-node", "n0", "-listen", "127.0.0.1:"+node, "-kubeconfig", kubeconfig, "-admin", "127.0.0.1:"+admin)
	requirePage(t, agent, admin, "/readyz", 503, "refused with 403")
	requirePage(t, agent, admin, "/healthz", 200, "ok")
	requirePage(t, agent, admin, "/metrics", 200, "headgate_agent_api_last_contact_timestamp_seconds 0")
	_, err := new(agentcheck.Client).Check(t.Context(), "127.0.0.1:"+node)
	require.Error(t, err)
	server.Refuse("list", 0)
	server.Refuse("watch", 0)
	requireAnswer(t, agent, node, "up drain # cordoned")
	requirePage(t, agent, admin, "/readyz", 200, "ok\n")
	agent.requireStops(t)
}

func TestLiveClusterWithoutTheNode(t *testing.T) {
	_, kubeconfig := apiServer(t, 2, "9801")
	stderr := &clitest.Output{}
	code := run(t.Context(), cli.Invocation{
		Args: []string{"-node", "n7", "-listen", "127.0.0.1:" + freePorts(t, 1)[0], "-kubeconfig", kubeconfig}, Stderr: stderr,
	})
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr.String(), `no such node: "n7"; the cluster has 2 others`)
}

// drainCommand runs the subcommand "nodeagent drain".
func drainCommand(t *testing.T, admin string, args ...string) (code int, out string) {
	t.Helper()
	both := &clitest.Output{}
	code = run(t.Context(), cli.Invocation{
		Args: append([]string{"drain"}, args...), Stdout: both, Stderr: both,
		// The subcommand reads -admin from the environment of the agent.
		LookupEnv: func(name string) (string, bool) { return admin, name == "HEADGATE_ADMIN" },
	})
	return code, both.String()
}

// requireDrainFails repeats the drain command until it fails with the text. The first tries may
// fail with another text, because the agent has not processed the command yet.
func requireDrainFails(t *testing.T, admin, want string) {
	t.Helper()
	var code int
	var out string
	require.Eventually(t, func() bool {
		code, out = drainCommand(t, admin, "-timeout", "200ms")
		return code == cli.ExitFailed && strings.Contains(out, want)
	}, time.Minute, 10*time.Millisecond, "want %s; %d %s", want, code, out)
}

func TestDrainCommand(t *testing.T) {
	ports := freePorts(t, 3)
	node, service, port := ports[0], ports[1], ports[2]
	admin := "127.0.0.1:" + port + " unix:" + clitest.SocketPath(t)
	server, kubeconfig := apiServer(t, 4, service)
	agent := startAgent(t, "-node", "n0", "-listen", "127.0.0.1:"+node, "-kubeconfig", kubeconfig, "-admin", strings.Fields(admin)[0], "-admin", strings.Fields(admin)[1], "-hold-down", "0")
	requireAnswer(t, agent, node, "up ready")
	requireAnswer(t, agent, service, "up ready 50%")

	// A request from this machine needs the token too.
	code, out := drainCommand(t, "127.0.0.1:"+port)
	require.Equal(t, cli.ExitFailed, code, out)
	require.Contains(t, out, "403 Forbidden")
	requireAnswer(t, agent, node, "up ready")

	// A client that has checked the node and the Service learns of the drain at its next check.
	requireDrainFails(t, admin, "do not know yet: 127.0.0.1 (media/tracks), 127.0.0.1 (node)")
	requireAnswer(t, agent, node, "up drain # drain command")
	requireDrainFails(t, admin, "do not know yet: 127.0.0.1 (media/tracks)\n") // a check counts after the end of its connection
	code, out = drainCommand(t, admin, "-timeout", "0")
	require.Equal(t, cli.ExitFailed, code, out)
	require.Contains(t, out, "do not know yet: 127.0.0.1 (media/tracks)\n")

	// The command waits for the next check.
	done := make(chan string, 1)
	go func() {
		code, out := drainCommand(t, admin, "-timeout", "1m")
		done <- fmt.Sprint(code, " ", out)
	}()
	requireAnswer(t, agent, service, "up drain 50% # drain command")
	require.Regexp(t, `^0 draining since \S+; all HAProxies that asked within 30s know, 2 answers`, <-done)

	code, out = drainCommand(t, admin, "-undo")
	require.Equal(t, cli.ExitOK, code, out)
	require.Contains(t, out, "has ended")
	requireAnswer(t, agent, node, "up ready")
	require.Contains(t, agent.stderr.String(), `msg="drain command" wait=`)
	require.Contains(t, agent.stderr.String(), `msg="drain command ended"`)
	code, out = drainCommand(t, admin, "-undo")
	require.Equal(t, cli.ExitOK, code, out)
	require.Contains(t, out, "no drain command was in force")

	// The limit of draining nodes applies to the command too.
	cordoned := liveNode(1, true)
	cordoned.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, TimeAdded: &metav1.Time{Time: time.Now().Add(-time.Hour)}}}
	server.Set(cordoned)
	requirePage(t, agent, port, "/metrics", 200, "headgate_agent_nodes_draining 1")
	requireDrainFails(t, admin, "the node waits: 1 of 4 nodes drain, at most 1 may")
	requireAnswer(t, agent, node, "up ready # drain command; waits: 1 of 4 nodes drains, no more than 1 may (30%)")
	server.Set(liveNode(1, false))
	requireAnswer(t, agent, node, "up drain # drain command")

	// The agent stops without a failure while a command waits.
	_, _ = drainCommand(t, admin, "-undo")
	requireAnswer(t, agent, node, "up ready")
	go func() {
		_, out := drainCommand(t, admin, "-timeout", "1m")
		done <- out
	}()
	requireAnswer(t, agent, node, "up drain # drain command")
	agent.requireStops(t)
	require.Contains(t, <-done, "the agent stops; ")

	code, out = drainCommand(t, admin)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, out, "no such file")
}

// A request with a wrong parameter starts no drain. The agent does not even read the body of the
// request.
func TestDrainWithInvalidWait(t *testing.T) {
	body := &countingReader{}
	req := httptest.NewRequest("POST", "/drain?wait=long", body)
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	d := &fakeDrainer{}
	w := httptest.NewRecorder()
	drainHandler(t.Context(), d, slog.New(slog.DiscardHandler)).ServeHTTP(w, req)
	require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
	require.Zero(t, d.calls)
	require.Zero(t, body.reads)
}

// countingReader is a multipart form that never ends. It counts the reads.
type countingReader struct{ reads int }

func (r *countingReader) Read(b []byte) (int, error) {
	if r.reads++; r.reads > 100 {
		return 0, io.EOF
	}
	return copy(b, "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n"), nil
}
