//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/haproxycfg/kube"
)

var replace = scenario.Scenario[*Env]{
	Name:  "replace",
	About: "a deleted node is replaced: one server changes in each service that used it, and no other",
	Run:   underLoad(runReplace),
}

func runReplace(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	c := s.Clusters[0]
	nodes, err := s.subsetNodes(c, tracks)
	if err != nil {
		return err
	}
	gone := nodes[0]
	before, err := s.placed(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := gone.Delete(ctx); err != nil {
		return err
	}
	took, err := s.awaitPlaced(ctx, func(now places) error { return replaced(before, now, gone) })
	if err == nil {
		err = s.tellsWhy(gone, before.with(gone))
	}
	if err == nil {
		_, err = t.last(ctx, "by "+gone.Name, start, through(gone))
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("%s deleted: one server changes in each of the %d services that used it", gone.Name, before.with(gone)), Took: took, Within: 5 * time.Second, Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	if err := gone.Create(ctx); err != nil {
		return err
	}
	took, err = s.awaitPlaced(ctx, func(now places) error { return same(before, now) })
	if err == nil {
		_, err = t.first(ctx, "by "+gone.Name, start, through(gone))
	}
	return t.row(scenario.Row{What: gone.Name + " created again: every service has its former nodes", Took: took, Within: 5 * time.Second, Err: err}, start)
}

// places holds two views of one moment: the servers of each backend in HAProxy, and the nodes of
// each service in report.json.
type places struct {
	servers map[string][]string
	nodes   map[string][]string
}

// The method "with" returns how many services use the node n.
func (p places) with(n *lab.Node) int {
	count := 0
	for _, nodes := range p.nodes {
		if slices.Contains(nodes, n.Name) {
			count++
		}
	}
	return count
}

func (s *System) placed(ctx context.Context) (places, error) {
	p := places{servers: make(map[string][]string), nodes: make(map[string][]string)}
	stats, err := s.HAProxy.Stats(ctx)
	if err != nil {
		return p, err
	}
	for _, stat := range stats {
		if stat.Addr != "" {
			p.servers[stat.Proxy] = append(p.servers[stat.Proxy], stat.Addr)
		}
	}
	for _, addrs := range p.servers {
		slices.Sort(addrs)
	}
	report, err := s.Terminator.Report()
	if err != nil {
		return p, err
	}
	for _, r := range report.Services {
		p.nodes[r.Ref.String()] = r.Nodes
	}
	return p, nil
}

// awaitPlaced calls the function "right" again and again, until right returns nil. It passes to
// right the nodes that each service uses at the time of the call. awaitPlaced returns how long it
// has waited.
func (s *System) awaitPlaced(ctx context.Context, right func(places) error) (time.Duration, error) {
	return lab.Until(ctx, "nodes to be replaced", patience, func(ctx context.Context) error {
		now, err := s.placed(ctx)
		if err != nil {
			return err
		}
		return right(now)
	}, s.Terminator.Process)
}

// tellsWhy returns an error unless report.json lists the changed services, and says that the last
// change had exactly one cause: the removal of the node in the argument "gone".
func (s *System) tellsWhy(gone *lab.Node, services int) error {
	report, err := s.Terminator.Report()
	if err != nil {
		return err
	}
	if report.Changes == nil {
		return errors.New("report.json has no change")
	}
	want := []kube.Cause{{Cluster: gone.Cluster.Name, Object: "Node " + gone.Name, What: "removed"}}
	if !slices.Equal(report.Changes.Causes, want) || len(report.Changes.Services) != services {
		return fmt.Errorf("report.json says that %d services changed because of %v", len(report.Changes.Services), report.Changes.Causes)
	}
	for _, c := range report.Changes.Services {
		if !slices.Equal(c.Leave, []string{gone.Name}) || len(c.Enter) != 1 {
			return fmt.Errorf("report.json says that %v left %s and %v entered", c.Leave, c.Ref, c.Enter)
		}
	}
	return nil
}

func same(before, now places) error {
	if !maps.EqualFunc(before.nodes, now.nodes, slices.Equal) {
		return fmt.Errorf("services have the nodes\n%v\nbut had\n%v", now.nodes, before.nodes)
	}
	if !maps.EqualFunc(before.servers, now.servers, slices.Equal) {
		return fmt.Errorf("backends have the servers\n%v\nbut had\n%v", now.servers, before.servers)
	}
	return nil
}

// replaced compares the nodes and servers of each service before and after the removal of the node
// "gone". Each service that used it must now use exactly one other node instead, in the report and
// in HAProxy. If anything else has changed, replaced returns an error.
func replaced(before, now places, gone *lab.Node) error {
	if before.with(gone) == 0 {
		return fmt.Errorf("no service used %s", gone.Name)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(before.nodes)), slices.Sorted(maps.Keys(now.nodes))) ||
		!slices.Equal(slices.Sorted(maps.Keys(before.servers)), slices.Sorted(maps.Keys(now.servers))) {
		return errors.New("services or backends were added or removed")
	}
	for service, nodes := range before.nodes {
		if err := replacedOne(nodes, now.nodes[service], func(n string) bool { return n == gone.Name }, 1); err != nil {
			return fmt.Errorf("report.json: %s: %w", service, err)
		}
	}
	for backend, servers := range before.servers {
		entering := 1
		if strings.HasPrefix(backend, nodesProxy) {
			entering = 0 // the subset contained the other nodes before
		}
		if err := replacedOne(servers, now.servers[backend], func(addr string) bool { return strings.HasPrefix(addr, gone.Addr.String()+":") }, entering); err != nil {
			return fmt.Errorf("HAProxy: %s: %w", backend, err)
		}
	}
	return nil
}

// replacedOne returns nil if the list "before" became the list "now" by a correct replacement. The
// entries of the lists are servers or nodes:
//
//   - If no entry of the list "before" is gone, both lists must have the same entries.
//   - Otherwise, the list "now" must contain the entries of "before" that are not gone, and as many
//     new entries as the argument "entering" says.
func replacedOne(before, now []string, gone func(string) bool, entering int) error {
	left, entered := minus(before, now), minus(now, before)
	if !slices.ContainsFunc(before, gone) {
		entering = 0
	}
	if len(entered) != entering || len(left) > 1 || slices.ContainsFunc(left, gone) != slices.ContainsFunc(before, gone) {
		return fmt.Errorf("%v left and %v entered", left, entered)
	}
	return nil
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
}
