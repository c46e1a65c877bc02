//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// routed is the scenario that checks that HAProxy serves the declared routes, through the chosen
// nodes only.
var routed = scenario.Scenario[*Env]{
	Name:  "route",
	About: "a declared route answers through the node ports of exactly the chosen nodes, in both clusters",
	Run:   underLoad(runRoute),
}

func runRoute(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	start := time.Now()
	if err := t.await(ctx, 400, start); err != nil {
		return err
	}
	for _, c := range s.Clusters {
		if err := t.row(scenario.Row{
			What: fmt.Sprintf("%s: requests come only through the %d chosen of %d nodes", c.Name, nodesPerService, len(c.Nodes())),
			Err:  exactlySubset(ctx, s, t, c, start),
		}, start); err != nil {
			return err
		}
	}
	return routeComesAndGoes(ctx, s, t)
}

// exactlySubset returns an error unless three sets of nodes are the same: the subset of the service
// (the nodes that the terminator has selected, according to its report), the nodes with servers in
// HAProxy, and the nodes through which requests came. It considers only the requests that began at
// the time in the argument "since" or later.
func exactlySubset(ctx context.Context, s *System, t *traffic, c *lab.Cluster, since time.Time) error {
	subset, err := s.Terminator.Subset(c.Name, tracks)
	if err != nil {
		return err
	}
	if len(subset) != nodesPerService {
		return fmt.Errorf("the subset is %s", strings.Join(subset, ", "))
	}
	if came := t.entries(c, since); !slices.Equal(slices.Sorted(maps.Keys(came)), subset) {
		return fmt.Errorf("the subset is %s, requests came through %v", strings.Join(subset, ", "), came)
	}
	port, err := s.nodePort(ctx, c, tracks)
	if err != nil {
		return err
	}
	servers, err := s.HAProxy.Servers(ctx, c, port)
	if err != nil {
		return err
	}
	var known []string
	for _, server := range servers {
		for _, n := range c.Nodes() {
			if at(server, n) {
				known = append(known, n.Name)
			}
		}
	}
	if slices.Sort(known); !slices.Equal(known, subset) {
		return fmt.Errorf("the subset is %s, HAProxy has %s", strings.Join(subset, ", "), strings.Join(known, ", "))
	}
	return nil
}

// routeComesAndGoes declares a route and removes it.
func routeComesAndGoes(ctx context.Context, s *System, t *traffic) error {
	const host = "new.example.com"
	if err := s.wantStatus(ctx, host, "/", http.StatusNotFound); err != nil {
		return err
	}
	for _, change := range []struct {
		what   string
		routes []route
		status int
	}{
		{"a new declaration is served", append(systemRoutes(), route{host: host, backends: []backend{{"eu-1", web, "http"}}}), http.StatusOK},
		{"a declaration that is taken back is not", systemRoutes(), http.StatusNotFound},
	} {
		start := time.Now()
		if err := s.Routes.set(change.routes); err != nil {
			return err
		}
		took, err := lab.Until(ctx, fmt.Sprintf("status %d of %s", change.status, host), patience, func(ctx context.Context) error {
			return s.wantStatus(ctx, host, "/", change.status)
		}, s.Terminator.Process)
		if err := t.row(scenario.Row{What: change.what, Took: took, Within: effect, Err: err}, start); err != nil {
			return err
		}
	}
	return nil
}
