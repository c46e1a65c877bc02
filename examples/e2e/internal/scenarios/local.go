//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var local = scenario.Scenario[*Env]{
	Name:  "local",
	About: "with externalTrafficPolicy Local, the nodes of a service are the nodes with ready pods, with weights by their pods",
	Run:   underLoad(runLocal),
}

// nearby is a service with externalTrafficPolicy Local.
const nearby = "nearby"

func runLocal(ctx context.Context, s *System, all *traffic, report *scenario.Report) (err error) {
	c := s.Clusters[1]
	nodes := c.Nodes()
	d, err := c.Deploy(ctx, lab.App{Namespace: appNamespace, Name: nearby, Local: true, On: nodes[:1]})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.removeNearby(ctx, d)) }()
	if err := s.Routes.set(append(systemRoutes(), route{host: host(nearby), backends: []backend{{c.Name, nearby, "http"}}})); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, host(nearby), patience, func(ctx context.Context) error {
		return s.wantStatus(ctx, host(nearby), "/", http.StatusOK)
	}, s.Terminator.Process); err != nil {
		return err
	}
	t := s.startTraffic(ctx, report, host(nearby), "/")
	defer t.Stop()

	// Move the pod to one node after the other: the subset (the nodes that the terminator selects
	// for the service) must contain only the node of the pod. A terminator that ignores the pod
	// would select the same two of the three nodes all the time.
	for i := range nodes {
		start := time.Now()
		if i > 0 {
			if err := s.moveNearby(ctx, t, d, nodes[i]); err != nil {
				return err
			}
		}
		since := time.Now()
		if err := t.await(ctx, 2*loadRate, since); err != nil {
			return err
		}
		err := s.nearbyIsAt(ctx, t, c, since, nodes[i].Name)
		if err := t.row(scenario.Row{What: fmt.Sprintf("its pod is on %s: requests come only through that node", nodes[i].Name), Err: err}, start); err != nil {
			return err
		}
	}
	if err := s.nearbyWeights(ctx, t, d); err != nil {
		return err
	}
	t.Stop()
	return t.row(scenario.Row{What: "all requests to the service"}, time.Time{})
}

// moveNearby runs a pod on another node and then stops the old pod as a rollout does: the API server
// first marks the old pod as terminating, and the server in the pod continues to serve for some
// time.
func (s *System) moveNearby(ctx context.Context, t *traffic, d *lab.Deployed, to *lab.Node) error {
	old := d.Pods[len(d.Pods)-1]
	pod, err := to.RunPod(ctx, appNamespace, nearby)
	if err != nil {
		return err
	}
	d.Pods = append(d.Pods, pod)
	start := time.Now()
	took, err := t.first(ctx, "by "+to.Name, start, through(to))
	if err := t.row(scenario.Row{What: fmt.Sprintf("a pod is ready on %s: it gets requests", to.Name), Took: took, Within: effect, Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	grace := int64(60)
	if err := d.Cluster.Client.CoreV1().Pods(appNamespace).Delete(ctx, old.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		return err
	}
	took, err = t.last(ctx, "by "+old.Node.Name, start, through(old.Node))
	return t.row(scenario.Row{What: fmt.Sprintf("the pod on %s terminates: its node gets no new request", old.Node.Name), Took: took, Within: effect, Err: err}, start)
}

// nearbyIsAt checks that only the node in the argument "node" serves: no other node is in the
// subset that the terminator selects for the service, has servers in HAProxy, or has received
// requests since the time "since".
func (s *System) nearbyIsAt(ctx context.Context, t *traffic, c *lab.Cluster, since time.Time, node string) error {
	subset, err := s.Terminator.Subset(c.Name, nearby)
	if err != nil {
		return err
	}
	if !slices.Equal(subset, []string{node}) {
		return fmt.Errorf("the subset is %s", strings.Join(subset, ", "))
	}
	if came := t.entries(c, since); len(came) != 1 || came[node] == 0 {
		return fmt.Errorf("requests came through %v", came)
	}
	// The source address that the pod sees must be the address of HAProxy: the node of the pod
	// sends the request directly to the pod, without masquerading.
	if r, ok := t.First(since, func(r request) bool { return r.Answer.Source != s.Edge.Addr.String() }); ok {
		return fmt.Errorf("%s saw the client address %s, not %s of HAProxy", r.Answer.Pod, r.Answer.Source, s.Edge.Addr)
	}
	return nil
}

// nearbyWeights begins with one pod. It runs two more pods on the node of this pod, and one pod on
// another node. The node with three pods must then get three of four requests.
func (s *System) nearbyWeights(ctx context.Context, t *traffic, d *lab.Deployed) error {
	start := time.Now()
	three := d.Pods[len(d.Pods)-1].Node
	one := d.Cluster.Nodes()[0]
	for _, n := range []*lab.Node{three, three, one} {
		pod, err := n.RunPod(ctx, appNamespace, nearby)
		if err != nil {
			return err
		}
		d.Pods = append(d.Pods, pod)
	}
	if _, err := lab.Until(ctx, "the weights", patience, func(ctx context.Context) error {
		servers, err := s.HAProxy.Servers(ctx, d.Cluster, d.NodePort)
		if err != nil {
			return err
		}
		weights := map[bool]int{}
		for _, server := range servers {
			weights[at(server, three)] = server.UserWeight
		}
		if len(servers) != 2 || weights[true] != 150 || weights[false] != 50 {
			return fmt.Errorf("%d servers; the weight of %s is %d, and the other weight is %d", len(servers), three.Name, weights[true], weights[false])
		}
		return nil
	}, s.Terminator.Process); err != nil {
		return err
	}
	since := time.Now()
	const requests = 400
	if err := t.await(ctx, requests, since); err != nil {
		return err
	}
	came := t.entries(d.Cluster, since)
	share := 100 * float64(came[three.Name]) / float64(came[three.Name]+came[one.Name])
	var err error
	// HAProxy selects servers in turn, in proportion to their weights. So the measured share of the
	// requests differs from the node's share of the weights by a few requests at most.
	if share < 72 || share > 78 {
		err = fmt.Errorf("requests came through %v", came)
	}
	return t.row(scenario.Row{What: fmt.Sprintf("three pods on %s and one on %s: %s gets %.1f%% of requests", three.Name, one.Name, three.Name, share), Err: err}, start)
}

func (s *System) removeNearby(ctx context.Context, d *lab.Deployed) error {
	if err := s.Routes.set(systemRoutes()); err != nil {
		return err
	}
	_, err := lab.Until(ctx, "no route to "+nearby, patience, func(ctx context.Context) error {
		return s.wantStatus(ctx, host(nearby), "/", http.StatusNotFound)
	}, s.Terminator.Process)
	return errors.Join(err, remove(ctx, d))
}
