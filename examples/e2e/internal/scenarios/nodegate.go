//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var nodegate = scenario.Scenario[*Env]{
	Name:   "nodegate",
	About:  "workers replace all nodes of a cluster with `nodegate may -take`, a node dies and a terminator lags behind, and no service loses more than one server",
	Within: 5 * time.Minute,
	Run:    underLoad(runNodegate),
}

// nodegateLong is a scenario that takes too long for every run of the test. Only `make ci-full`
// runs it.
var nodegateLong = scenario.Scenario[*Env]{
	Name:   "nodegatelong",
	About:  "four workers ask `nodegate serve` at the same time and replace five nodes, a node dies, a terminator lags behind, and nodegate restarts",
	Within: 10 * time.Minute,
	Long:   true,
	Run:    underLoad(runNodegateLong),
}

// gated is a System with nodegate, which runs on the machine of the System's terminator. A second
// terminator, with a HAProxy of its own, uses the same clusters as the first one.
type gated struct {
	*System
	c      *lab.Cluster
	second *secondEdge
	size   int // nodes of each service in the second HAProxy
	flags  []string
	server *lab.Process // nodegate serve; nil before the first call of the method serve
	take   func(context.Context, *lab.Node) error
	lagged atomic.Bool // a worker has disconnected the second terminator
}

const (
	// gateHoldDown is the value of nodegate's flag -back-for. It is longer than the time that
	// HAProxy needs to notice that a node is back.
	gateHoldDown = 5 * time.Second
	// restartTime is how long a machine is down. While the last machine is down, no worker asks for
	// a grant, so nodegate does not read the cluster. Later, nodegate must still find out that the
	// machine has restarted: the node became Ready after nodegate made the grant.
	restartTime = 4 * time.Second
	// grantPatience is how long a worker waits for its grant. It is long enough for each of the
	// other workers to replace a node first.
	grantPatience = 4 * time.Minute
)

