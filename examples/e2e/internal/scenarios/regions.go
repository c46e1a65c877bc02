//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

const (
	nearestHost = "nearest.example.com" // the host of the route that prefers eu-1 for clients in nearRegion
	nearRegion  = "near"
)

var regions = scenario.Scenario[*Env]{
	Name:   "regions",
	About:  "a route prefers one cluster for the region of the client, and the other cluster while too few servers are usable, without a reload",
	Within: 5 * time.Minute,
	Run:    underLoad(runRegions),
}

// regionsFile is the path of a file with the regions of clients.
type regionsFile string

// The method "set" writes the file with one region, nearRegion, which contains the networks.
// Without networks, it writes a file without regions.
func (f regionsFile) set(networks ...netip.Prefix) error {
	if len(networks) == 0 {
		return replaceFile(string(f), "regions: []\n")
	}
	var quoted []string
	for _, n := range networks {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	return replaceFile(string(f), fmt.Sprintf("regions:\n- {name: %s, networks: [%s]}\n", nearRegion, strings.Join(quoted, ", ")))
}

func runRegions(ctx context.Context, s *System, t *traffic, report *scenario.Report) (err error) {
	near, far := s.Clusters[0], s.Clusters[1]
	client := netip.PrefixFrom(s.Client.Addr, s.Client.Addr.BitLen())
	elsewhere := netip.MustParsePrefix("192.0.2.0/24")
	start := time.Now()
	defer func() { err = errors.Join(err, s.Routes.set(systemRoutes()), s.Regions.set()) }()
	if err := s.Regions.set(client); err != nil {
		return err
	}
	if err := s.Routes.set(append(systemRoutes(), route{
		host:     nearestHost,
		backends: []backend{{near.Name, tracks, "http"}, {far.Name, tracks, "http"}},
		prefer: []preference{
			{region: nearRegion, clusters: []string{near.Name, far.Name}, quorum: 100},
			{clusters: []string{far.Name}, quorum: 100},
		},
	})); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, nearestHost, patience, func(ctx context.Context) error {
		status, answer, err := s.ask(ctx, nearestHost, "/")
		if err == nil && (status != http.StatusOK || answer.Cluster != near.Name) {
			err = fmt.Errorf("status %d from %q", status, answer.Cluster)
		}
		return err
	}, s.Terminator.Process); err != nil {
		return err
	}
	worker := s.HAProxy.worker(ctx)
	nearest := s.startTraffic(ctx, report, nearestHost, "/")
	defer nearest.Stop()
	if err := nearest.stays(ctx, "the client is in the region", near, far); err != nil {
		return err
	}
	if err := nearest.moves(ctx, "the region of the client changes", near, far, effect, func(context.Context) error { return s.Regions.set(elsewhere) }); err != nil {
		return err
	}
	if err := nearest.moves(ctx, "the client is in the region again", far, near, effect, func(context.Context) error { return s.Regions.set(client, elsewhere) }); err != nil {
		return err
	}

	nodes, err := s.subsetNodes(near, tracks)
	if err != nil {
		return err
	}
	n := nodes[0]
	if err := nearest.moves(ctx, "cordon "+n.Name+": too few servers are usable", near, far, effect, n.Cordon); err != nil {
		return err
	}
	if err := s.isDrained(ctx, n, "cordoned"); err != nil {
		return err
	}
	if err := nearest.moves(ctx, "uncordon "+n.Name, far, near, holdDown+effect, n.Uncordon); err != nil {
		return err
	}
	if err := nearest.moves(ctx, "weight 0 in "+near.Name, near, far, effect, func(ctx context.Context) error { return s.setWeight(ctx, near, 0) }); err != nil {
		return err
	}
	if err := nearest.moves(ctx, "weight 100 in "+near.Name, far, near, effect, func(ctx context.Context) error { return s.setWeight(ctx, near, 100) }); err != nil {
		return err
	}

	row := scenario.Row{What: "no change of the region or of the servers made a reload"}
	if now := s.HAProxy.worker(ctx); now != worker || now == "" {
		row.Err = fmt.Errorf("the worker was %s and is now %s", worker, now)
	}
	report.Add(row)
	nearest.Stop()
	if err := nearest.row(scenario.Row{What: "all requests to " + nearestHost}, time.Time{}); err != nil {
		return err
	}
	return t.row(scenario.Row{What: "the other routes meanwhile"}, start)
}

// The method "stays" waits for some requests, and adds a row to the report. The row fails if one of
// these requests fails, or reaches the cluster "other" instead of the cluster "in".
func (t *traffic) stays(ctx context.Context, what string, in, other *lab.Cluster) error {
	start := time.Now()
	if err := t.await(ctx, quietRequests, start); err != nil {
		return err
	}
	var err error
	if _, found := t.First(start, within(other)); found {
		err = fmt.Errorf("requests in %s", other.Name)
	}
	return t.row(scenario.Row{What: fmt.Sprintf("%s: all requests in %s", what, in.Name), Err: err}, start)
}

// The method "moves" calls the function "change", which must move all requests from one cluster to the
// other, and adds a row to the report. The row fails if the last request in the old cluster begins
// later than the time "limit" after the call, or if a request fails.
func (t *traffic) moves(ctx context.Context, what string, from, to *lab.Cluster, limit time.Duration, change func(context.Context) error) error {
	start := time.Now()
	if err := change(ctx); err != nil {
		return err
	}
	took, err := t.last(ctx, "in "+from.Name, start, within(from))
	return t.row(scenario.Row{What: fmt.Sprintf("%s: all requests in %s", what, to.Name), Took: took, Within: limit, Err: err}, start)
}
