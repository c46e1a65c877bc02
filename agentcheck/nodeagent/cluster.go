package nodeagent

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
)

// cluster sees one through its API server.
type cluster struct {
	client    rest.Interface
	rules     Rules
	signals   []Signal
	selectors []selector
	interval  time.Duration // between counts of the nodes
	again     chan struct{} // asks for a count

	mu       sync.Mutex
	pending  map[string]bool // sources of which there is no list yet
	failing  map[string]error
	heard    time.Time
	node     *corev1.Node
	lost     time.Time        // when it was found gone
	asks     []map[string]Ask // by selector
	services services
	nodes    int
	counted  time.Time // when that was asked for
}

// selector is how the API server filters nodes.
type selector struct{ fields, labels string }

// Names of sources, in errors too.
const (
	sourceNode     = "the node"
	sourceServices = "services"
	sourceCount    = "the number of nodes"
)

// externalServices selects the Services that have node ports.
const externalServices = "spec.type!=ClusterIP,spec.type!=ExternalName"

func newCluster(config *rest.Config, rules Rules, interval time.Duration) (*cluster, error) {
	clients, err := kubewatch.NewClients(config)
	if err != nil {
		return nil, fmt.Errorf("agentcheck/nodeagent: %w", err)
	}
	c := &cluster{
		client: clients.Core, rules: rules, signals: rules.signals(),
		interval: interval, again: make(chan struct{}, 1),
		pending: map[string]bool{sourceNode: true, sourceServices: true, sourceCount: true},
		failing: map[string]error{},
		nodes:   -1,
	}
	seen := map[selector]bool{{}: true}
	for _, s := range c.signals {
		by := selector{s.Fields, s.Labels}
		if seen[by] {
			continue
		}
		seen[by] = true
		c.pending[by.source()] = true
		c.selectors = append(c.selectors, by)
		c.asks = append(c.asks, nil)
	}
	return c, nil
}

func (s selector) source() string { return "nodes with " + s.fields + s.labels }

func (c *cluster) run(ctx context.Context, poke func()) error {
	var sources sync.WaitGroup
	sources.Go(func() { c.watchNode(ctx, poke) })
	for i, by := range c.selectors {
		sources.Go(func() { c.watchNodes(ctx, i, by, poke) })
	}
	sources.Go(func() { c.watchServices(ctx, poke) })
	sources.Go(func() { c.count(ctx, poke) })
	sources.Wait()
	return ctx.Err()
}

// sink changes what is seen, under its lock, and pokes.
type sink[T any] struct {
	c       *cluster
	source  string
	poke    func()
	replace func([]T)
	set     func(T)
	delete  func(types.NamespacedName)
}

func (s sink[T]) Replace(list []T) {
	s.change(func() {
		delete(s.c.pending, s.source)
		s.replace(list)
	})
}

func (s sink[T]) Set(obj T) { s.change(func() { s.set(obj) }) }

func (s sink[T]) Delete(namespace, name string) {
	s.change(func() { s.delete(types.NamespacedName{Namespace: namespace, Name: name}) })
}

func (s sink[T]) change(f func()) {
	s.c.mu.Lock()
	s.c.heard = time.Now()
	f()
	s.c.mu.Unlock()
	s.poke()
}

// health returns what a source tells its errors to.
func (c *cluster) health(source string, poke func()) func(error) {
	return func(err error) {
		c.mu.Lock()
		if err == nil {
			c.heard = time.Now()
			delete(c.failing, source)
		} else {
			c.failing[source] = err
		}
		c.mu.Unlock()
		poke()
	}
}

func (c *cluster) watchNode(ctx context.Context, poke func()) {
	source := kubewatch.Source[*corev1.Node]{
		Client: c.client, Resource: "nodes", Fields: "metadata.name=" + c.rules.Node, Transform: stripNode,
	}
	source.Run(ctx, sink[*corev1.Node]{
		c: c, source: sourceNode, poke: poke,
		replace: func(list []*corev1.Node) {
			if len(list) == 0 {
				c.lose()
			}
			for _, n := range list {
				c.node = n
			}
		},
		set:    func(n *corev1.Node) { c.node = n },
		delete: func(types.NamespacedName) { c.lose() },
	}, c.health(sourceNode, poke))
}

// lose takes note that the own node is gone.
func (c *cluster) lose() {
	if c.node != nil {
		c.node, c.lost = nil, time.Now()
	}
}

