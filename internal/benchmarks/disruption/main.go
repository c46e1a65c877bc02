// Disruption prints how many nodes may go away at the same time, and how many waves replace all
// nodes of a cluster, with package disruption and with random batches. It also prints bounds that,
// with high probability, no method exceeds.
//
//	cd internal/benchmarks && go run ./disruption
//
// All numbers except the times are the same on every machine.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/headgate/headgate/internal/fleettest"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// setting is a cluster.
type setting struct{ nodes, services, size int }

var settings = []setting{{300, 100, 8}, {1000, 200, 16}, {1000, 2000, 20}}

func main() {
	long := flag.Int("steps", 1_000_000, "`number` of steps of annealing for the largest wave")
	flag.Parse()
	if err := run(os.Stdout, settings, []int{1, 2, 4}, *long); err != nil {
		fmt.Fprintln(os.Stderr, "disruption:", err)
		os.Exit(1)
	}
}

// result is a row of the tables.
type result struct {
	setting
	limit int

	batch                  int // largest random batch
	greedy, annealed, long int // size of the next wave
	most                   int // bound on the size of a wave
	estimate               disruption.Estimate
	dynamicGreedy, dynamic int // waves for all nodes, with new subsets after each wave
	planned, broken, worst int // a plan of all waves, made at the start: its waves, those above the limit, and the most nodes that a service loses
	tookNew, tookMay       time.Duration
	tookGreedy, tookSteps  time.Duration
	tookEstimate           time.Duration
}

func run(out io.Writer, settings []setting, limits []int, long int) error {
	var results []result
	for _, s := range settings {
		for _, limit := range limits {
			r, err := measure(s, limit, long)
			if err != nil {
				return fmt.Errorf("%v, limit %d: %w", s, limit, err)
			}
			results = append(results, r)
		}
	}
	w := &writer{Writer: out}
	w.printf("Next wave, in nodes:\n\n")
	w.printf("| nodes / services / nodes of a service | limit | random batch | greedy | %d steps | %d steps | at most |\n|---|---:|---:|---:|---:|---:|---:|\n", disruption.DefaultSteps, long)
	for _, r := range results {
		w.printf("| %s | %d | %d | %d | %d | %d | %d |\n", r.setting, r.limit, r.batch, r.greedy, r.annealed, r.long, r.most)
	}
	w.printf("\nWaves for all nodes:\n\n")
	w.printf("| nodes / services / nodes of a service | limit | random batches | greedy | %d steps | estimate | at least | plan made beforehand: waves that exceed the limit, worst |\n|---|---:|---:|---:|---:|---:|---:|---:|\n", disruption.DefaultSteps)
	for _, r := range results {
		w.printf("| %s | %d | %d | %d | %d | %d | %d | %d of %d, %d |\n", r.setting, r.limit, (r.nodes+r.batch-1)/r.batch, r.dynamicGreedy, r.dynamic, r.estimate.Waves, r.estimate.Bound, r.broken, r.planned, r.worst)
	}
	if err := zones(w, settings); err != nil {
		return err
	}
	w.printf("\nTimes:\n\n")
	w.printf("| nodes / services / nodes of a service | limit | New | May | Wave, greedy | Wave, %d steps | Estimate |\n|---|---:|---:|---:|---:|---:|---:|\n", disruption.DefaultSteps)
	for _, r := range results {
		w.printf("| %s | %d | %v | %v | %v | %v | %v |\n", r.setting, r.limit, round(r.tookNew), r.tookMay, round(r.tookGreedy), round(r.tookSteps), round(r.tookEstimate))
	}
	return w.err
}

