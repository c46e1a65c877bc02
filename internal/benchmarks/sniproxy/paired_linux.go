package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

func printPaired(ctx context.Context, s settings, out, progress io.Writer) error {
	result, err := pair(ctx, s, progress)
	if err != nil {
		return err
	}
	return s.print(result, result.Run, out)
}

// pair measures all routers in many short rounds, while all of them run.
func pair(ctx context.Context, s settings, progress io.Writer) (result report.Paired, err error) {
	result.Size = s.few
	result.Run, err = measureRun(ctx, s, progress, func(int) [][]stage {
		return [][]stage{{{Size: s.few, steps: []step{(*bench).connections, (*bench).roundTrips}}}}
	})
	return result, err
}

// measurePaired starts all routers, and then runs the rounds. In a round, it measures the first stage
// of the first job with one router right after another. So a disturbance of the machine that is longer
// than a round affects all routers alike, and hardly changes the ratio of two routers in this round.
//
// measurePaired ends with the deadline of the context, and then returns the complete rounds.
func (b *bench) measurePaired(ctx context.Context, routers []peer.Router, jobs [][]stage) (measured []report.Router, rounds int, err error) {
	s := jobs[0][0]
	defer b.loop.Reset()
	var all []*running
	for _, r := range routers {
		run, err := b.start(ctx, r, s.Size)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", r.Name, err)
		}
		defer run.Stop()
		all = append(all, run)
		measured = append(measured, report.Router{Name: r.Name, Role: string(r.Role), Version: r.Version})
	}
	begin := time.Now()
	for rounds < b.rounds {
		for i := range all {
			i = (i + rounds) % len(all)
			p := report.Point{Round: rounds + 1, Size: s.Size, Figures: make(map[report.Metric]float64)}
			err := b.point(ctx, all[i], s, &p)
			b.loop.Reset()
			if err == nil {
				err = b.loop.Idle(ctx, b.pause())
			}
			if err != nil {
				if rounds > 0 && ctx.Err() == context.DeadlineExceeded {
					return withoutLaterRounds(measured, rounds), rounds, nil
				}
				return nil, rounds, fmt.Errorf("%s: %w", routers[i].Name, err)
			}
			measured[i].Points = append(measured[i].Points, p)
		}
		rounds++
	}
	fmt.Fprintf(b.progress, "%d rounds in %v\n", rounds, time.Since(begin).Round(time.Second))
	return measured, rounds, nil
}