// watchNodes keeps of each node that a selector selects what its signals say.
func (c *cluster) watchNodes(ctx context.Context, i int, by selector, poke func()) {
	source := kubewatch.Source[*corev1.Node]{
		Client: c.client, Resource: "nodes", Fields: by.fields, Labels: by.labels, Transform: stripNode,
	}
	set := func(n *corev1.Node) {
		if ask, ok := combine(askOf(n, c.signals)); ok {
			c.asks[i][n.Name] = ask
		} else {
			delete(c.asks[i], n.Name)
		}
	}
	source.Run(ctx, sink[*corev1.Node]{
		c: c, source: by.source(), poke: poke,
		replace: func(list []*corev1.Node) {
			c.asks[i] = make(map[string]Ask, len(list))
			for _, n := range list {
				set(n)
			}
		},
		set:    set,
		delete: func(key types.NamespacedName) { delete(c.asks[i], key.Name) },
	}, c.health(by.source(), poke))
}

// stripNode drops what is large and no signal looks at.
func stripNode(n *corev1.Node) (*corev1.Node, bool) {
	n.Status.Images, n.Status.VolumesInUse, n.Status.VolumesAttached = nil, nil, nil
	return n, true
}

// watchServices follows the Services with node ports, or all of them where the API
// server is too old to select by type.
func (c *cluster) watchServices(ctx context.Context, poke func()) {
	filtered, cancel := context.WithCancel(ctx)
	defer cancel()
	source := kubewatch.Source[*corev1.Service]{
		Client: c.client, Resource: "services", Fields: externalServices, Transform: stripService(c.rules.Annotations),
	}
	to := sink[*corev1.Service]{
		c: c, source: sourceServices, poke: poke,
		replace: c.services.replace, set: c.services.set, delete: c.services.delete,
	}
	health := c.health(sourceServices, poke)
	source.Run(filtered, to, func(err error) {
		health(err)
		if apierrors.IsBadRequest(err) {
			cancel()
		}
	})
	if ctx.Err() == nil {
		source.Fields = ""
		health(nil)
		source.Run(ctx, to, health)
	}
}

// count keeps the number of nodes.
func (c *cluster) count(ctx context.Context, poke func()) {
	health := c.health(sourceCount, poke)
	const first, longest = 200 * time.Millisecond, 5 * time.Second
	retry := first
	var since time.Time // of the failure
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		n, err := kubewatch.Count(ctx, c.client, "nodes")
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if since.IsZero() {
				since = time.Now()
			}
			health(fmt.Errorf("%w (since %s)", err, since.UTC().Format(time.RFC3339)))
			timer.Reset(retry + rand.N(retry/4))
			retry = min(2*retry, longest)
			continue
		}
		c.mu.Lock()
		c.nodes, c.counted = n, began
		delete(c.pending, sourceCount)
		c.mu.Unlock()
		health(nil)
		retry, since = first, time.Time{}

		// Not all agents of a cluster at the same moment. Sooner if asked, though not
		// for each of a flood of changes.
		timer.Reset(minRecount)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(c.interval*3/4 + rand.N(c.interval/2))
		select {
		case <-ctx.Done():
			return
		case <-c.again:
			timer.Reset(0)
		case <-timer.C:
			timer.Reset(0)
		}
	}
}

func (c *cluster) recount() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

func (c *cluster) view() (view, []nodeselect.Problem, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.error()
	if len(c.pending) > 0 {
		return view{}, nil, false, err
	}
	v := view{node: c.node, asks: map[string]Ask{}, nodes: c.nodes, services: c.services.objects(c.rules.Annotations)}
	v.counted = c.counted.After(c.lost)
	for _, asks := range c.asks {
		maps.Copy(v.asks, asks)
	}
	delete(v.asks, c.rules.Node) // of which c.node tells
	return v, nil, true, err
}

// error returns one of the errors, always the same one while it lasts.
func (c *cluster) error() error {
	for _, source := range c.sources() {
		if err := c.failing[source]; err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) sources() []string {
	sources := []string{sourceNode}
	for _, by := range c.selectors {
		sources = append(sources, by.source())
	}
	return append(sources, sourceServices, sourceCount)
}

func (c *cluster) contact() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

func (c *cluster) missing(v view, node string) error {
	return fmt.Errorf("%w: %q; the cluster has %d others", ErrNoNode, node, v.nodes)
}
