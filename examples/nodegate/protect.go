package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protector"
)

// protectCommand is "nodegate protect".
type protectCommand struct {
	tools                        cli.Strings
	rules                        protect.Settings
	refresh                      time.Duration
	image, machines, machineSpec string
	machineNamespace             string
	dryRun, remove               bool
	admin                        cli.AdminFlags
	logFormat                    cli.LogFormat

	selectors map[string]string // the selectors of -tool, by tool
}

// The tools of -tool.
const (
	toolKarpenter  = "karpenter"
	toolAutoscaler = "cluster-autoscaler"
	toolKured      = "kured"
	toolMachines   = "cluster-api"
)

func (c *protectCommand) register(fs *flag.FlagSet) {
	fs.Var(&c.tools, "tool", "`TOOL` or TOOL=SELECTOR: karpenter, cluster-autoscaler, kured or cluster-api, and a selector for the labels of the nodes; give it once for each tool")
	fs.DurationVar(&c.rules.Free, "free", protect.DefaultFree, "time that a tool has to take a free node")
	fs.DurationVar(&c.rules.Settle, "settle", protect.DefaultSettle, "time for which a node must be protected before its grant ends")
	fs.IntVar(&c.rules.Most, "most-free", 0, "largest `number` of nodes that are free for a tool and have not gone yet; 0 means only the limits of the services")
	fs.DurationVar(&c.refresh, "refresh", 5*time.Second, cli.Meaning("refresh"))
	fs.StringVar(&c.image, "kured-image", protector.DefaultKuredImage, "`image` of the pods that block kured; it must run until SIGTERM")
	fs.StringVar(&c.machines, "machines", "", "`FILE[:CONTEXT]` or in-cluster: the management cluster of Cluster API; the cluster of -cluster if empty")
	fs.StringVar(&c.machineNamespace, "machine-namespace", "", "`namespace` of the Machines; all namespaces if empty")
	fs.StringVar(&c.machineSpec, "machine-cluster", "", "`name` of the Cluster object; the name in -cluster if empty")
	fs.BoolVar(&c.dryRun, "dry-run", false, cli.Meaning("dry-run", "log what nodegate would do"))
	fs.BoolVar(&c.remove, "remove", false, "remove all protection, end the grants of the tools, and exit")
	c.admin.Register(fs, "/metrics, /healthz and /readyz", "")
	c.logFormat.Register(fs)
}

func (c *protectCommand) check(nodes []string) error {
	c.selectors = map[string]string{}
	for _, spec := range c.tools {
		tool, selector, _ := strings.Cut(spec, "=")
		if _, twice := c.selectors[tool]; twice {
			return fmt.Errorf("-tool: %s is listed twice", tool)
		}
		switch {
		case !slices.Contains([]string{toolKarpenter, toolAutoscaler, toolKured, toolMachines}, tool):
			return fmt.Errorf("-tool: there is no tool %q", tool)
		case tool == toolMachines && selector != "":
			return errors.New("-tool: cluster-api needs -machine-cluster instead of a selector")
		}
		if _, err := labels.Parse(selector); err != nil {
			return fmt.Errorf("-tool %s: %w", spec, err)
		}
		c.selectors[tool] = selector
	}
	switch {
	case len(c.tools) == 0:
		return errors.New("-tool is missing")
	case c.refresh <= 0 || c.rules.Settle <= 0:
		return errors.New("-refresh and -settle must be more than 0")
	case c.rules.Free < time.Second:
		return errors.New("-free must be 1s or more")
	case c.rules.Most < 0:
		return errors.New("-most-free must not be negative")
	case c.dryRun && c.remove:
		return errors.New("-dry-run and -remove exclude each other")
	}
	return errors.Join(noArguments(nodes), c.admin.Check())
}

// protectors returns a Protector for each tool of -tool, by the name of the tool.
func (c *protectCommand) protectors(s *settings) (map[string]*protector.Protector, error) {
	k, err := s.keeper()
	if err != nil {
		return nil, err
	}
	config, err := load(s.conn)
	if err != nil {
		return nil, err
	}
	nodes, err := keeper.NewNodeClient(config)
	if err != nil {
		return nil, err
	}
	all := map[string]*protector.Protector{}
	for name, selector := range c.selectors {
		p := &protector.Protector{Keeper: k, Holder: "protect-" + name, Settings: c.rules, DryRun: c.dryRun}
		switch name {
		case toolKarpenter:
			tool := protector.Karpenter(nodes)
			if selector != "" {
				tool.Selector = selector
			}
			p.Tool = tool
		case toolAutoscaler:
			tool := protector.ClusterAutoscaler(nodes)
			tool.Selector = selector
			p.Tool = tool
		case toolKured:
			pods, err := protector.NewPodClient(config, s.leaseNamespace)
			if err != nil {
				return nil, err
			}
			p.Tool = &protector.Kured{Nodes: nodes, Pods: pods, Image: c.image, Selector: selector}
		case toolMachines:
			management := config
			if c.machines != "" {
				if management, err = load(c.machines); err != nil {
					return nil, fmt.Errorf("-machines: %w", err)
				}
			}
			client, err := dynamic.NewForConfig(management)
			if err != nil {
				return nil, err
			}
			cluster := c.machineSpec
			if cluster == "" {
				cluster = s.name
			}
			p.Tool = &protector.Machines{Client: client, Namespace: c.machineNamespace, Cluster: cluster}
		}
		all[name] = p
	}
	return all, nil
}

