//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/manifests"
	"github.com/headgate/headgate/nodeselect"
)

// Most scenarios use these settings.
const (
	// nodesPerService is the number of nodes that the terminator selects for each service. It is
	// smaller than three, the number of nodes of a cluster: otherwise the terminator would select
	// all nodes for every service.
	nodesPerService = 2
	// agentInterval is the time between two agent checks. It is shorter than its default of two
	// seconds, because a change must take effect within three seconds and may need two rounds of
	// checks.
	agentInterval = time.Second
	// holdDown is the agents' -hold-down: how long a node still drains after the cause of its drain
	// has ended. It is shorter than the default, because many scenarios wait until a drain has
	// ended.
	holdDown = 2 * time.Second
	// zeroWeightDelay is how long an agent waits before it publishes a weight of 0. It is 1.25
	// times agentInterval, as with the defaults of these two settings.
	zeroWeightDelay = agentInterval + agentInterval/4
	// tracksAgentPort is the agent port of the service "tracks".
	tracksAgentPort = 9801
	appNamespace    = "media"
)

// System is headgate in operation: an agent on each node of the clusters eu-1 and eu-2, a
// terminator and HAProxy on one machine, services and routes to them, and the machine of a client.
type System struct {
	Clusters     []*lab.Cluster
	Client, Edge *lab.Machine
	HAProxy      *HAProxy
	Terminator   *Terminator
	// Agents contains the agent of each node, by the name of the node.
	Agents map[string]*Agent
	// Routes are the present declarations.
	Routes *routesFile
	// Regions is the file with the regions of clients.
	Regions regionsFile

	env          *Env
	clusterFlags []string // the values of -cluster of each terminator
}

// These are the names of services. "tracks" has a pod on each node of both clusters, and "web" only
// in eu-1. The services in "fillers" have no pods, but take part in the selection of nodes.
const (
	tracks = "tracks"
	web    = "web"
)

var fillers = []string{"albums", "charts", "feeds", "likes", "search", "users"}

// System returns the system. The first call starts it.
func (e *Env) System(ctx context.Context) (*System, error) {
	clusters, err := e.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.system == nil && e.systemErr == nil {
		start := time.Now()
		e.system, e.systemErr = e.startSystem(ctx, clusters)
		e.Logf("the system took %s to start", time.Since(start).Round(time.Millisecond))
	}
	return e.system, e.systemErr
}

