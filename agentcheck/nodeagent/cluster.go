package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
)

// cluster reads the cluster of a Watcher from an API server. It has several feeds: a watch of the
// agent's own node, a watch for each selector of other nodes that drain, a watch of Services, and a
// regular count of all nodes.
type cluster struct {
	client        rest.Interface
	rules         Rules // the Rules of the Watcher, with the default in place of each zero
	selectors     []selector
	countInterval time.Duration
	countNow      chan struct{}
	notify        func() // the method run sets it

	mu       sync.Mutex
	pending  map[string]bool           // feeds without a first result
	failing  map[string]error          // feeds that fail at present
	contact  time.Time                 // when the API server last answered
	node     *corev1.Node              // the own node, nil if it is missing
	missing  time.Time                 // when the agent last noticed that the own node is missing
	requests []map[string]DrainRequest // the drain requests that each selector has found, by node name
	services services
	nodes    int       // number of all nodes, -1 before the first count
	counted  time.Time // when the agent sent the request whose answer is the field nodes
}

// selector has the two selectors of a Signal: its field "fields" is the field selector, and its
// field "labels" is the label selector.
type selector struct{ fields, labels string }

// Names of feeds, also in errors.
const (
	feedNode     = "the node"
	feedServices = "services"
	feedCount    = "the number of nodes"
)

func (s selector) feed() string { return "nodes with " + s.fields + s.labels }

// externalServices is a field selector for the Services that have node ports.
const externalServices = "spec.type!=ClusterIP,spec.type!=ExternalName"

// minRecount is the shortest time between two requests for the number of nodes.
const minRecount = time.Second

func newCluster(config *rest.Config, rules Rules, countInterval time.Duration) (*cluster, error) {
	clients, err := kubewatch.NewClients(config)
	if err != nil {
		return nil, fmt.Errorf("agentcheck/nodeagent: %w", err)
	}
	c := &cluster{
		client: clients.Core, rules: rules.withDefaults(),
		countInterval: max(cmp.Or(max(countInterval, 0), time.Minute), minRecount),
		countNow:      make(chan struct{}, 1),
		pending:       map[string]bool{feedNode: true, feedServices: true, feedCount: true},
		failing:       map[string]error{},
		nodes:         -1,
	}
	seen := map[selector]bool{{}: true}
	for _, s := range c.rules.Signals {
		by := selector{s.Fields, s.Labels}
		if seen[by] {
			continue
		}
		seen[by] = true
		c.pending[by.feed()] = true
		c.selectors = append(c.selectors, by)
		c.requests = append(c.requests, nil)
	}
	return c, nil
}

func (c *cluster) run(ctx context.Context, notify func()) error {
	c.notify = notify
	var feeds sync.WaitGroup
	feeds.Go(func() { c.watchNode(ctx) })
	for i := range c.selectors {
		feeds.Go(func() { c.watchSelected(ctx, i) })
	}
	feeds.Go(func() { c.watchServices(ctx) })
	feeds.Go(func() { c.countNodes(ctx) })
	feeds.Wait()
	return ctx.Err()
}

// The method "change" calls the function "update" while it holds the lock of the cluster, and then
// calls the function c.notify.
func (c *cluster) change(update func()) {
	c.mu.Lock()
	update()
	c.mu.Unlock()
	c.notify()
}

// The method "health" returns the function with which one feed, a watch or the count of the nodes,
// reports each error. The feed calls it with nil when the feed works again. c.failing keeps the
// last error of each feed that fails.
func (c *cluster) health(feed string) func(error) {
	return func(err error) {
		c.change(func() {
			if err != nil {
				c.failing[feed] = err
				return
			}
			c.contact = time.Now()
			delete(c.failing, feed)
		})
	}
}

// sink is the kubewatch.Sink of one watch: kubewatch calls it with each object that the watch
// receives. It passes the objects to the functions "replace", "set" and "delete", and holds the
// lock of the cluster during these calls.
type sink[T any] struct {
	c       *cluster
	feed    string
	replace func([]T)
	set     func(T)
	delete  func(types.NamespacedName)
}

func (s sink[T]) Replace(list []T) {
	s.change(func() {
		delete(s.c.pending, s.feed)
		s.replace(list)
	})
}

