//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// outageTime is how long the API server does not answer.
const outageTime = 30 * time.Second

var outage = scenario.Scenario[*Env]{
	Name:   "outage",
	About:  "while an API server is dead for 30 s no request fails, and changes in that time are applied afterwards",
	Within: 4 * time.Minute,
	Run:    underLoad(runOutage),
}

func runOutage(ctx context.Context, s *System, t *traffic, _ *scenario.Report) error {
	away, other := s.Clusters[0], s.Clusters[1]
	hidden, err := s.subsetNodes(away, tracks)
	if err != nil {
		return err
	}
	visible, err := s.subsetNodes(other, tracks)
	if err != nil {
		return err
	}
	start := time.Now()
	away.API.Kill()
	took, err := lab.Until(ctx, "agents and terminator to say that the API server is away", patience, func(ctx context.Context) error {
		return s.saysAway(ctx, away)
	}, s.Terminator.Process)
	if err := t.row(scenario.Row{What: fmt.Sprintf("API server of %s killed: agents and terminator say so, and stay ready", away.Name), Took: took, Within: 10 * time.Second, Err: err}, start); err != nil {
		return err
	}

	if err := s.drains(ctx, t, visible[0], "meanwhile, in the other cluster, cordon", "cordoned", visible[0].Cordon); err != nil {
		return err
	}
	if err := s.undrains(ctx, t, visible[0], "meanwhile uncordon", visible[0].Uncordon); err != nil {
		return err
	}
	if err := s.restartsWithout(ctx, t, away); err != nil {
		return err
	}
	if err := behindItsBack(ctx, away, hidden[0]); err != nil {
		return err
	}
	_, err = lab.Until(ctx, "the outage to have lasted", outageTime, func(context.Context) error {
		if left := outageTime - time.Since(start); left > 0 {
			return fmt.Errorf("%s are left until the outage ends", left)
		}
		return nil
	})
	if err == nil {
		// During the outage, the scenario has changed the cluster through another API server, which
		// headgate's programs do not use. So these programs cannot have seen the change, and it
		// must have no effect yet.
		_, err = t.first(ctx, "by "+hidden[0].Name, time.Now(), through(hidden[0]))
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("%s was away for %s", away.Name, time.Since(start).Round(time.Second)), Err: err}, start); err != nil {
		return err
	}
	return s.catchesUp(ctx, t, away, hidden[0])
}

// saysAway returns an error unless the agents of a cluster and the terminator report that the API
// server of the cluster does not answer. They must also report that they are ready.
func (s *System) saysAway(ctx context.Context, c *lab.Cluster) error {
	for _, n := range c.Nodes() {
		a := s.Agents[n.Name]
		status, body, err := a.Admin(ctx, s.Client, "/readyz")
		if err := readyz(status, body, err, "last heard"); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		if err := a.wantMetric(ctx, s.Client, "headgate_agent_api_up", 0); err != nil {
			return err
		}
	}
	status, body, err := s.Terminator.Admin(ctx, s.Client, "/readyz")
	return readyz(status, body, err, fmt.Sprintf("cluster %s: last-known since", c.Name))
}

// restartsWithout kills the terminator and starts it again while the API server of a cluster does
// not answer. The terminator must keep the servers of that cluster and apply new declarations.
func (s *System) restartsWithout(ctx context.Context, t *traffic, away *lab.Cluster) error {
	before, err := s.placed(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	s.Terminator.Kill()
	if err := s.Terminator.Start(); err != nil {
		return err
	}
	took, err := lab.Until(ctx, "the terminator to be ready without "+away.Name, patience, func(ctx context.Context) error {
		status, body, err := s.Terminator.Admin(ctx, s.Client, "/readyz")
		return readyz(status, body, err, "cluster "+away.Name)
	}, s.Terminator.Process)
	if err == nil {
		err = s.keepsServers(ctx, before, away)
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("terminator killed and started without %s: keeps its servers", away.Name), Took: took, Within: 15 * time.Second, Err: err}, start); err != nil {
		return err
	}
	const host = "meanwhile.example.com"
	start = time.Now()
	if err := s.Routes.set(append(systemRoutes(), route{host: host, backends: []backend{{away.Name, web, "http"}}})); err != nil {
		return err
	}
	took, err = lab.Until(ctx, host, patience, func(ctx context.Context) error {
		return s.wantStatus(ctx, host, "/", http.StatusOK)
	}, s.Terminator.Process)
	if err == nil {
		err = s.keepsServers(ctx, before, away)
	}
	err = t.row(scenario.Row{What: fmt.Sprintf("a new declaration of a service in %s is served during the outage", away.Name), Took: took, Within: effect, Err: err}, start)
	return errors.Join(err, s.Routes.set(systemRoutes()))
}

// keepsServers returns an error unless HAProxy and report.json still have the services that they
// had before the outage, with the same servers and nodes. It also returns an error unless
// report.json shows that the cluster in the argument "away" does not answer.
func (s *System) keepsServers(ctx context.Context, before places, away *lab.Cluster) error {
	now, err := s.placed(ctx)
	if err != nil {
		return err
	}
	// Ignore services that were declared later.
	maps.DeleteFunc(now.nodes, func(service string, _ []string) bool { return before.nodes[service] == nil })
	maps.DeleteFunc(now.servers, func(backend string, _ []string) bool { return before.servers[backend] == nil })
	if err := same(before, now); err != nil {
		return err
	}
	report, err := s.Terminator.Report()
	if err != nil {
		return err
	}
	for _, c := range report.Clusters {
		if c.Name == away.Name && c.Connectivity.State != kube.LastKnown {
			return fmt.Errorf("report.json says that %s is %q", c.Name, c.Connectivity.State)
		}
	}
	return nil
}

// behindItsBack cordons a node through another API server on the same etcd, while the API server
// that headgate uses does not answer.
func behindItsBack(ctx context.Context, c *lab.Cluster, n *lab.Node) error {
	api, client, err := c.SecondAPI(ctx)
	if api != nil {
		defer api.Kill()
	}
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	return err
}

// catchesUp starts the API server again. The cordon that headgate's programs could not see during
// the outage must then take effect.
func (s *System) catchesUp(ctx context.Context, t *traffic, c *lab.Cluster, cordoned *lab.Node) error {
	start := time.Now()
	if err := c.API.Start(); err != nil {
		return err
	}
	booted, err := c.WaitReady(ctx)
	if err != nil {
		return err
	}
	took, err := t.last(ctx, "by "+cordoned.Name, start, through(cordoned))
	if err == nil {
		err = s.isDrained(ctx, cordoned, "cordoned")
	}
	// An agent that has lost the API server tries to connect again at least every few seconds. So
	// the agent may need some seconds after the API server is back. The limit Within allows 10 s
	// for this.
	if err := t.row(scenario.Row{What: fmt.Sprintf("API server back: %s, cordoned during the outage, gets no new request", cordoned.Name), Took: took, Within: booted.Round(time.Second) + 10*time.Second, Err: err}, start); err != nil {
		return err
	}
	if err := s.undrains(ctx, t, cordoned, "uncordon", cordoned.Uncordon); err != nil {
		return err
	}
	return s.waitSound(ctx, patience)
}
