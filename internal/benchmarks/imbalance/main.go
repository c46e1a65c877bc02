// Imbalance prints a table and draws a chart of how evenly a load spreads over pods that start one
// after another: behind a balancer of TCP connections, and behind front proxies, which balance each
// request.
//
//	make demo-imbalance
//
// It runs on the loopback device with a real HAProxy. The clients keep their connections.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/headgate/headgate/internal/httpload"
)

// settings are the values of the flags.
type settings struct {
	pods, clients, fronts int
	rate                  float64
	every, over, rest     time.Duration
	frontproxy, svg       string
}

func main() {
	var s settings
	flag.IntVar(&s.pods, "pods", 12, "`number` of pods")
	flag.IntVar(&s.clients, "clients", 50, "`number` of clients, each with one connection that it keeps")
	flag.IntVar(&s.fronts, "fronts", 3, "`number` of front proxies")
	flag.Float64Var(&s.rate, "rate", 1000, "`number` of requests that all clients send in a second")
	flag.DurationVar(&s.every, "every", 500*time.Millisecond, "`time` between the starts of two pods")
	flag.DurationVar(&s.over, "over", 4*time.Second, "`time` over which the clients connect")
	flag.DurationVar(&s.rest, "rest", 8*time.Second, "`time` after the start of the last pod; the table shows its second half")
	flag.StringVar(&s.frontproxy, "frontproxy", "frontproxy", "`path` of the binary of examples/frontproxy")
	flag.StringVar(&s.svg, "svg", "imbalance.svg", "`file` for the chart; empty means no chart")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "imbalance:", err)
		os.Exit(1)
	}
}

// A way is a path from the clients to the pods.
type way struct {
	name string
	// start starts everything on the way from the clients to the pods. The result contains the
	// address for clients, and a function that stops everything again.
	start func(ctx context.Context, dir string, s *settings, pods []*pod) (running, error)
}

// running is a way from the clients to the pods whose programs have been started.
type running struct {
	address string
	entries []string // all addresses that must answer before the clients start
	// started is called after each start of a pod, with all running pods.
	started func(pods []*pod) error
	stop    func()
}

// result contains the measurements of one way.
type result struct {
	way      way
	pods     []*pod
	started  []time.Duration // when each pod started, as the time since the start of the load
	last     time.Duration   // the start of the last pod
	took     time.Duration
	points   []point
	failed   int
	requests int
	err      error // why requests failed; nil if none failed
}

func (s *settings) run(ctx context.Context, out io.Writer) error {
	var results []result
	for _, w := range []way{
		{"TCP balancer, leastconn", startTCP("leastconn")},
		{"TCP balancer, roundrobin", startTCP("roundrobin")},
		{fmt.Sprintf("TCP balancer, %d front proxies", s.fronts), startFronts},
	} {
		fmt.Fprintf(out, "%s: %d pods, one every %v, %d clients, %.0f requests a second …\n", w.name, s.pods, s.every, s.clients, s.rate)
		r, err := s.try(ctx, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		results = append(results, r)
	}
	fmt.Fprintln(out)
	if err := writeTable(out, results); err != nil {
		return err
	}
	if s.svg == "" {
		return nil
	}
	if err := writeChart(s.svg, results); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe chart is in %s.\n", s.svg)
	return nil
}

// try measures one way from the clients to the pods, such as a front proxy. It starts new pods and
// this way, sends the load through it, and returns the measured result.
func (s *settings) try(ctx context.Context, w way) (r result, err error) {
	dir, err := os.MkdirTemp("", "headgate-imbalance-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	ports, release, err := reserve(s.pods)
	if err != nil {
		return r, err
	}
	defer release()
	r.way = w
	for i := range s.pods {
		r.pods = append(r.pods, newPod(i, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(ports[i]))))
	}
	run, err := w.start(ctx, dir, s, r.pods)
	if err != nil {
		return r, err
	}
	defer run.stop()
	startPod := func(i int) error {
		if err := r.pods[i].start(); err != nil {
			return err
		}
		return run.started(r.pods[:i+1])
	}
	defer func() {
		for i := range r.started {
			err = errors.Join(err, r.pods[i].stop())
		}
	}()
	r.started = append(r.started, 0) // the first pod runs before the first client
	if err := startPod(0); err != nil {
		return r, err
	}
	for _, entry := range run.entries {
		if err := answers(ctx, entry); err != nil {
			return r, err
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	points := make(chan []point, 1)
	go func() { points <- sample(ctx, r.pods) }()
	load := httpload.Start(ctx, httpload.Config[string]{
		Dial: (&net.Dialer{}).DialContext, Address: run.address, Host: "web.example.com",
		Rate: s.rate, Kept: s.clients, StartOver: s.over,
		Parse: func(line []byte) (string, error) { return strings.TrimSpace(string(line)), nil },
	})
	defer load.Stop()
	for i := 1; i < s.pods; i++ {
		if err := wait(ctx, s.every); err != nil {
			return r, err
		}
		r.last = time.Since(start)
		r.started = append(r.started, r.last)
		if err := startPod(i); err != nil {
			return r, err
		}
	}
	if err := wait(ctx, s.rest); err != nil {
		return r, err
	}
	r.took = time.Since(start)
	log := load.Stop()
	cancel()
	r.points = <-points
	r.requests, r.failed = log.Count(time.Time{}, time.Time{}), len(log.Failures(time.Time{}, time.Time{}))
	r.err = log.Err(time.Time{}, time.Time{})
	return r, nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeTable prints, for each way from the clients to the pods, how unevenly the requests load the
// pods. It counts only the second half of the time between the start of the last pod and the end of
// the run.
func writeTable(out io.Writer, results []result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "way\trequests a second, CV\tmax/mean\tidle pods\trequests in flight, CV\tmax/mean\tfailed requests\t\n")
	for _, r := range results {
		from := r.last + (r.took-r.last)/2
		requests := spreadOf(means(r.points, from, requestsOf))
		inFlight := spreadOf(means(r.points, from, inFlightOf))
		fmt.Fprintf(t, "%s\t%.3f\t%.2f\t%d of %d\t%.3f\t%.2f\t%d of %d\t\n", r.way.name,
			requests.cv, requests.maxMean, requests.idle, len(r.pods), inFlight.cv, inFlight.maxMean, r.failed, r.requests)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.err != nil {
			fmt.Fprintf(out, "%s: %v\n", r.way.name, r.err)
		}
	}
	_, err := fmt.Fprint(out, "\nCV is the coefficient of variation over the pods: the standard deviation divided by the mean. 0 means that all pods\nhave the same load.\n")
	return err
}
