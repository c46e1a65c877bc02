//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// movedHost is the host of the route whose requests the scenario moves from eu-1 to eu-2.
const movedHost = "moved.example.com"

var cutover = scenario.Scenario[*Env]{
	Name:   "cutover",
	About:  "a route moves from one cluster to another by request, in exact shares, without a reload",
	Within: 8 * time.Minute,
	Run:    underLoad(runCutover),
}

func runCutover(ctx context.Context, s *System, t *traffic, report *scenario.Report) error {
	moved := route{host: movedHost, shift: true, backends: []backend{{"eu-1", tracks, "http"}, {"eu-2", tracks, "http"}}}
	start := time.Now()
	if err := s.Routes.set(append(systemRoutes(), moved)); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, movedHost, patience, func(ctx context.Context) error {
		status, _, err := s.ask(ctx, movedHost, "/")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	}, s.Terminator.Process); err != nil {
		return err
	}
	reloads := s.HAProxy.worker(ctx)
	load := startLoad(ctx, loadConfig{Dial: s.Client.DialContext, Address: s.Edge.Addr.String() + ":80", Host: movedHost, Rate: 2000, Kept: 50})
	defer load.Stop()
	for _, percent := range []int{0, 1, 5, 25, 50, 100} {
		if err := s.shift(ctx, movedHost, "-to", fmt.Sprintf("eu-2:%d", percent), "-steps", fmt.Sprint(percent), "-hold", "1s", "-for", "1h"); err != nil {
			return err
		}
		// By chance, the share of eu-2 is a little larger or smaller than "percent". With this
		// number of requests ("enough"), the standard deviation of the share is at most 0.2
		// percentage points. So the tolerance of 1 point is five standard deviations.
		const tolerance = 1
		p := float64(percent) / 100
		enough := max(2500, int(250_000*p*(1-p)))
		from := time.Now()
		if _, err := lab.Until(ctx, fmt.Sprintf("%d requests", enough), 3*time.Minute, func(context.Context) error {
			if n := load.Count(from, time.Time{}); n < enough {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		}); err != nil {
			return err
		}
		to := time.Now()
		clusters := load.Shares(from, to, func(r request) string { return r.Answer.Cluster })
		share := 100 * float64(clusters["eu-2"]) / float64(clusters["eu-1"]+clusters["eu-2"])
		row := scenario.Row{
			What:     fmt.Sprintf("the route moves to eu-2 by %d%%: it gets %.2f%%", percent, share),
			Requests: load.Count(from, to), Failed: len(load.Failures(from, to)), Err: load.Err(from, to),
		}
		if row.Err == nil && (math.Abs(share-float64(percent)) > tolerance || (share > 0) != (percent > 0)) {
			row.Err = fmt.Errorf("want %d%% ± %v points, and some if it is not 0%%", percent, tolerance)
		}
		report.Add(row)
	}
	if err := s.shift(ctx, movedHost, "-undo"); err != nil {
		return err
	}
	row := scenario.Row{What: "all steps and the undo made no reload"}
	if now := s.HAProxy.worker(ctx); now != reloads || now == "" {
		row.Err = fmt.Errorf("the worker was %s and is now %s", reloads, now)
	}
	report.Add(row)
	load.Stop()
	if err := t.row(scenario.Row{What: "the other routes meanwhile"}, start); err != nil {
		return err
	}
	return s.Routes.set(systemRoutes())
}

// shift runs the command "terminator shift" for a route.
func (s *System) shift(ctx context.Context, route string, flags ...string) error {
	socket := "unix:" + filepath.Join(filepath.Dir(s.Terminator.Out), "admin.sock")
	argv := append([]string{filepath.Join(s.Clusters[0].Bin(), "terminator"), "shift", "-admin", socket, route}, flags...)
	_, err := s.Edge.Run(ctx, argv...)
	return err
}

// worker returns the process ID of HAProxy's worker, or "" if HAProxy does not answer.
func (h *HAProxy) worker(ctx context.Context) string {
	pid, err := workerOf(ctx, h.stats)
	if err != nil {
		return ""
	}
	return pid
}