func (e *Env) startSystem(ctx context.Context, clusters []*lab.Cluster) (*System, error) {
	s := &System{Clusters: clusters, Agents: make(map[string]*Agent), env: e}
	var err error
	if s.Client, err = e.Lab.Machine("client"); err != nil {
		return nil, err
	}
	if s.Edge, err = e.Lab.Machine("edge"); err != nil {
		return nil, err
	}
	accounts := make([]Accounts, len(clusters))
	group, gctx := errgroup.WithContext(ctx)
	for i, c := range clusters {
		group.Go(func() error { return deploySystem(gctx, c) })
		group.Go(func() (err error) {
			accounts[i], err = InstallAccounts(gctx, c)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, c := range clusters {
		s.clusterFlags = append(s.clusterFlags, "-cluster", c.Name+"=kubeconfig:"+accounts[i].Terminator)
		for _, n := range c.Nodes() {
			if err := s.startAgent(n, accounts[i].Agent); err != nil {
				return nil, err
			}
		}
	}
	dir := e.Lab.Dir("edge")
	if s.Routes, err = newRoutesFile(filepath.Join(dir, "routes.yaml"), systemRoutes()); err != nil {
		return nil, err
	}
	s.Regions = regionsFile(filepath.Join(dir, "regions.yaml"))
	if err := s.Regions.set(); err != nil {
		return nil, err
	}
	s.HAProxy = NewHAProxy(s.Edge, dir)
	flags := s.terminatorFlags(s.HAProxy, filepath.Join(dir, "admin.sock"), nodesPerService)
	if s.Terminator, err = StartTerminator(s.Edge, "terminator", s.HAProxy.Out, flags...); err != nil {
		return nil, err
	}
	if err := s.HAProxy.StartWhenConfigured(ctx, s.Terminator.Process); err != nil {
		return nil, err
	}
	return s, s.waitSound(ctx, time.Minute)
}

// terminatorFlags returns the flags of a terminator for the HAProxy h. The argument "size" is the
// number of nodes that the terminator selects for each service. The terminator has a second admin
// listener on the Unix socket in the argument "admin".
func (s *System) terminatorFlags(h *HAProxy, admin string, size int) []string {
	return slices.Concat(s.clusterFlags, h.TerminatorFlags(), []string{
		"-admin", "unix:" + admin, "-routes", s.Routes.path, "-regions", string(s.Regions), "-http", ":80",
		"-nodes-per-service", fmt.Sprint(size),
		// With this setting, HAProxy still uses a node whose agent does not answer, as long as the
		// kube-proxy of the node answers.
		"-node-health", "agent+kube-proxy",
		"-agent-inter", agentInterval.String(), "-check-inter", "1s", "-local-endpoints", "-local-weights",
		// The scenario "faults" removes 6 of 14 hosts. The default limit of 30% would refuse this
		// change.
		"-max-change", "50%",
	})
}

// startAgent starts the agent of a node with the account of a kubeconfig.
func (s *System) startAgent(n *lab.Node, kubeconfig string) (err error) {
	s.Agents[n.Name], err = StartAgent(n, kubeconfig, "-hold-down", holdDown.String(), "-zero-weight-delay", zeroWeightDelay.String())
	return err
}

// systemRoutes returns the default declarations.
func systemRoutes() []route {
	routes := []route{
		{host: "api.example.com", path: "/tracks", backends: []backend{{"eu-1", tracks, "http"}, {"eu-2", tracks, "http"}}},
		{host: "www.example.com", backends: []backend{{"eu-1", web, "http"}}},
	}
	for _, name := range fillers {
		routes = append(routes, route{host: name + ".example.com", backends: []backend{{"eu-1", name, "http"}, {"eu-2", name, "http"}}})
	}
	return routes
}

// deploySystem creates the services of one cluster.
func deploySystem(ctx context.Context, c *lab.Cluster) error {
	if err := c.EnsureNamespace(ctx, appNamespace); err != nil {
		return err
	}
	apps := []lab.App{{Name: tracks, Annotations: map[string]string{agentPortKey: fmt.Sprint(tracksAgentPort), weightKey: "100"}}}
	if c.Name == "eu-1" {
		apps = append(apps, lab.App{Name: web, On: c.Nodes()[:1]})
	}
	for _, name := range fillers {
		apps = append(apps, lab.App{Name: name, Pods: -1})
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, app := range apps {
		app.Namespace = appNamespace
		group.Go(func() error {
			_, err := c.Deploy(gctx, app)
			return err
		})
	}
	return group.Wait()
}

// These annotations configure headgate.
const (
	agentPortKey = nodeselect.DefaultPrefix + "/agent-port"
	weightKey    = nodeselect.DefaultPrefix + "/weight"
)

// Accounts are paths of kubeconfigs for the ServiceAccounts in headgate's manifests.
type Accounts struct{ Agent, Terminator string }

// These are the namespaces in the shipped manifests.
const (
	agentNamespace      = "headgate-nodeagent"
	terminatorNamespace = "headgate-terminator"
	nodegateNamespace   = "headgate"
)

// InstallAccounts applies all shipped manifests to a cluster. It returns a kubeconfig for each of
// the two ServiceAccounts in the manifests. It may be called more than once.
func InstallAccounts(ctx context.Context, c *lab.Cluster) (a Accounts, err error) {
	for _, part := range []struct {
		program, namespace, account string
		kubeconfig                  *string
	}{
		{"nodeagent", agentNamespace, "headgate-nodeagent", &a.Agent},
		{"terminator", terminatorNamespace, "headgate-terminator", &a.Terminator},
	} {
		if err := applyShipped(ctx, c, part.program); err != nil {
			return a, err
		}
		if *part.kubeconfig, err = c.AccountKubeconfig(ctx, part.namespace, part.account); err != nil {
			return a, err
		}
	}
	return a, nil
}

// applyShipped applies the kustomization of a program.
func applyShipped(ctx context.Context, c *lab.Cluster, program string) error {
	objects, err := manifests.Base{Dir: filepath.Join(c.Bin(), "..", "..", program, "kubernetes")}.Render()
	if err != nil {
		return err
	}
	return c.ApplyObjects(ctx, objects, false)
}

// Restore undoes the changes that an interrupted scenario has left behind: it sets the whole system
// to its initial state, and waits until the effects are visible.
func (s *System) Restore(ctx context.Context) error {
	var errs []error
	for _, c := range s.Clusters {
		errs = append(errs, ensureRunning(c.Etcd), ensureRunning(c.API))
		if _, err := c.WaitReady(ctx); err != nil {
			return err
		}
		errs = append(errs, ensureRunning(c.Controllers))
		errs = append(errs, c.AnnotateService(ctx, appNamespace, tracks, weightKey, "100"))
		for _, n := range c.Nodes() {
			errs = append(errs, s.restoreNode(ctx, n))
		}
	}
	errs = append(errs, ensureRunning(s.HAProxy.Process), ensureRunning(s.Terminator.Process), s.Routes.set(systemRoutes()), s.Regions.set())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.waitSound(ctx, 45*time.Second)
}

func (s *System) restoreNode(ctx context.Context, n *lab.Node) error {
	a := s.Agents[n.Name]
	_, err := n.Cluster.Client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		err = n.Create(ctx)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(a.DrainFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := errors.Join(ensureRunning(n.Proxy), ensureRunning(a.Process), n.Uncordon(ctx)); err != nil {
		return err
	}
	_, err = lab.Until(ctx, "the agent of "+n.Name, patience, func(ctx context.Context) error {
		_, err := a.DrainCommand(ctx, "-undo")
		return err
	}, a.Process)
	return err
}

func ensureRunning(p *lab.Process) error {
	if p.Running() {
		return nil
	}
	return p.Start()
}
