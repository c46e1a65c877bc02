//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var weight = scenario.Scenario[*Env]{
	Name:  "weight",
	About: "annotations move a service from one cluster to the other and back within 3 s",
	Run:   underLoad(runWeight),
}

func runWeight(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	one, other := s.Clusters[0], s.Clusters[1]
	start := time.Now()
	if err := s.setWeight(ctx, other, 0); err != nil {
		return err
	}
	if err := s.weightGone(ctx, t, fmt.Sprintf("%s 100, %s 100 to 0", one.Name, other.Name), other, start); err != nil {
		return err
	}
	// Move the weight in both directions, twice: the result may depend on the order in which
	// HAProxy asks the agents of the two clusters, and this order is unknown.
	for range 2 {
		for _, move := range [][2]*lab.Cluster{{one, other}, {other, one}} {
			if err := s.moveWeight(ctx, t, move[0], move[1]); err != nil {
				return err
			}
		}
	}
	return s.shareWeight(ctx, t, one, other)
}

// moveWeight moves all traffic of the service from one cluster to the other. It annotates the
// Service in the old cluster with the weight 0, and immediately after that, the Service in the new
// cluster with the weight 100. If the agents did not delay a weight of 0, all servers would have
// the weight 0 between these two steps.
func (s *System) moveWeight(ctx context.Context, t *traffic, from, to *lab.Cluster) error {
	start := time.Now()
	if err := s.setWeight(ctx, from, 0); err != nil {
		return err
	}
	if err := s.setWeight(ctx, to, 100); err != nil {
		return err
	}
	return s.weightGone(ctx, t, fmt.Sprintf("%s 100 to 0 and %s 0 to 100 at once", from.Name, to.Name), from, start)
}

// weightGone adds a row with the text "what" to the report. At the time "since", the weight of the
// cluster c became 0, but the agents keep the old weight for the time zeroWeightDelay. The row fails
// in two cases:
//   - c receives its last request before zeroWeightDelay has passed.
//   - c receives its last request more than 3 s (effect) after "since".
func (s *System) weightGone(ctx context.Context, t *traffic, what string, c *lab.Cluster, since time.Time) error {
	took, err := t.last(ctx, "in "+c.Name, since, within(c))
	if err == nil {
		err = s.awaitWeight(ctx, c, 0)
	}
	if err == nil && took < zeroWeightDelay {
		err = fmt.Errorf("the last request in %s came after %s, but the delay is %s", c.Name, took, zeroWeightDelay)
	}
	return t.row(scenario.Row{What: what, Took: took, Within: effect, Err: err}, since)
}

// shareWeight sets the weight 75 in the cluster "heavy" and the weight 25 in the cluster "light". It
// checks that "heavy" gets 75% of the requests, with a tolerance of 3 percentage points.
func (s *System) shareWeight(ctx context.Context, t *traffic, heavy, light *lab.Cluster) error {
	const percent = 75
	start := time.Now()
	for c, weight := range map[*lab.Cluster]int{heavy: percent, light: 100 - percent} {
		if err := s.setWeight(ctx, c, weight); err != nil {
			return err
		}
	}
	for c, weight := range map[*lab.Cluster]int{heavy: percent, light: 100 - percent} {
		if err := s.awaitWeight(ctx, c, weight); err != nil {
			return err
		}
	}
	since := time.Now()
	took := since.Sub(start)
	const requests = 400
	if err := t.await(ctx, requests, since); err != nil {
		return err
	}
	all, to := 0, 0
	var nodes []string
	for _, c := range []*lab.Cluster{heavy, light} {
		for name, n := range t.entries(c, since) {
			if all += n; c == heavy {
				to += n
			}
			nodes = append(nodes, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(nodes)
	share := 100 * float64(to) / float64(all)
	var err error
	// HAProxy selects servers in turn, in proportion to their weights. So the measured share of the
	// requests differs from the cluster's share of the weights by a few requests at most.
	if share < percent-3 || share > percent+3 {
		err = fmt.Errorf("%s got %.1f%% of %d requests; the requests of each node: %s", heavy.Name, share, all, strings.Join(nodes, ", "))
	}
	return t.row(scenario.Row{What: fmt.Sprintf("%s 75, %s 25: %.1f%% of requests in %s", heavy.Name, light.Name, share, heavy.Name), Took: took, Within: effect, Err: err}, start)
}

func (s *System) setWeight(ctx context.Context, c *lab.Cluster, percent int) error {
	return c.AnnotateService(ctx, appNamespace, tracks, weightKey, fmt.Sprint(percent))
}

// awaitWeight waits until each server of the service "tracks" in the cluster has the given weight
// in HAProxy, in percent of its configured weight. The configured weight is 100, and an agent
// answers a percentage of this configured weight.
func (s *System) awaitWeight(ctx context.Context, c *lab.Cluster, percent int) error {
	port, err := s.nodePort(ctx, c, tracks)
	if err != nil {
		return err
	}
	_, err = lab.Until(ctx, fmt.Sprintf("weight %d in %s", percent, c.Name), patience, func(ctx context.Context) error {
		servers, err := s.HAProxy.Servers(ctx, c, port)
		if err != nil {
			return err
		}
		for _, server := range servers {
			if server.UserWeight != percent {
				return fmt.Errorf("%s has %d", server.Server, server.UserWeight)
			}
		}
		if len(servers) != nodesPerService {
			return fmt.Errorf("there are %d servers", len(servers))
		}
		return nil
	}, s.Terminator.Process)
	return err
}
