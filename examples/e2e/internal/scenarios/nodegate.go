//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var nodegate = scenario.Scenario[*Env]{
	Name:  "nodegate",
	About: "three workers replace all nodes of a cluster at the same time with `nodegate may -take`, and no service loses more than one server",
	Run:   underLoad(runNodegate),
}

// gated runs nodegate on the machine of the terminator.
type gated struct {
	*System
	c     *lab.Cluster
	flags []string
}

const (
	nodegatePort = 9711
	// gateHoldDown is longer than HAProxy needs to notice that a node is back.
	gateHoldDown = 5 * time.Second
	// restartTime is how long a machine is down. While the last machine restarts, nobody asks
	// nodegate. So nodegate must notice this restart later: the node has become Ready after the
	// grant.
	restartTime = 4 * time.Second
)

func runNodegate(ctx context.Context, s *System, t *traffic, report *scenario.Report) error {
	c := s.Clusters[0]
	if err := c.Apply(ctx, filepath.Join(c.Bin(), "..", "..", "nodegate", "kubernetes", "rbac.yaml")); err != nil {
		return err
	}
	account, err := c.AccountKubeconfig(ctx, accountsNamespace, "headgate-nodegate")
	if err != nil {
		return err
	}
	g := &gated{System: s, c: c, flags: []string{
		"-cluster", c.Name + "=kubeconfig:" + account,
		"-report", "http://" + netip.AddrPortFrom(s.Edge.Addr, terminatorAdminPort).String() + "/report.json",
		"-max-away", "1", "-hold-down", gateHoldDown.String(),
	}}
	for _, step := range []func(context.Context, *traffic) error{g.oneOfThree, g.deadNode, g.replaceAll, g.restart} {
		if err := step(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// nodegate runs a command and returns its exit status and output.
func (g *gated) nodegate(ctx context.Context, command string, args ...string) (code int, out string, err error) {
	argv := slices.Concat([]string{"nodegate", command}, g.flags, args)
	out, err = g.Edge.Run(ctx, argv...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return 3, out + err.Error(), nil
	}
	return 0, out, err
}

func (g *gated) release(ctx context.Context, node string) error {
	_, _, err := g.nodegate(ctx, "release", node)
	return err
}

// oneOfThree starts three processes at the same time. Each of them asks for another one of the
// three nodes. Exactly one process may get a grant: for any two of the nodes, there is a service
// that uses both.
func (g *gated) oneOfThree(ctx context.Context, t *traffic) error {
	start := time.Now()
	var mu sync.Mutex
	var granted []string
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range g.c.Nodes() {
		group.Go(func() error {
			code, _, err := g.nodegate(gctx, "may", n.Name, "-take", "-holder", "worker-"+n.Name)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && code == 0 {
				granted = append(granted, n.Name)
			}
			return err
		})
	}
	err := group.Wait()
	took := time.Since(start)
	if err == nil && len(granted) != 1 {
		err = fmt.Errorf("grants for %v", granted)
	}
	for _, node := range granted {
		err = errors.Join(err, g.release(ctx, node))
	}
	return t.row(scenario.Row{What: "three processes ask for a node each at the same time: one gets it", Took: took, Err: err}, start)
}

// deadNode checks that no other node may go while the kubelet and the agent of a node are dead.
func (g *gated) deadNode(ctx context.Context, t *traffic) error {
	start := time.Now()
	dead, other := g.c.Nodes()[0], g.c.Nodes()[1]
	a := g.Agents[dead.Name]
	a.Kill()
	err := dead.SetReady(ctx, false)
	var code int
	var out string
	if err == nil {
		code, out, err = g.nodegate(ctx, "may", other.Name)
	}
	if err == nil && (code != 3 || !strings.Contains(out, dead.Name+" (not Ready since")) {
		err = fmt.Errorf("exit status %d: %s", code, out)
	}
	err = errors.Join(err, a.Start(), dead.SetReady(ctx, true))
	return t.row(scenario.Row{What: fmt.Sprintf("%s dies: %s may not go, and the answer names %s", dead.Name, other.Name, dead.Name), Err: err}, start)
}

// replaceAll runs a worker for each node, all at the same time. Each worker waits for its grant,
// drains its node, and stops and starts its programs.
func (g *gated) replaceAll(ctx context.Context, t *traffic) error {
	start := time.Now()
	stop := g.watchServers(ctx)
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range g.c.Nodes() {
		group.Go(func() error {
			if err := g.replaceNode(gctx, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil {
		_, err = lab.Until(ctx, "the last grant to end", patience, func(ctx context.Context) error {
			_, out, err := g.nodegate(ctx, "grants")
			if err == nil && out != "" {
				err = errors.New(out)
			}
			return err
		})
	}
	took := time.Since(start)
	lowest, samples := stop()
	if err == nil && (lowest < 1 || samples == 0) {
		err = fmt.Errorf("a backend had %d servers of %s up; %d samples", lowest, g.c.Name, samples)
	}
	t.report.Logf("the fewest servers of %s that were up in a backend: %d, in %d samples", g.c.Name, lowest, samples)
	return t.row(scenario.Row{What: fmt.Sprintf("three workers replace the nodes of %s: always 1 of 2 servers of each service is up", g.c.Name), Took: took, Within: 90 * time.Second, Err: err}, start)
}

func (g *gated) replaceNode(ctx context.Context, n *lab.Node) error {
	code, out, err := g.nodegate(ctx, "may", n.Name, "-take", "-holder", "worker-"+n.Name, "-ttl", "5m", "-wait", "80s")
	if err != nil || code != 0 {
		return errors.Join(fmt.Errorf("exit status %d: %s", code, out), err)
	}
	if _, out, err := g.nodegate(ctx, "drain", n.Name, "-wait", patience.String()); err != nil {
		return errors.Join(errors.New(out), err)
	}
	if err := errors.Join(g.drainedInHAProxy(ctx, n), g.idle(ctx, n)); err != nil {
		return fmt.Errorf("after nodegate drain: %w", err)
	}
	a := g.Agents[n.Name]
	// The machine restarts.
	if err := n.SetReady(ctx, false); err != nil {
		return err
	}
	a.Kill()
	select {
	case <-time.After(restartTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := errors.Join(n.Proxy.Restart(), a.Start()); err != nil {
		return err
	}
	return errors.Join(n.SetReady(ctx, true), n.Uncordon(ctx))
}

// idle returns an error while a server of the node has requests.
func (g *gated) idle(ctx context.Context, n *lab.Node) error {
	stats, err := g.HAProxy.Stats(ctx)
	if err != nil {
		return err
	}
	for _, stat := range stats {
		if at(stat, n) && stat.Sessions > 0 {
			return fmt.Errorf("%s/%s has %d requests", stat.Proxy, stat.Server, stat.Sessions)
		}
	}
	return nil
}

// watchServers looks at each backend with servers of the cluster, again and again in the
// background, and counts the servers that are up. The returned function stop ends this. It returns
// the lowest count of a backend, and the number of samples.
func (g *gated) watchServers(ctx context.Context) (stop func() (lowest, samples int)) {
	ctx, cancel := context.WithCancel(ctx)
	lowest, samples := 1<<30, 0
	var counting sync.WaitGroup
	counting.Go(func() {
		tick := time.Tick(50 * time.Millisecond)
		for ctx.Err() == nil {
			stats, err := g.HAProxy.Stats(ctx)
			up := map[string]int{}
			for _, stat := range stats {
				addr, err := netip.ParseAddrPort(stat.Addr)
				if err != nil || strings.HasPrefix(stat.Proxy, nodesProxy) || nodeAt(g.c, addr.Addr()) == nil {
					continue
				}
				up[stat.Proxy] += 0
				if strings.HasPrefix(stat.Status, "UP") || stat.Status == "no check" {
					up[stat.Proxy]++
				}
			}
			for _, n := range up {
				lowest = min(lowest, n)
			}
			if err == nil && len(up) > 0 {
				samples++
			}
			select {
			case <-ctx.Done():
			case <-tick:
			}
		}
	})
	return func() (int, int) {
		cancel()
		counting.Wait()
		return lowest, samples
	}
}

// restart kills `nodegate serve` after a grant, starts it again, and checks that the grant still
// counts.
func (g *gated) restart(ctx context.Context, t *traffic) error {
	start := time.Now()
	token := filepath.Join(g.env.Lab.Dir("edge"), "nodegate-token")
	if err := os.WriteFile(token, []byte("secret-of-nodegate\n"), 0o600); err != nil {
		return err
	}
	at := netip.AddrPortFrom(g.Edge.Addr, nodegatePort)
	p, err := g.Edge.Start("nodegate", slices.Concat([]string{"nodegate", "serve"}, g.flags, []string{"-listen", at.String(), "-token-file", token})...)
	if err != nil {
		return err
	}
	nodes := g.c.Nodes()
	ask := func(ctx context.Context, method, path, body string, want int, text string) error {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+at.String()+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer secret-of-nodegate")
		resp, err := g.Client.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err == nil && (resp.StatusCode != want || !strings.Contains(string(got), text)) {
			err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, got)
		}
		return err
	}
	grant := func(node string) string {
		data, _ := json.Marshal(map[string]any{"nodes": []string{node}, "holder": "worker", "ttl": "10m"})
		return string(data)
	}
	until := func(what, method, path, body string, want int, text string) {
		if err == nil {
			_, err = lab.Until(ctx, what, patience, func(ctx context.Context) error { return ask(ctx, method, path, body, want, text) }, p)
		}
	}
	until("a grant", http.MethodPost, "/v1/grants", grant(nodes[0].Name), http.StatusCreated, "")
	p.Kill()
	err = errors.Join(err, p.Start())
	until("nodegate to refuse", http.MethodPost, "/v1/grants", grant(nodes[1].Name), http.StatusConflict, "granted to worker")
	until("the grant", http.MethodGet, "/v1/grants", "", http.StatusOK, nodes[0].Name)
	until("the end of the grant", http.MethodDelete, "/v1/grants/"+nodes[0].Name+"?holder=worker", "", http.StatusNoContent, "")
	until("another grant", http.MethodPost, "/v1/grants", grant(nodes[1].Name), http.StatusCreated, "")
	err = errors.Join(err, p.Stop(), g.release(ctx, nodes[1].Name))
	return t.row(scenario.Row{What: "nodegate serve is killed and starts again: the grant still counts", Took: time.Since(start), Err: err}, start)
}
