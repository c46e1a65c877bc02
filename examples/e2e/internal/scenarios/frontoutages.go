//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/internal/httpload"
)

// These are times after the loss of a pod, a front proxy or a zone. During these times, a request
// may fail if the lost part was working on it. No other request may fail.
const (
	lossTime = 3 * time.Second
	// zoneLossTime is how long requests may fail after a zone is lost. The balancer stops using the
	// front proxy of the zone after two failed checks, and each check times out after 1 s. The
	// clients of this front proxy also need some time until they time out.
	zoneLossTime = 6 * time.Second
)

var frontOutages = scenario.Scenario[*Env]{
	Name:   "frontoutages",
	About:  "pods, a node, a zone, HAProxy, discovery or the API server are lost: only what the lost part held is affected",
	Within: 6 * time.Minute,
	Run: withFronts("outages", frontPods/2, frontPods/2, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		// Give the zone of the front proxies a second node, and start the other half of the pods of
		// the zone on it.
		second, err := f.Cluster.AddNode(ctx, lab.NodeSpec{Name: f.Cluster.Name + "-a2", Zone: f.Local.Spec.Zone})
		if err != nil {
			return err
		}
		defer func() { _ = second.Remove(context.WithoutCancel(ctx)) }()
		for range frontPods / 2 {
			if err := f.addPod(ctx, second); err != nil {
				return err
			}
		}
		for range 2 {
			if _, err := f.start(ctx, ""); err != nil {
				return err
			}
		}
		addr, err := f.balanceFronts(ctx, "roundrobin", 2)
		if err != nil {
			return err
		}
		for _, part := range []func(context.Context, *scenario.Report, string, *lab.Node) error{
			f.scaleDown, f.nodeLost, f.haproxyKilled, f.apiServerAway,
		} {
			if err := part(ctx, report, addr, second); err != nil {
				return err
			}
		}
		return nil
	}),
}

// scaleDown ends three pods of the zone. No request may fail.
func (f *Fronts) scaleDown(ctx context.Context, report *scenario.Report, addr string, second *lab.Node) error {
	load := f.load(ctx, addr, nil)
	defer load.Stop()
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	from := time.Now()
	group, gctx := errgroup.WithContext(ctx)
	for _, p := range f.pods(second)[:3] {
		group.Go(func() error { return p.Terminate(gctx, 2*time.Second) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	report.Add(f.row(load.Stop(), from, time.Time{}, "scale-down by 3 of 12 pods of the zone"))
	return nil
}

// nodeLost disconnects a node with pods of the zone. The requests on which these pods work are
// lost.
func (f *Fronts) nodeLost(ctx context.Context, report *scenario.Report, addr string, second *lab.Node) error {
	load := f.load(ctx, addr, nil)
	defer load.Stop()
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	from := time.Now()
	if err := second.Unplug(); err != nil {
		return err
	}
	// HAProxy notices the loss of the pods only because connections fail: it counts each failed
	// connection as a bad answer, and ejects a pod after several bad answers. Wait until HAProxy
	// has ejected the lost pods.
	if err := pause(ctx, 8*time.Second); err != nil {
		return err
	}
	end := time.Now()
	log := load.Stop()
	if err := second.Plug(); err != nil {
		return err
	}
	report.Add(f.lossRow(log, from, end, lossTime, frontClients, "a node of the zone is disconnected"))
	_, err := lab.Until(ctx, "the pods of the node", patience, func(ctx context.Context) error {
		n, err := f.fronts[0].serversUp(ctx, ":local")
		if err == nil && n != frontPods-3 {
			err = fmt.Errorf("%d are up", n)
		}
		return err
	}, f.fronts[0].Process)
	return err
}

// lossRow returns a row about the requests from a loss ("from") to "end". At most "most" requests
// may fail, and only in the time "within" after the loss.
func (f *Fronts) lossRow(log *httpload.Log[pod.Answer], from, end time.Time, within time.Duration, most int, what string) scenario.Row {
	after := from.Add(within)
	lost := len(log.Failures(from, after))
	row := f.row(log, after, end, fmt.Sprintf("%s: %d requests fail in the first %s, none afterwards", what, lost, within))
	if row.Err == nil && lost > most {
		row.Err = fmt.Errorf("want at most %d: %w", most, log.Err(from, end))
	}
	return row
}

// haproxyKilled kills the HAProxy process of one of two front proxies. The requests that this
// HAProxy is handling are lost.
func (f *Fronts) haproxyKilled(ctx context.Context, report *scenario.Report, addr string, _ *lab.Node) error {
	load := f.load(ctx, addr, nil)
	defer load.Stop()
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	front := f.fronts[0]
	pid, err := front.worker(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	if _, err := f.Local.Run(ctx, "kill", "-9", pid); err != nil {
		return err
	}
	took, err := lab.Until(ctx, "HAProxy to run again", patience, func(ctx context.Context) error {
		now, err := front.worker(ctx)
		if err == nil && now == pid {
			err = errors.New("the same process")
		}
		return err
	}, front.Process)
	if err != nil {
		return err
	}
	if err := pause(ctx, 6*time.Second); err != nil {
		return err
	}
	row := f.lossRow(load.Stop(), from, time.Time{}, lossTime, 2*frontClients, "the HAProxy of one of two front proxies is killed")
	row.Took = took
	report.Add(row)
	return nil
}

// apiServerAway kills the API server for a minute, and one pod during this minute. No request may
// fail.
func (f *Fronts) apiServerAway(ctx context.Context, report *scenario.Report, addr string, _ *lab.Node) error {
	load := f.load(ctx, addr, func(c *loadConfig) { c.Posts = 0 })
	defer load.Stop()
	from := time.Now()
	f.Cluster.API.Kill()
	if err := pause(ctx, 30*time.Second); err != nil {
		return err
	}
	// While the API server is down, it cannot report that the pod has ended. HAProxy must notice
	// the end of the pod by itself.
	f.pods(f.Local)[0].Server.Kill()
	if err := pause(ctx, 30*time.Second); err != nil {
		return err
	}
	report.Add(f.row(load.Stop(), from, time.Time{}, "the API server is away for 60 s, and a pod is killed in this time: GET requests"))
	if err := f.Cluster.API.Start(); err != nil {
		return err
	}
	if _, err := f.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	// After the outage, the Kubernetes controllers of the lab may wait up to a minute before they
	// try to reach the API server again. Restart them, so that they try at once.
	return f.Cluster.Controllers.Restart()
}
