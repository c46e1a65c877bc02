//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// failing is the behaviour of a pod that immediately answers a share of its requests with status
// 500.
func failing(share float64) pod.Behaviour {
	b := usual
	b.Fail = share
	return b
}

var frontEject = scenario.Scenario[*Env]{
	Name:   "fronteject",
	About:  "pods that answer 500 are ejected, unless too many of them do",
	Within: 4 * time.Minute,
	Run: withFronts("ejected", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		pods := f.pods(f.Local)
		for _, step := range []struct {
			what    string
			pods    int
			share   float64
			percent float64 // of the requests that may fail
		}{
			{"1 of 12 pods answers 500 to all", 1, 1, 0.2},
			{"8 of 12 pods answer 500 to all", 8, 1, 2},
			{"all pods answer 500 to 80%", 12, 0.8, 85},
		} {
			// Each step has a new front proxy, which has ejected no pod yet.
			front, err := f.start(ctx, "")
			if err != nil {
				return err
			}
			load := f.load(ctx, front.Addr.String(), nil)
			defer load.Stop()
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			from := time.Now()
			if err := behave(ctx, pods[:step.pods], failing(step.share)); err != nil {
				return err
			}
			if err := pause(ctx, 20*time.Second); err != nil {
				return err
			}
			log := load.Stop()
			n, failed := log.Count(from, time.Time{}), log.Failures(from, time.Time{})
			percent := 100 * float64(len(failed)) / float64(n)
			row := scenario.Row{What: fmt.Sprintf("%s: %.2f%% of %d requests fail in 20 s", step.what, percent, n)}
			switch {
			case percent > step.percent:
				row.Err = fmt.Errorf("want at most %.1f%%: %w", step.percent, log.Err(from, time.Time{}))
			case len(failed) == 0:
				row.Err = fmt.Errorf("no request failed: the pods did not answer 500")
			}
			report.Add(row)
			front.Kill()
			if err := behave(ctx, pods, usual); err != nil {
				return err
			}
		}
		return nil
	}),
}

var frontRetry = scenario.Scenario[*Env]{
	Name:  "frontretry",
	About: "all pods fail half of their requests: repeated requests stay within the budget",
	Run: withFronts("retried", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		front, err := f.start(ctx, "retryOn: [conn-failure, empty-response, \"503\"]\nejectErrors: off\n")
		if err != nil {
			return err
		}
		pods := f.pods(f.Local)
		half := failing(0.5)
		half.Status = http.StatusServiceUnavailable
		if err := behave(ctx, pods, half); err != nil {
			return err
		}
		before, err := requestsOf(ctx, pods)
		if err != nil {
			return err
		}
		load := f.load(ctx, front.Addr.String(), func(c *loadConfig) { c.Posts = 0 })
		defer load.Stop()
		if err := pause(ctx, 10*time.Second); err != nil {
			return err
		}
		log := load.Stop()
		after, err := requestsOf(ctx, pods)
		if err != nil {
			return err
		}
		sent := log.Count(time.Time{}, time.Time{})
		ratio := float64(after-before) / float64(sent)
		failed := len(log.Failures(time.Time{}, time.Time{}))
		row := scenario.Row{What: fmt.Sprintf("all pods fail 50%% of GET: pods get %.2f times the %d requests, and clients get %d errors", ratio, sent, failed)}
		switch {
		case ratio > 1.25:
			row.Err = fmt.Errorf("want at most 1.25 times")
		case ratio < 1.02:
			row.Err = fmt.Errorf("HAProxy repeats no request")
		}
		report.Add(row)
		return nil
	}),
}

// requestsOf returns how many requests pods have got.
func requestsOf(ctx context.Context, pods []*lab.Pod) (n int, err error) {
	for _, p := range pods {
		counts, err := p.Counts(ctx)
		if err != nil {
			return 0, err
		}
		n += counts.Requests
	}
	return n, nil
}

// The scenario "frontoverload" uses these values. perPod is the number of requests on which a pod
// may work at the same time. slow is the time that a pod needs for a request.
const (
	perPod = 4
	slow   = 100 * time.Millisecond
)

var frontOverload = scenario.Scenario[*Env]{
	Name:  "frontoverload",
	About: "1.7 times as many requests as the pods can answer: they answer as many as they can, and the front proxy refuses the rest at once",
	Run: withFronts("crowded", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		front, err := f.start(ctx, fmt.Sprintf("perPod: %d\nejectErrors: off\n", perPod))
		if err != nil {
			return err
		}
		if err := behave(ctx, f.pods(f.Local), pod.Behaviour{Shortest: slow, Longest: slow}); err != nil {
			return err
		}
		capacity := frontPods * perPod / slow.Seconds()
		load := f.load(ctx, front.Addr.String(), func(c *loadConfig) {
			c.Rate, c.Kept = 1.7*capacity, 300
		})
		defer load.Stop()
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		from := time.Now()
		if err := pause(ctx, 10*time.Second); err != nil {
			return err
		}
		to := time.Now()
		log := load.Stop()
		var refused []time.Duration
		answered := 0
		var other error
		for _, r := range log.Between(from, to) {
			switch r.Status {
			case http.StatusOK:
				answered++
			case http.StatusServiceUnavailable:
				refused = append(refused, r.End.Sub(r.Start))
			default:
				other = r.Err
			}
		}
		slices.Sort(refused)
		rate := float64(answered) / to.Sub(from).Seconds()
		row := scenario.Row{Err: other}
		switch {
		case other != nil:
		case len(refused) == 0:
			row.Err = fmt.Errorf("no request was refused")
		case rate < 0.9*capacity || rate > 1.1*capacity:
			row.Err = fmt.Errorf("want %.0f answers a second, ±10%%", capacity)
		}
		half := time.Duration(0)
		if len(refused) > 0 {
			half = refused[len(refused)/2]
		}
		row.What = fmt.Sprintf("%.0f requests a second for a capacity of %.0f: %.0f answers a second (p99 %s), %d refused, half of them within %s",
			1.7*capacity, capacity, rate, log.Quantile(from, to, 0.99).Round(time.Millisecond), len(refused), half.Round(100*time.Microsecond))
		report.Add(row)
		return nil
	}),
}

var frontKilled = scenario.Scenario[*Env]{
	Name:  "frontkilled",
	About: "a pod is killed without notice: no GET fails",
	Run: withFronts("killed", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		front, err := f.start(ctx, "")
		if err != nil {
			return err
		}
		load := f.load(ctx, front.Addr.String(), func(c *loadConfig) { c.Posts = 0 })
		defer load.Stop()
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		killed := f.pods(f.Local)[0]
		from := time.Now()
		killed.Server.Kill()
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		log := load.Stop()
		counts := byPod(log, from.Add(time.Second), time.Time{}, nil)
		row := f.row(log, from, time.Time{}, fmt.Sprintf("a pod is killed, and the other %d answer", len(counts)))
		if row.Err == nil && counts[killed.Name] > 0 {
			row.Err = fmt.Errorf("the killed pod answers: %v", slices.Sorted(maps.Keys(counts)))
		}
		report.Add(row)
		return nil
	}),
}