func (c *protectCommand) run(ctx context.Context, inv cli.Invocation, s *settings, _ []string) (int, error) {
	log := inv.Logger(c.logFormat, slog.LevelInfo)
	kubeconn.LogTo(log)
	all, err := c.protectors(s)
	if err != nil {
		return 0, err
	}
	m := newProtectMetrics()
	for name, p := range all {
		p.Event = func(e protector.Event) { m.event(name, e); logEvent(log.With("tool", name), c.dryRun, e) }
	}
	if c.remove {
		var errs []error
		for name, p := range all {
			if err := p.Remove(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		return cli.ExitOK, errors.Join(errs...)
	}
	group, ctx := errgroup.WithContext(ctx)
	if c.admin.Wanted(ctx) {
		admin := cli.Admin{Gatherer: m.registry, Ready: m.ready}
		listeners, err := c.admin.Listen(ctx, &admin)
		if err != nil {
			return 0, err
		}
		group.Go(func() error { return admin.Serve(ctx, listeners...) })
	}
	for name, p := range all {
		group.Go(func() error {
			if err := p.Run(ctx, c.refresh, func(status protector.Status, err error) { m.step(log, name, status, err) }); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	log.Info("protecting nodes", "tools", slices.Sorted(maps.Keys(all)), "dry-run", c.dryRun)
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return 0, err
	}
	return cli.ExitOK, nil
}

func logEvent(log *slog.Logger, dryRun bool, e protector.Event) {
	message := map[protector.Action]string{
		protector.Protect: "protected", protector.Free: "free: the tool may take it", protector.Release: "the grant ends",
	}[e.Action]
	switch {
	case e.Err != nil:
		log.Warn("failed to "+string(e.Action), "object", e.Object, "node", e.Node, "err", e.Err)
	case dryRun:
		log.Info("would "+string(e.Action), "object", e.Object, "node", e.Node)
	default:
		log.Info(message, "object", e.Object, "node", e.Node)
	}
}

// protectMetrics are the metrics of "nodegate protect".
type protectMetrics struct {
	registry                              *prometheus.Registry
	objects, free, waiting, unsafe, canDo *prometheus.GaugeVec
	actions, failures                     *prometheus.CounterVec

	mu   sync.Mutex
	errs map[string]error // the error of the last step of each tool; a tool without an entry has made no step
}

func newProtectMetrics() *protectMetrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"tool"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"tool", "action"})
	}
	m := &protectMetrics{
		registry: cli.NewRegistry(), errs: map[string]error{},
		objects:  gauge("headgate_nodegate_protect_objects", "Nodes or machines that the tool can take away."),
		free:     gauge("headgate_nodegate_protect_free", "Nodes or machines that the tool may take away now."),
		waiting:  gauge("headgate_nodegate_protect_waiting", "Nodes or machines that the tool wants to take away and must leave alone."),
		unsafe:   gauge("headgate_nodegate_protect_unprotected", "Nodes or machines that must be protected and are not, because a request failed."),
		canDo:    gauge("headgate_nodegate_protect_can_tell", "1 if the last step could decide. If 0, all nodes are protected."),
		actions:  counter("headgate_nodegate_protect_actions_total", "Actions that succeeded."),
		failures: counter("headgate_nodegate_protect_failures_total", "Actions that failed."),
	}
	m.registry.MustRegister(m.objects, m.free, m.waiting, m.unsafe, m.canDo, m.actions, m.failures)
	return m
}

func (m *protectMetrics) event(tool string, e protector.Event) {
	if e.Err != nil {
		m.failures.WithLabelValues(tool, string(e.Action)).Inc()
		return
	}
	m.actions.WithLabelValues(tool, string(e.Action)).Inc()
}

func (m *protectMetrics) step(log *slog.Logger, tool string, status protector.Status, err error) {
	m.mu.Lock()
	last, known := m.errs[tool]
	m.errs[tool] = err
	m.mu.Unlock()
	can := 1.0
	if err != nil {
		can = 0
		if !known || last == nil || last.Error() != err.Error() {
			log.Error("cannot tell which nodes may go, so all are protected", "tool", tool, "err", err)
		}
	}
	m.canDo.WithLabelValues(tool).Set(can)
	if status.Objects == 0 && err != nil { // the objects are unknown
		return
	}
	m.objects.WithLabelValues(tool).Set(float64(status.Objects))
	m.free.WithLabelValues(tool).Set(float64(status.Free))
	m.waiting.WithLabelValues(tool).Set(float64(status.Waiting))
	m.unsafe.WithLabelValues(tool).Set(float64(status.Unprotected))
}

// ready returns an error if no Protector has made its first step yet, or if the last step of a
// Protector ended with an error. In each step, a Protector decides which nodes its tool may take.
func (m *protectMetrics) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.errs) == 0 {
		return errors.New("no step has been made yet")
	}
	return errors.Join(slices.Collect(maps.Values(m.errs))...)
}