func (s sink[T]) Set(obj T) { s.change(func() { s.set(obj) }) }

func (s sink[T]) Delete(namespace, name string) {
	s.change(func() { s.delete(types.NamespacedName{Namespace: namespace, Name: name}) })
}

func (s sink[T]) change(update func()) {
	s.c.change(func() {
		s.c.contact = time.Now()
		update()
	})
}

func (c *cluster) watchNode(ctx context.Context) {
	source := kubewatch.Source[*corev1.Node]{
		Client: c.client, Resource: "nodes", Fields: "metadata.name=" + c.rules.Node, Transform: dropLists,
	}
	lose := func() {
		if c.node != nil {
			c.node, c.missing = nil, time.Now()
		}
	}
	source.Run(ctx, sink[*corev1.Node]{
		c: c, feed: feedNode,
		replace: func(list []*corev1.Node) {
			if len(list) == 0 {
				lose()
			}
			for _, n := range list {
				c.node = n
			}
		},
		set:    func(n *corev1.Node) { c.node = n },
		delete: func(types.NamespacedName) { lose() },
	}, c.health(feedNode))
}

// watchSelected watches the nodes that selectors[i] selects, and stores their drain requests in
// requests[i].
func (c *cluster) watchSelected(ctx context.Context, i int) {
	by := c.selectors[i]
	source := kubewatch.Source[*corev1.Node]{
		Client: c.client, Resource: "nodes", Fields: by.fields, Labels: by.labels, Transform: dropLists,
	}
	set := func(n *corev1.Node) {
		if request, ok := merge(requestsOf(n, c.rules.Signals)); ok {
			c.requests[i][n.Name] = request
		} else {
			delete(c.requests[i], n.Name)
		}
	}
	source.Run(ctx, sink[*corev1.Node]{
		c: c, feed: by.feed(),
		replace: func(list []*corev1.Node) {
			c.requests[i] = make(map[string]DrainRequest, len(list))
			for _, n := range list {
				set(n)
			}
		},
		set:    set,
		delete: func(key types.NamespacedName) { delete(c.requests[i], key.Name) },
	}, c.health(by.feed()))
}

// dropLists removes the large lists of a Node object that no Signal reads. It keeps the managed
// fields, because Signals read the times of drain requests there. So it does not use
// nodeselect.TrimNode, which removes the managed fields.
func dropLists(n *corev1.Node) (*corev1.Node, bool) {
	n.Status.Images, n.Status.VolumesInUse, n.Status.VolumesAttached = nil, nil, nil
	return n, true
}

// watchServices watches the Services with node ports. An old API server cannot select Services by
// type, and answers "bad request". Then watchServices watches all Services.
func (c *cluster) watchServices(ctx context.Context) {
	filtered, cancel := context.WithCancel(ctx)
	defer cancel()
	source := kubewatch.Source[*corev1.Service]{
		Client: c.client, Resource: "services", Fields: externalServices,
		Transform: func(svc *corev1.Service) (*corev1.Service, bool) { return c.rules.Annotations.TrimService(svc), true },
	}
	to := sink[*corev1.Service]{
		c: c, feed: feedServices,
		replace: c.services.replace, set: c.services.set, delete: c.services.delete,
	}
	health := c.health(feedServices)
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

// countNodes reads the number of nodes from the API server, about once in each countInterval, at
// random times. It also reads the number soon after each call of the method "recount".
func (c *cluster) countNodes(ctx context.Context) {
	const firstRetry, longestRetry = 200 * time.Millisecond, 5 * time.Second
	health := c.health(feedCount)
	retry := firstRetry
	var failingSince time.Time
	for ctx.Err() == nil {
		began := time.Now()
		n, err := kubewatch.Count(ctx, c.client, "nodes")
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failingSince = earliest(failingSince, time.Now())
			health(fmt.Errorf("%w (since %s)", err, failingSince.UTC().Format(time.RFC3339)))
			sleep(ctx, retry+rand.N(retry/4), nil)
			retry = min(2*retry, longestRetry)
			continue
		}
		retry, failingSince = firstRetry, time.Time{}
		c.mu.Lock()
		c.nodes, c.counted = n, began
		delete(c.pending, feedCount)
		c.mu.Unlock()
		health(nil)

		sleep(ctx, minRecount, nil)
		// The random part makes the agents of a cluster count the nodes at different moments.
		sleep(ctx, c.countInterval*3/4+rand.N(c.countInterval/2), c.countNow)
	}
}

