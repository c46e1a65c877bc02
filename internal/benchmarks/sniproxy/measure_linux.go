package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/load"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/procfs"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// bench measures one router at a time.
type bench struct {
	settings
	starters    []*peer.Starter // the element i starts routers on the first i+1 elements of routerCores
	loop        *load.Loop
	sites       []string // all names that a router ever has
	open        int      // largest number of open connections
	dir         string
	descriptors int   // largest number of descriptors of a process
	cores       []int // processors of this process at the start
	routerCores []int // processors of the router with the most processors
	progress    io.Writer
}

// running is a router that has started and answers.
type running struct {
	*peer.Process
	target load.Target
	cores  []int
	ready  time.Duration
	memory procfs.Memory // memory of the router without open connections
	files  int
}

// stage is a measurement at a given size.
type stage struct {
	report.Size
	steps []step
	last  bool // no further stage uses this process, and the stage looks for leaked descriptors
}

type step func(*bench, context.Context, *running, *report.Point) error

// compared returns the two jobs of a run that compares routers at the sizes s. A job has the stages
// that measure one process of a router.
func compared(s report.Sizes) [][]stage {
	few := []stage{{Size: s.Base, steps: []step{(*bench).roundTrips, (*bench).idle, (*bench).connections, (*bench).bulkTransfer}}}
	if s.Idle != s.ManyOpen {
		few = append(few, stage{Size: s.Idle, steps: []step{(*bench).roundTrips, (*bench).idle}})
	}
	all := []step{(*bench).roundTrips, (*bench).idle, (*bench).connections}
	few = append(few, stage{Size: s.ManyOpen, steps: all, last: true})
	return [][]stage{few, {{Size: s.ManyHosts, steps: all, last: true}}}
}

// largestSize returns the largest number of processors, of open connections and of hosts in any
// stage.
func largestSize(jobs [][]stage) (s report.Size) {
	for _, stages := range jobs {
		for _, stage := range stages {
			s.Cores, s.Open, s.Hosts = max(s.Cores, stage.Cores), max(s.Open, stage.Open), max(s.Hosts, stage.Hosts)
		}
	}
	return s
}

// measure runs the rounds, and returns the number of complete rounds. In a round, measure runs each
// job with one router after another: it starts the router and measures it in the stages of the job.
// Each round begins with another router.
//
// If the time is too short for another round, measure ends. If the deadline of the context passes
// during a round, measure leaves out this round. If this is the first round, measure returns an
// error, which ends the whole benchmark. If a router fails, its points contain the reason.
func (b *bench) measure(ctx context.Context, routers []peer.Router, jobs [][]stage) (measured []report.Router, rounds int, err error) {
	for _, r := range routers {
		measured = append(measured, report.Router{Name: r.Name, Role: string(r.Role), Version: r.Version})
	}
	var longest time.Duration
	for rounds < b.rounds {
		begin := time.Now()
		if end, ok := ctx.Deadline(); ok && !roundFits(end.Sub(begin), longest) {
			fmt.Fprintf(b.progress, "no time for another round of %v (-limit)\n", longest.Round(time.Second))
			break
		}
		for _, stages := range jobs {
			for i := range routers {
				i = (i + rounds) % len(routers)
				points := b.process(ctx, rounds+1, routers[i], stages)
				switch {
				case rounds > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
					fmt.Fprintf(b.progress, "the last round is left out: %v\n", context.Cause(ctx))
					return withoutLaterRounds(measured, rounds), rounds, nil
				case ctx.Err() != nil:
					return nil, rounds, context.Cause(ctx)
				}
				measured[i].Points = append(measured[i].Points, points...)
			}
		}
		rounds++
		longest = max(longest, time.Since(begin))
	}
	return measured, rounds, nil
}

// withoutLaterRounds removes the points of the rounds after the given one.
func withoutLaterRounds(routers []report.Router, last int) []report.Router {
	for i, r := range routers {
		routers[i].Points = slices.DeleteFunc(r.Points, func(p report.Point) bool { return p.Round > last })
	}
	return routers
}

// roundFits reports whether the time that is left is enough for a round that takes a quarter longer
// than the longest one. Before the first round, longest is 0.
func roundFits(left, longest time.Duration) bool { return left >= longest+longest/4 || longest == 0 }