// zones prints in how many waves all nodes of a cluster with three zones can be replaced, for three
// rules: no rule, disruption.Budget{OneZone: true}, and disruption.Budget{Zone: 1}. Each service
// has equally many nodes in each zone.
func zones(w *writer, settings []setting) error {
	w.printf("\nWaves for all nodes in three zones, limit 2, %d steps:\n\n", disruption.DefaultSteps)
	w.printf("| nodes / services / nodes of a service | no rule for zones | one zone at a time | 1 of a service and zone |\n|---|---:|---:|---:|\n")
	for _, s := range settings {
		w.printf("| %s |", s)
		for _, b := range []disruption.Budget{{}, {OneZone: true}, {Zone: 1}} {
			waves, err := s.fleet().InZones().ReplaceAll(b, disruption.DefaultSteps)
			if err != nil {
				return fmt.Errorf("%v in zones: %w", s, err)
			}
			w.printf(" %d |", waves)
		}
		w.printf("\n")
	}
	return w.err
}

func (s setting) fleet() *fleettest.Fleet { return fleettest.New(s.nodes, s.services, s.size) }

func (s setting) String() string { return fmt.Sprintf("%d / %d / %d", s.nodes, s.services, s.size) }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// writer is an io.Writer that stores the first error of the Writer below it, so that the caller can
// check for errors once, at the end.
type writer struct {
	io.Writer
	err error
}

func (w *writer) printf(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.Writer, format, args...)
	}
}

// fastest calls f several times, and returns the duration of the fastest call.
func fastest(calls int, f func()) time.Duration {
	best := time.Duration(1<<63 - 1)
	for range calls {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

func measure(cluster setting, limit, long int) (result, error) {
	r := result{setting: cluster, limit: limit, batch: randomBatch(cluster, limit), most: largestWave(cluster, limit)}
	budget := disruption.Budget{Service: limit}
	f := cluster.fleet()
	set := f.Subsets()
	s, err := disruption.New(budget, f.Nodes, set)
	if err != nil {
		return r, err
	}
	r.tookNew = fastest(5, func() { s, err = disruption.New(budget, f.Nodes, set) })
	if err != nil {
		return r, err
	}
	all := s.Nodes()
	const asks = 1000
	r.tookMay = fastest(20, func() {
		for i := range asks {
			s.May(all[i%len(all)])
		}
	}) / asks
	r.tookGreedy = fastest(3, func() { r.greedy = len(s.Wave(all, 0)) })
	r.tookSteps = fastest(3, func() { r.annealed = len(s.Wave(all, disruption.DefaultSteps)) })
	r.long = len(s.Wave(all, long))
	r.tookEstimate = fastest(3, func() { r.estimate = s.Estimate(all, 0) })
	if r.dynamicGreedy, err = cluster.fleet().ReplaceAll(budget, 0); err != nil {
		return r, err
	}
	if r.dynamic, err = cluster.fleet().ReplaceAll(budget, disruption.DefaultSteps); err != nil {
		return r, err
	}
	return r, r.follow(budget)
}

// follow plans all waves before the first one. Then it removes the nodes wave after wave by this
// plan, although the subsets change after each wave, and counts how often the plan exceeds the
// limit.
func (r *result) follow(b disruption.Budget) error {
	f := r.fleet()
	s, err := disruption.New(b, f.Nodes, f.Subsets())
	if err != nil {
		return err
	}
	var plan [][]string
	planned := map[string]bool{}
	for len(planned) < len(f.Nodes) {
		var candidates []string
		for _, n := range f.Nodes {
			if !planned[n.Name] {
				candidates = append(candidates, n.Name)
			}
		}
		wave := s.Wave(candidates, disruption.DefaultSteps)
		for _, name := range wave {
			planned[name] = true
		}
		plan = append(plan, wave)
	}
	r.planned = len(plan)
	for _, wave := range plan {
		s, err := disruption.New(b, f.Nodes, f.Subsets())
		if err != nil {
			return err
		}
		if a := s.May(wave...); !a.OK {
			r.broken++
			for _, b := range a.Blocked {
				r.worst = max(r.worst, b.Away+b.Named)
			}
		}
		f.Replace(wave)
	}
	return nil
}