// sleep waits for d. It returns earlier if ctx ends, or if the channel "early" receives a value.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-early:
	case <-time.After(d):
	}
}

func (c *cluster) recount() {
	select {
	case c.countNow <- struct{}{}:
	default:
	}
}

func (c *cluster) snapshot() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 {
		return snapshot{err: c.firstError(), contact: c.contact}
	}
	s := snapshot{
		complete: true, err: c.firstError(), contact: c.contact,
		node: c.node, requests: map[string]DrainRequest{},
		nodes: c.nodes, counted: c.counted.After(c.missing),
		objects: c.services.objects(c.rules.Annotations),
	}
	for _, requests := range c.requests {
		maps.Copy(s.requests, requests)
	}
	delete(s.requests, c.rules.Node) // the tracker computes the requests of the own node from the field node
	return s
}

// firstError returns the error of a feed that fails, or nil. If several feeds fail, it returns the
// error of the feed that is first in a fixed order. So the result does not alternate between the
// errors of several feeds.
func (c *cluster) firstError() error {
	feeds := []string{feedNode}
	for _, by := range c.selectors {
		feeds = append(feeds, by.feed())
	}
	for _, feed := range append(feeds, feedServices, feedCount) {
		if err := c.failing[feed]; err != nil {
			return err
		}
	}
	return nil
}

// services holds the Services of a cluster. An agent port must differ from all node ports, so
// services also holds the Services without annotations. It stores only their ports (nodePorts),
// which need 34 bytes for each Service instead of 680. For 5,000 such Services this saves 3 MB of
// the agent's 33 MB.
type services struct {
	annotated map[types.NamespacedName]*corev1.Service
	others    map[types.NamespacedName]nodePorts
}

// nodePorts are the ports that a Service occupies on each node.
type nodePorts struct {
	ports  []uint16
	health uint16 // the health check node port, 0 for none
}

func (s *services) replace(list []*corev1.Service) {
	s.annotated = make(map[types.NamespacedName]*corev1.Service)
	s.others = make(map[types.NamespacedName]nodePorts, len(list))
	for _, svc := range list {
		s.set(svc)
	}
}

// set adds or replaces a Service. The caller has trimmed it with Annotations.TrimService, so a
// Service without headgate's annotations has no annotations.
func (s *services) set(svc *corev1.Service) {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	s.delete(key)
	if len(svc.Annotations) > 0 {
		s.annotated[key] = svc
		return
	}
	n := nodePorts{health: uint16(svc.Spec.HealthCheckNodePort)}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			n.ports = append(n.ports, uint16(p.NodePort))
		}
	}
	if len(n.ports) > 0 || n.health != 0 {
		n.ports = slices.Clip(n.ports)
		s.others[key] = n
	}
}

func (s *services) delete(key types.NamespacedName) {
	delete(s.annotated, key)
	delete(s.others, key)
}

// objects returns all annotated Services. It also returns a Service without annotations if one of
// its node ports is the agent port that an annotated Service wants.
func (s *services) objects(a nodeselect.Annotations) nodeselect.Objects {
	list := make([]*corev1.Service, 0, len(s.annotated))
	agentPorts := map[uint16]bool{}
	for _, svc := range s.annotated {
		list = append(list, svc)
		if port, _ := a.AgentPort(svc); port != 0 {
			agentPorts[port] = true
		}
	}
	for key, n := range s.others {
		if !agentPorts[n.health] && !slices.ContainsFunc(n.ports, func(p uint16) bool { return agentPorts[p] }) {
			continue
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		svc.Spec.Type, svc.Spec.HealthCheckNodePort = corev1.ServiceTypeNodePort, int32(n.health)
		for _, p := range n.ports {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{NodePort: int32(p)})
		}
		list = append(list, svc)
	}
	return nodeselect.NewObjects(nil, list)
}