// process starts a router once, and measures it in all stages, one after the other. Each stage has
// more open connections than the stage before it.
func (b *bench) process(ctx context.Context, n int, r peer.Router, stages []stage) []report.Point {
	points := make([]report.Point, len(stages))
	defer b.loop.Reset()
	run, err := b.start(ctx, r, stages[0].Size)
	if err == nil {
		defer run.Stop()
	}
	for i, s := range stages {
		p := report.Point{Round: n, Size: s.Size, Figures: make(map[report.Metric]float64)}
		if err == nil {
			err = b.point(ctx, run, s, &p)
		}
		if err != nil {
			p.Problem = err.Error()
		}
		points[i] = p
		b.tell(r, p)
	}
	return points
}

// tell prints the measurements of one router in one round to the progress output.
func (b *bench) tell(r peer.Router, p report.Point) {
	fmt.Fprintf(b.progress, "round %d/%d  %-16s %s:", p.Round, b.rounds, r.Name+" "+r.Version, p.Size)
	for _, f := range []struct {
		format string
		what   report.Metric
	}{{"  %5.0f µs a connection", report.ConnCPU}, {"  %4.0f µs a round trip", report.RoundTripP50}, {"  %.2f s a GiB", report.BulkCPU}} {
		if v, ok := p.Figures[f.what]; ok {
			fmt.Fprintf(b.progress, f.format, v)
		}
	}
	fmt.Fprintln(b.progress, "  "+p.Problem)
}

// These errors mean that a router cannot run with the processors or the hosts of a size.
var (
	errOneThread    = errors.New("has one thread")
	errTooManyHosts = errors.New("starts too slowly with so many hosts")
)

// start starts a router and waits until it answers. After that, it sends requests, so that the
// router has filled its connection and buffer pools before the measurement.
func (b *bench) start(ctx context.Context, r peer.Router, size report.Size) (*running, error) {
	switch {
	case r.OneThread && size.Cores > 1:
		return nil, errOneThread
	case r.MaxHosts > 0 && size.Hosts > r.MaxHosts:
		return nil, errTooManyHosts
	}
	hosts := b.sites[:size.Hosts]
	p, listen, err := b.starters[size.Cores-1].Launch(ctx, b.dir, r, peer.Setup{
		Hosts: hosts, Backends: b.loop.Backends(),
		Connections: b.open + warmUp + b.atOnce, Descriptors: b.descriptors, Root: os.Geteuid() == 0,
	})
	if err != nil {
		return nil, err
	}
	run := &running{Process: p, target: load.Target{Addr: listen, Hosts: hosts}, cores: b.routerCores[:size.Cores]}
	if err := b.settle(ctx, run); err != nil {
		p.Stop()
		return nil, err
	}
	return run, nil
}

