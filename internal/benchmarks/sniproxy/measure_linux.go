package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/load"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/procfs"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// bench measures one router at a time.
type bench struct {
	settings
	starter     *peer.Starter
	loop        *load.Loop
	sites       []string // all names that a router ever has
	dir         string
	descriptors int   // largest number of descriptors of a process
	cores       []int // processors of this process at the start
	progress    io.Writer
}

// running is a router that has started and answers.
type running struct {
	*peer.Process
	target load.Target
	ready  time.Duration
	memory procfs.Memory // memory of the router without open connections
	files  int
}

// stage is a measurement with a given number of open connections and of host names.
type stage struct {
	report.Size
	steps []step
	last  bool // no further stage uses this process
}

type step func(context.Context, *running, *report.Point) error

// round measures a router once with each number of open connections and of known host names
// (report.Sizes). If the router fails, the points contain the reason. An error ends the whole
// benchmark.
func (b *bench) round(ctx context.Context, n int, r peer.Router) ([]report.Point, error) {
	s := b.sizes()
	few := []stage{{Size: s.Base, steps: []step{b.roundTrips, b.idle, b.connections, b.bulkTransfer}}}
	if s.Idle != s.ManyOpen {
		few = append(few, stage{Size: s.Idle, steps: []step{b.roundTrips, b.idle}})
	}
	all := []step{b.roundTrips, b.idle, b.connections}
	few = append(few, stage{Size: s.ManyOpen, steps: all, last: true})
	points := b.process(ctx, n, r, few)
	points = append(points, b.process(ctx, n, r, []stage{{Size: s.ManyHosts, steps: all, last: true}})...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return points, nil
}

// process starts a router once, and measures it in all stages, one after the other. Each stage has
// another number of open connections.
func (b *bench) process(ctx context.Context, n int, r peer.Router, stages []stage) []report.Point {
	points := make([]report.Point, len(stages))
	defer b.loop.Reset()
	run, err := b.start(ctx, r, stages[0].Hosts)
	if err == nil {
		defer run.Stop()
	}
	for i, s := range stages {
		p := report.Point{Round: n, Open: s.Open, Hosts: s.Hosts, Figures: make(map[report.Metric]float64)}
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
	fmt.Fprintf(b.progress, "round %d/%d  %-9s %5d open %6d hosts", p.Round, b.rounds, r.Name, p.Open, p.Hosts)
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

// start starts a router and waits until it answers. After that, it sends requests, so that the
// router has filled its connection and buffer pools before the measurement.
func (b *bench) start(ctx context.Context, r peer.Router, hosts int) (*running, error) {
	begin := time.Now()
	p, listen, err := b.starter.Launch(ctx, b.dir, r, peer.Setup{
		Hosts: b.sites[:hosts], Backends: b.loop.Backends(),
		Connections: b.many.Open + warmUp + b.atOnce, Descriptors: b.descriptors, Root: os.Geteuid() == 0,
	})
	if err != nil {
		return nil, err
	}
	run := &running{Process: p, target: load.Target{Addr: listen, Hosts: b.sites[:hosts]}}
	if err := b.settle(ctx, run, begin); err != nil {
		p.Stop()
		return nil, err
	}
	return run, nil
}

func (b *bench) settle(ctx context.Context, run *running, begin time.Time) error {
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
		case time.Since(begin) > b.startLimit:
			return fmt.Errorf("not ready after %v: %w %s", b.startLimit, err, run.Output())
		}
		if err := b.loop.Idle(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	run.ready = time.Since(begin)
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
		if err := measure(ctx, run, p); err != nil {
			return b.explain(run, err)
		}
	}
	after, err := b.others(run)
	if err != nil {
		return err
	}
	p.Figures[report.OthersPercent] = max(0, 100*(after-before).Seconds()/time.Since(begin).Seconds())
	if s.last {
		return b.left(ctx, run, p)
	}
	return nil
}

// The method "others" returns for how long the processor core of the router was busy with other
// programs than the router.
func (b *bench) others(run *running) (time.Duration, error) {
	busy, err := procfs.Busy(b.routerCore)
	if err != nil {
		return 0, err
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
