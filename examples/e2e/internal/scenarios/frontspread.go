//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// startEvery is the time between the starts of two pods.
const startEvery = 500 * time.Millisecond

var frontStart = scenario.Scenario[*Env]{
	Name:  "frontstart",
	About: "pods start one by one: with node ports most requests go to the first pods, with front proxies all pods get the same",
	Run: func(ctx context.Context, env *Env, report *scenario.Report) error {
		plain := withFronts("plain", 1, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
			var nodes []target
			for _, n := range f.Cluster.Nodes() {
				nodes = append(nodes, target{addr: netip.AddrPortFrom(n.Addr, f.NodePort)})
			}
			addr, err := f.balance(ctx, "roundrobin", nodes)
			if err != nil {
				return err
			}
			return f.startOneByOne(ctx, report, addr, "node ports", func(cv float64) error {
				if cv < 0.5 {
					return fmt.Errorf("coefficient of variation %.3f, want at least 0.5: the load does not show the imbalance", cv)
				}
				return nil
			})
		})
		if err := plain(ctx, env, report); err != nil {
			return err
		}
		return withFronts("web", 1, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
			for range 3 {
				if _, err := f.start(ctx, ""); err != nil {
					return err
				}
			}
			addr, err := f.balanceFronts(ctx, "roundrobin", 3)
			if err != nil {
				return err
			}
			return f.startOneByOne(ctx, report, addr, "3 front proxies", func(cv float64) error {
				if cv > 0.05 {
					return fmt.Errorf("coefficient of variation %.3f, want at most 0.05", cv)
				}
				return nil
			})
		})(ctx, env, report)
	},
}

// startOneByOne starts pods one after another while clients connect. Then it counts the requests of
// each pod in the last seconds of the load, and adds a row with the coefficient of variation of
// these counts. It calls the function "check" with this coefficient, and the row fails if check
// returns an error.
func (f *Fronts) startOneByOne(ctx context.Context, report *scenario.Report, addr, way string, check func(cv float64) error) error {
	load := f.load(ctx, addr, func(c *loadConfig) { c.StartOver = 4 * time.Second })
	defer load.Stop()
	for range frontPods - 1 {
		if err := pause(ctx, startEvery); err != nil {
			return err
		}
		if err := f.addPod(ctx, f.Local); err != nil {
			return err
		}
	}
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	from := time.Now()
	if err := pause(ctx, 6*time.Second); err != nil {
		return err
	}
	log := load.Stop()
	cv := variation(byPod(log, from, time.Time{}, f.pods(f.Local)))
	row := f.row(log, from, time.Time{}, fmt.Sprintf("%d pods start one by one, %s: coefficient of variation of their requests %.3f", frontPods, way, cv))
	if row.Err == nil {
		row.Err = check(cv)
	}
	report.Add(row)
	return nil
}

var frontScale = scenario.Scenario[*Env]{
	Name:  "frontscale",
	About: "one front proxy becomes three: the kept connections of clients spread over all three",
	Run: withFronts("scaled", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		const policy = "closeOneIn: 100\n"
		if _, err := f.start(ctx, policy); err != nil {
			return err
		}
		// With leastconn, all front proxies have about the same number of connections. With
		// roundrobin, the 50 connections end at random times, so the numbers would be random, with
		// a coefficient of variation of 0.2. The row below allows only 0.1.
		addr, err := f.balanceFronts(ctx, "leastconn", 3)
		if err != nil {
			return err
		}
		load := f.load(ctx, addr, nil)
		defer load.Stop()
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
		for range 2 {
			if _, err := f.start(ctx, policy); err != nil {
				return err
			}
		}
		start := time.Now()
		// A client connects again after about 100 requests, that is, after about 5 s. After 15 s,
		// about 1 client in 20 still has its first connection. Wait longer, until hardly any client
		// still has its first connection.
		if err := pause(ctx, 20*time.Second); err != nil {
			return err
		}
		before, err := f.frontRequests(ctx)
		if err != nil {
			return err
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		after, err := f.frontRequests(ctx)
		if err != nil {
			return err
		}
		for name := range after {
			after[name] -= before[name]
		}
		log := load.Stop()
		cv := variation(after)
		row := f.row(log, start, time.Time{}, fmt.Sprintf("front proxies 1 → 3, closing one response in 100: coefficient of variation of their requests %.3f", cv))
		if row.Err == nil && cv > 0.1 {
			row.Err = fmt.Errorf("want at most 0.1: %v", after)
		}
		report.Add(row)
		return nil
	}),
}