func (b *bench) settle(ctx context.Context, run *running) error {
	for {
		_, err := b.loop.Answers(ctx, run.target, 1, 1, 0)
		if err == nil {
			break
		}
		switch ended := run.Err(); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case ended != nil:
			return ended
		case time.Since(run.Began) > b.startLimit:
			return fmt.Errorf("not ready after %v: %w %s", b.startLimit, err, run.Output())
		}
		if err := b.loop.Idle(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	run.ready = time.Since(run.Began)
	if _, err := b.loop.Answers(ctx, run.target, warmUp, 1000, b.phase/2); err != nil {
		return err
	}
	err := b.loop.Idle(ctx, b.pause())
	if err == nil {
		run.memory, err = run.Memory()
	}
	if err == nil {
		run.files, err = run.Descriptors()
	}
	return err
}

// pause returns how long the benchmark waits after a phase, so that the router can finish its work.
func (b *bench) pause() time.Duration { return min(b.phase/4, 250*time.Millisecond) }

// point makes the measurements of the stage s with one router, and stores the figures in p. It
// first opens as many connections as the stage needs.
func (b *bench) point(ctx context.Context, run *running, s stage, p *report.Point) error {
	p.Figures[report.Ready] = run.ready.Seconds() * 1e3
	p.Figures[report.Memory] = float64(run.memory.PSS) / 1024
	if err := b.loop.Open(ctx, run.target, s.Open); err != nil {
		return b.explain(run, err)
	}
	begin := time.Now()
	before, err := b.others(run)
	if err != nil {
		return err
	}
	for _, measure := range s.steps {
		if err := measure(b, ctx, run, p); err != nil {
			return b.explain(run, err)
		}
	}
	after, err := b.others(run)
	if err != nil {
		return err
	}
	if !slices.Contains(run.cores, b.loadCore) {
		p.Figures[report.OthersPercent] = max(0, 100*(after-before).Seconds()/time.Since(begin).Seconds()/float64(len(run.cores)))
	}
	if s.last {
		return b.left(ctx, run, p)
	}
	return nil
}

// The method "others" returns for how long the processors of the router were busy with other
// programs than the router, as a sum over these processors.
func (b *bench) others(run *running) (busy time.Duration, err error) {
	for _, core := range run.cores {
		one, err := procfs.Busy(core)
		if err != nil {
			return 0, err
		}
		busy += one
	}
	used, err := run.CPU()
	return busy - used.Total, err
}

// explain adds the output of the router to an error.
func (b *bench) explain(run *running, err error) error {
	if ended := run.Err(); ended != nil {
		return fmt.Errorf("%w; %w", err, ended)
	}
	return err
}

func (b *bench) roundTrips(ctx context.Context, run *running, p *report.Point) error {
	before, err := run.CPU()
	if err != nil {
		return err
	}
	times, err := b.loop.Pings(ctx, b.pings, b.phase)
	if err != nil {
		return err
	}
	after, err := run.CPU()
	if err != nil {
		return err
	}
	p.Figures[report.RoundTripCPU] = micros(after.Total-before.Total) / float64(len(times))
	p.Figures[report.RoundTripP50] = micros(report.Quantile(times, 0.50))
	p.Figures[report.RoundTripP99] = micros(report.Quantile(times, 0.99))
	return nil
}

func (b *bench) idle(ctx context.Context, run *running, p *report.Point) error {
	if err := b.loop.Idle(ctx, b.pause()); err != nil {
		return err
	}
	memory, err := run.Memory()
	if err != nil {
		return err
	}
	files, err := run.Descriptors()
	if err != nil {
		return err
	}
	open := float64(b.loop.Held())
	p.Figures[report.IdleRSS] = float64(memory.RSS-run.memory.RSS) / open
	p.Figures[report.IdleFiles] = float64(files-run.files) / open
	return nil
}

// idleCPU measures how much processor time the router needs while all open connections are idle.
func (b *bench) idleCPU(ctx context.Context, run *running, p *report.Point) error {
	begin := time.Now()
	before, err := run.CPU()
	if err != nil {
		return err
	}
	if err := b.loop.Idle(ctx, b.phase); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := run.CPU()
	if err != nil {
		return err
	}
	p.Figures[report.IdleCPU] = (after.Total - before.Total).Seconds() * 1e3 / took.Seconds()
	return nil
}

func (b *bench) connections(ctx context.Context, run *running, p *report.Point) error {
	before, err := run.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	n, err := b.loop.Answers(ctx, run.target, b.atOnce, 1<<40, b.phase)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := run.CPU()
	if err != nil {
		return err
	}
	p.Figures[report.ConnCPU] = micros(after.Total-before.Total) / float64(n)
	p.Figures[report.ConnUser] = micros(after.User-before.User) / float64(n)
	p.Figures[report.ConnRate] = float64(n) / took.Seconds()
	p.Figures[report.ConnCount] = float64(n)
	return nil
}

func (b *bench) bulkTransfer(ctx context.Context, run *running, p *report.Point) error {
	before, err := run.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := b.loop.Bulk(ctx, run.target, streams, b.bulk); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := run.CPU()
	if err != nil {
		return err
	}
	gib := float64(b.bulk) / (1 << 30)
	p.Figures[report.BulkCPU] = (after.Total - before.Total).Seconds() / gib
	p.Figures[report.BulkRate] = gib / took.Seconds()
	return nil
}

// The method "left" closes all connections, and measures whether the router leaks descriptors.
// After two seconds, it counts how many more descriptors the router has than before the
// connections, and divides this number by the number of connections. The result is 0 if the router
// has closed all descriptors of the connections.
func (b *bench) left(ctx context.Context, run *running, p *report.Point) error {
	held := float64(b.loop.Held())
	b.loop.Release()
	for end := time.Now().Add(2 * time.Second); ; {
		files, err := run.Descriptors()
		if err != nil {
			return b.explain(run, err)
		}
		if files <= run.files || time.Now().After(end) {
			p.Figures[report.LeftFiles] = max(0, float64(files-run.files)/held)
			return nil
		}
		if err := b.loop.Idle(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
