//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/e2e/internal/lab"
)

// These are the ports of an agent. They are the same on each node.
const (
	nodeAgentPort  = 9707
	agentAdminPort = 9708
)

// Agent is a running nodeagent.
type Agent struct {
	*lab.Process
	Node *lab.Node
	// DrainFile is the path of a file. The node drains while this file exists.
	DrainFile string
}

// StartAgent starts a nodeagent on its node with the account of a kubeconfig. It does not wait
// until the agent answers.
func StartAgent(n *lab.Node, kubeconfig string, flags ...string) (*Agent, error) {
	a := &Agent{Node: n, DrainFile: filepath.Join(filepath.Dir(kubeconfig), "drain-"+n.Name)}
	argv := append([]string{
		"nodeagent", "-node", n.Name, "-kubeconfig", kubeconfig,
		"-listen", fmt.Sprintf(":%d", nodeAgentPort), "-admin", fmt.Sprintf(":%d", agentAdminPort), "-admin", a.socket(),
		"-drain-file", a.DrainFile,
	}, flags...)
	var err error
	a.Process, err = n.Start(n.Name+"-nodeagent", argv...)
	return a, err
}

// socket returns the address of the agent's Unix socket, for -admin. Requests through this socket
// may drain the node.
func (a *Agent) socket() string {
	return "unix:" + filepath.Join(filepath.Dir(a.DrainFile), "admin-"+a.Node.Name)
}

// Answer connects from a machine to a port of the agent, as HAProxy does, and returns the reply. The
// argument "from" must be the machine of HAProxy: `nodeagent drain` waits until every address that
// has made a check lately has got the new answer. A machine that makes only one check would never
// get the new answer.
func (a *Agent) Answer(ctx context.Context, from *lab.Machine, port uint16) (reply agentcheck.Reply, err error) {
	client := agentcheck.Client{Timeout: 2 * time.Second}
	err = from.Do(func() error {
		reply, err = client.Check(ctx, netip.AddrPortFrom(a.Node.Addr, port).String())
		return err
	})
	return reply, err
}

// Admin requests a page of the agent's admin listener. The argument "from" is the machine that
// sends the request. A bad HTTP status is not an error.
func (a *Agent) Admin(ctx context.Context, from *lab.Machine, path string) (status int, body string, err error) {
	return adminPage(ctx, from, netip.AddrPortFrom(a.Node.Addr, agentAdminPort), path)
}

// Metric returns the sum of all values of a metric.
func (a *Agent) Metric(ctx context.Context, from *lab.Machine, name string) (float64, error) {
	status, body, err := a.Admin(ctx, from, "/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("metrics of %s: status %d", a.Name, status)
	}
	return metric(body, name)
}

func (a *Agent) wantMetric(ctx context.Context, from *lab.Machine, name string, want float64) error {
	got, err := a.Metric(ctx, from, name)
	if err == nil && got != want {
		err = fmt.Errorf("%s: %s is %v, not %v", a.Name, name, got, want)
	}
	return err
}

// DrainCommand runs `nodeagent drain` on the node, as a preStop hook does, and returns its output.
func (a *Agent) DrainCommand(ctx context.Context, flags ...string) (string, error) {
	argv := append([]string{"nodeagent", "drain", "-admin", a.socket()}, flags...)
	out, err := a.Node.Run(ctx, argv...)
	return strings.TrimSpace(out), err
}

// adminPage requests a page of an admin listener.
func adminPage(ctx context.Context, from *lab.Machine, at netip.AddrPort, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s", at, path), nil)
	if err != nil {
		return 0, "", err
	}
	res, err := from.Client().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return res.StatusCode, string(b), err
}

// metric returns the sum of all values of a metric on a page of metrics.
func metric(page, name string) (sum float64, err error) {
	found := false
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if len(fields) == 0 {
			return 0, fmt.Errorf("metric %s: no value in %q", name, line)
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}