// frontRequests returns how many requests each front proxy has got from clients.
func (f *Fronts) frontRequests(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	for _, front := range f.fronts {
		stats, err := front.stats(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range stats {
			if s.Server == "FRONTEND" && !strings.HasSuffix(s.Proxy, ":admin") {
				counts[front.Name] += int(s.Requests)
			}
		}
	}
	return counts, nil
}

// With zoneRequests requests, zoneTolerance percentage points are at least seven standard deviations
// of the share of a zone, so chance alone never causes a larger deviation.
const zoneRequests, zoneTolerance = 8 * frontRate, 4

// frontZones tests the shares of two zones.
var frontZones = scenario.Scenario[*Env]{
	Name:   "frontzones",
	About:  "the fewer pods of the zone are left, the more requests go to another zone, in proportion",
	Within: 4 * time.Minute,
	Run: withFronts("zoned", frontPods, frontPods, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		if _, err := f.start(ctx, ""); err != nil {
			return err
		}
		addr, err := f.balanceFronts(ctx, "roundrobin", 1)
		if err != nil {
			return err
		}
		load := f.load(ctx, addr, nil)
		defer load.Stop()
		local := f.pods(f.Local)
		for _, step := range []struct{ up, remote int }{{12, 0}, {9, 0}, {8, 7}, {6, 30}, {4, 53}, {0, 100}} {
			for _, p := range local[step.up:] {
				if err := p.SetReady(ctx, false); err != nil {
					return err
				}
			}
			if _, err := lab.Until(ctx, fmt.Sprintf("%d local pods in HAProxy", step.up), patience, func(ctx context.Context) error {
				n, err := f.fronts[0].serversUp(ctx, ":local")
				if err == nil && n != step.up {
					err = fmt.Errorf("%d", n)
				}
				return err
			}, f.fronts[0].Process); err != nil {
				return err
			}
			from := time.Now()
			if _, err := lab.Until(ctx, "requests", patience, func(context.Context) error {
				if n := load.Count(from, time.Time{}); n < zoneRequests {
					return fmt.Errorf("%d so far", n)
				}
				return nil
			}, f.fronts[0].Process); err != nil {
				return err
			}
			to := time.Now()
			report.Add(f.zoneRow(load, from, to, local[:step.up], step.remote))
		}
		return nil
	}),
}

// zoneRow returns a row about the requests between two times. The row fails in two cases:
//
//   - The percentage of the requests that went to the other zone differs from the argument "want"
//     by more than zoneTolerance.
//   - A local pod in "up" has received more than 1.6 times the usual number of requests, which is
//     the number of all requests divided by frontPods.
func (f *Fronts) zoneRow(load *loadRun, from, to time.Time, up []*lab.Pod, want int) scenario.Row {
	counts := byPod(load.Log, from, to, up)
	all, remote, most := 0, 0, 0
	for _, n := range counts {
		all += n
	}
	for _, p := range f.pods(f.Other) {
		remote += counts[p.Name]
	}
	for _, p := range up {
		most = max(most, counts[p.Name])
	}
	share := 100 * float64(remote) / float64(all)
	ratio := float64(most) * frontPods / float64(all)
	row := f.row(load.Log, from, to, fmt.Sprintf("%d of %d local pods: %.1f%% go to the other zone, %.2f times the usual share to a local pod at most", len(up), frontPods, share, ratio))
	switch {
	case row.Err != nil:
	case share < float64(want)-zoneTolerance || share > float64(want)+zoneTolerance:
		row.Err = fmt.Errorf("want %d%% to go to the other zone", want)
	case ratio > 1.6:
		row.Err = fmt.Errorf("a local pod gets too much: %v", counts)
	}
	return row
}