func runNodegate(ctx context.Context, s *System, t *traffic, report *scenario.Report) error {
	return s.gated(ctx, t, nodesPerService, func(g *gated) error {
		g.take = g.takeFromCommand
		for _, step := range []func(context.Context, *traffic) error{
			g.wave, g.oneOfThree, g.deadNode,
			func(ctx context.Context, t *traffic) error { return g.replaceAll(ctx, t, 2, nil) },
			g.restart,
		} {
			if err := step(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

func runNodegateLong(ctx context.Context, s *System, t *traffic, report *scenario.Report) (err error) {
	c := s.Clusters[0]
	accounts, err := InstallAccounts(ctx, c)
	if err != nil {
		return err
	}
	for _, spec := range []lab.NodeSpec{{Name: c.Name + "-d", Zone: "a"}, {Name: c.Name + "-e", Zone: "b"}} {
		n, err := c.AddNode(ctx, spec)
		if err != nil {
			return err
		}
		defer func() {
			delete(s.Agents, n.Name)
			err = errors.Join(err, n.Remove(context.WithoutCancel(ctx)))
		}()
		if err := s.startAgent(n, accounts.Agent); err != nil {
			return err
		}
	}
	return s.gated(ctx, t, 3, func(g *gated) error {
		g.take = g.takeFromServer
		if err := g.serve(); err != nil {
			return err
		}
		return g.replaceAll(ctx, t, 4, func(ctx context.Context) error {
			g.server.Kill()
			return g.server.Start()
		})
	})
}

// The method "gated" starts the second terminator and the second HAProxy, and calls the function
// "run". The argument "size" is the number of nodes that the second terminator selects for each
// service. At the end, the method stops the second terminator and the second HAProxy, and adds a
// row about the requests to the second HAProxy.
func (s *System) gated(ctx context.Context, t *traffic, size int, run func(*gated) error) error {
	c := s.Clusters[0]
	account, err := installNodegate(ctx, c)
	if err != nil {
		return err
	}
	second, err := s.startSecondEdge(ctx, size)
	if err != nil {
		return err
	}
	g := &gated{System: s, c: c, second: second, size: size, flags: []string{
		"-cluster", c.Name + "=kubeconfig:" + account,
		"-report", "http://" + netip.AddrPortFrom(s.Edge.Addr, terminatorAdminPort).String() + "/report.json",
		"-report", "unix:" + second.socket,
		"-max-away", "1", "-back-for", gateHoldDown.String(),
	}}
	err = run(g)
	if g.server != nil {
		err = errors.Join(err, g.server.Stop())
	}
	err = errors.Join(err, second.stop())
	var all time.Time
	t.report.Add(scenario.Row{
		What: "all requests to the second HAProxy", Requests: second.load.Count(all, all),
		Failed: len(second.load.Failures(all, all)), Err: second.load.Err(all, all),
	})
	return err
}

// installNodegate applies the shipped manifest of nodegate's account, and returns a kubeconfig for
// the account.
func installNodegate(ctx context.Context, c *lab.Cluster) (kubeconfig string, err error) {
	return installAccount(ctx, c, "headgate-nodegate", filepath.Join("account", "rbac.yaml"))
}

// installProtect applies the shipped manifest of the account of `nodegate protect`, and returns a
// kubeconfig for the account.
func installProtect(ctx context.Context, c *lab.Cluster) (kubeconfig string, err error) {
	return installAccount(ctx, c, "headgate-nodegate-protect", filepath.Join("protect", "rbac.yaml"))
}

func installAccount(ctx context.Context, c *lab.Cluster, account, manifest string) (kubeconfig string, err error) {
	shipped := filepath.Join(c.Bin(), "..", "..", "nodegate", "kubernetes")
	if err := c.Apply(ctx, filepath.Join(shipped, "account", "namespace.yaml")); err != nil {
		return "", err
	}
	// `nodegate protect` creates pods for kured in this namespace. A pod needs the ServiceAccount
	// "default" of its namespace, which EnsureNamespace creates.
	if err := c.EnsureNamespace(ctx, nodegateNamespace); err != nil {
		return "", err
	}
	if err := c.Apply(ctx, filepath.Join(shipped, manifest)); err != nil {
		return "", err
	}
	return c.AccountKubeconfig(ctx, nodegateNamespace, account)
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

// wave checks the command "nodegate wave", which prints a set of nodes that may be away at the same
// time. For any two of the nodes, there is a service that uses both, so the set must have one node.
func (g *gated) wave(ctx context.Context, t *traffic) error {
	start := time.Now()
	_, out, err := g.nodegate(ctx, "wave", "-estimate")
	if node, _, _ := strings.Cut(out, "\n"); err == nil && (g.c.Node(node) == nil || strings.Count(out, g.c.Name+"-") != 1) {
		err = fmt.Errorf("the wave is %q", out)
	}
	return t.row(scenario.Row{What: "nodegate wave names one node", Err: err}, start)
}

// oneOfThree starts three processes at the same time. Each process asks for a grant for a different
// node of the cluster. Exactly one process may receive a grant, because any two of the three nodes
// have a service in common.
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

// deadNode checks that nodegate permits no drain of another node while the kubelet and the agent of
// a node are dead.
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

// replaceAll replaces all nodes of the cluster under load. For each node, a worker waits for a
// grant from nodegate, drains the node, and restarts its programs. replaceAll also calls the method
// "lag" for the first node and the method "die" for the last node. If the argument "fault" is not
// nil, replaceAll calls it after the first grant.
func (g *gated) replaceAll(ctx context.Context, t *traffic, workers int, fault func(context.Context) error) error {
	start := time.Now()
	watches := map[*HAProxy]*serverWatch{}
	for _, h := range []*HAProxy{g.HAProxy, g.second.haproxy} {
		watches[h] = watchServers(ctx, h, g.c)
		defer watches[h].stop()
	}
	nodes := g.c.Nodes()
	dead := nodes[len(nodes)-1]
	queue := make(chan *lab.Node, len(nodes))
	for _, n := range nodes[:len(nodes)-1] {
		queue <- n
	}
	group, gctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for n := range queue {
				if err := g.replaceNode(gctx, n, n == dead); err != nil {
					return fmt.Errorf("%s: %w", n.Name, err)
				}
			}
			return nil
		})
	}
	group.Go(func() (err error) {
		defer close(queue)
		if fault != nil {
			if _, err := lab.Until(gctx, "a grant", grantPatience, func(ctx context.Context) error {
				grants, err := g.grants(ctx)
				if err == nil && grants == "" {
					err = errors.New("there is none")
				}
				return err
			}); err != nil {
				return err
			}
			if err := fault(gctx); err != nil {
				return err
			}
		}
		if _, err := lab.Until(gctx, "the second terminator to lag behind", grantPatience, func(context.Context) error {
			if !g.lagged.Load() {
				return errors.New("no node has gone")
			}
			return nil
		}); err != nil {
			return err
		}
		if err := g.die(gctx, dead); err != nil {
			return fmt.Errorf("%s dies: %w", dead.Name, err)
		}
		queue <- dead
		return nil
	})
	err := group.Wait()
	if err == nil {
		_, err = lab.Until(ctx, "the last grant to end", patience, func(ctx context.Context) error {
			grants, err := g.grants(ctx)
			if err == nil && grants != "" {
				err = errors.New(grants)
			}
			return err
		})
	}
	took := time.Since(start)
	for h, size := range map[*HAProxy]int{g.HAProxy: nodesPerService, g.second.haproxy: g.size} {
		w := watches[h]
		w.stop()
		err = errors.Join(err, w.err(h, size-1))
		t.report.Logf("%s: of %d servers of a service in %s, at least %d were up, in %d samples", h.machine.Name, size, g.c.Name, w.lowest, w.samples)
	}
	return t.row(scenario.Row{What: fmt.Sprintf("%d workers replace the %d nodes of %s: each service always has all its servers but one", workers, len(nodes), g.c.Name), Took: took, Err: err}, start)
}

func (g *gated) grants(ctx context.Context) (string, error) {
	_, out, err := g.nodegate(ctx, "grants")
	return out, err
}

// takeFromCommand runs `nodegate may -take` for the node. This command waits until nodegate grants
// the node.
func (g *gated) takeFromCommand(ctx context.Context, n *lab.Node) error {
	code, out, err := g.nodegate(ctx, "may", n.Name, "-take", "-holder", "worker-"+n.Name, "-ttl", "5m", "-wait", grantPatience.String())
	if err != nil || code != 0 {
		return errors.Join(fmt.Errorf("exit status %d: %s", code, out), err)
	}
	return nil
}

// die simulates the death of a node that both HAProxies use. It sets the node to not Ready. Then it
// waits until no other node with a service of this node has a grant, because otherwise the service
// would lose two servers. Then it kills the agent and kube-proxy of the node.
func (g *gated) die(ctx context.Context, n *lab.Node) error {
	if err := n.SetReady(ctx, false); err != nil {
		return err
	}
	var others []string
	if _, err := lab.Until(ctx, "the other nodes", grantPatience, func(ctx context.Context) (err error) {
		if others, err = sharing(ctx, n, g.HAProxy, g.second.haproxy); err != nil {
			return err
		}
		grants, err := g.grants(ctx)
		for _, other := range others {
			if err == nil && strings.Contains(grants, other+" ") {
				err = fmt.Errorf("%s is granted: %s", other, grants)
			}
		}
		return err
	}); err != nil {
		return err
	}
	g.Agents[n.Name].Kill()
	n.Proxy.Kill()
	return g.blocked(ctx, others[0], n.Name+" (not Ready since")
}

// blocked runs the command "nodegate may" again and again until it refuses the node, with an output
// that contains the argument "text". The first outputs can differ: while a terminator applies a
// change, nodegate cannot decide.
func (g *gated) blocked(ctx context.Context, node, text string) error {
	_, err := lab.Until(ctx, "nodegate", patience, func(ctx context.Context) error {
		code, out, err := g.nodegate(ctx, "may", node)
		if err == nil && (code != 3 || !strings.Contains(out, text)) {
			err = fmt.Errorf("may %s: exit status %d: %s", node, code, out)
		}
		return err
	})
	return err
}

// replaceNode waits for the grant of a node, drains the node and restarts it. dead means that the
// node has died already.
func (g *gated) replaceNode(ctx context.Context, n *lab.Node, dead bool) error {
	if err := g.take(ctx, n); err != nil {
		return err
	}
	if _, out, err := g.nodegate(ctx, "drain", n.Name, "-timeout", patience.String()); err != nil {
		return errors.Join(errors.New(out), err)
	}
	for _, h := range []*HAProxy{g.HAProxy, g.second.haproxy} {
		if err := idle(ctx, h, n); err != nil {
			return fmt.Errorf("after nodegate drain: %w", err)
		}
	}
	// The machine restarts.
	if err := n.SetReady(ctx, false); err != nil {
		return err
	}
	g.Agents[n.Name].Kill()
	lag := !dead && g.lagged.CompareAndSwap(false, true)
	if lag {
		if err := g.lag(ctx, n); err != nil {
			return fmt.Errorf("a terminator lags behind: %w", err)
		}
	} else if err := pause(ctx, restartTime); err != nil {
		return err
	}
	if err := errors.Join(n.Proxy.Restart(), g.Agents[n.Name].Start(), n.SetReady(ctx, true), n.Uncordon(ctx)); err != nil || !lag {
		return err
	}
	_, err := lab.Until(ctx, n.Name+" to be back", patience, func(ctx context.Context) error {
		stat, err := g.HAProxy.NodeStat(ctx, n)
		if err == nil && !isUp(stat) {
			err = errors.New(stat.Status)
		}
		return err
	})
	return errors.Join(err, g.second.control.Plug())
}

// lag disconnects the second terminator from the API servers and deletes the node, which has a
// grant. The second HAProxy still uses the node. So nodegate must keep the grant, and must refuse
// every node that shares a service with this node. At the end, lag creates the node again.
func (g *gated) lag(ctx context.Context, n *lab.Node) error {
	var others []string
	if _, err := lab.Until(ctx, "the other nodes", patience, func(ctx context.Context) (err error) {
		others, err = sharing(ctx, n, g.second.haproxy)
		return err
	}); err != nil {
		return err
	}
	if err := errors.Join(g.second.control.Unplug(), n.Delete(ctx)); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, "the first terminator", patience, func(ctx context.Context) error {
		report, err := g.Terminator.Report()
		for _, service := range report.Services {
			if service.Cluster == g.c.Name && slices.Contains(service.Nodes, n.Name) {
				err = fmt.Errorf("%v uses %s", service.Ref, n.Name)
			}
		}
		return err
	}, g.Terminator.Process); err != nil {
		return err
	}
	if err := g.blocked(ctx, others[0], n.Name+" ("); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, "the grant of "+n.Name, patience, func(ctx context.Context) error {
		grants, err := g.grants(ctx)
		if err == nil && !strings.Contains(grants, n.Name+" ") {
			err = fmt.Errorf("the grants are %q", grants)
		}
		return err
	}); err != nil {
		return err
	}
	return n.Create(ctx)
}

// The function "idle" returns an error while HAProxy sends new requests to a server of the node, or
// has requests there.
func idle(ctx context.Context, h *HAProxy, n *lab.Node) error {
	stats, err := h.Stats(ctx)
	if err != nil {
		return err
	}
	for _, stat := range stats {
		if at(stat, n) && (isUp(stat) || stat.Sessions > 0) {
			return fmt.Errorf("%s: %s/%s is %s and has %d requests", h.machine.Name, stat.Proxy, stat.Server, stat.Status, stat.Sessions)
		}
	}
	return nil
}
