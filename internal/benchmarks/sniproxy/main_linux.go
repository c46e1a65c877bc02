package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/load"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

func main() {
	s, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "sniproxy:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	switch {
	case s.hellos:
		err = printHellos(ctx, s, os.Stdout, os.Stderr)
	case s.paired:
		err = printPaired(ctx, s, os.Stdout, os.Stderr)
	case s.scaling:
		err = printScaling(ctx, s, os.Stdout, os.Stderr)
	default:
		err = measureAll(ctx, s, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sniproxy:", err)
		os.Exit(1)
	}
}

func printHellos(ctx context.Context, s settings, out, progress io.Writer) error {
	result, err := countHellos(ctx, s, progress)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, result.Markdown()); err != nil {
		return err
	}
	if s.quick {
		return checkHellos(result)
	}
	return nil
}

// checkHellos returns an error if a router did not run, or if snirouter missed a hello.
func checkHellos(result report.Hellos) error {
	for _, r := range result.Routers {
		if r.Problem != "" {
			return fmt.Errorf("%s did not run: %s", r.Name, r.Problem)
		}
	}
	if n := result.Missed("snirouter"); n > 0 {
		return fmt.Errorf("%d hellos did not reach their backend through snirouter", n)
	}
	return nil
}

func measureAll(ctx context.Context, s settings, out, progress io.Writer) error {
	result, err := run(ctx, s, progress)
	if err != nil {
		return err
	}
	return s.print(result, result.Run, out)
}

// print writes the result to the file of -json, and its tables to out. It returns an error if -quick is
// set and a figure of the run is missing.
func (s settings) print(result interface{ Markdown() string }, run report.Run, out io.Writer) error {
	if err := writeJSON(s.json, result); err != nil {
		return err
	}
	if _, err := io.WriteString(out, result.Markdown()); err != nil {
		return err
	}
	if s.quick && !run.Complete() {
		return errors.New("some figures are missing")
	}
	return nil
}

// writeJSON writes the value to the file. It does nothing if the name of the file is empty.
func writeJSON(file string, value any) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// run measures all routers in all rounds.
func run(ctx context.Context, s settings, progress io.Writer) (result report.Result, err error) {
	result.Sizes = s.sizes()
	result.Run, err = measureRun(ctx, s, progress, func(int) [][]stage { return compared(result.Sizes) })
	return result, err
}

// measureRun measures all routers in all rounds. A job is the list of measurements that measureRun
// makes with one process of a router. In each round, it starts each router once for each job. The
// function "jobs" returns the jobs of a round for a number of processors.
func measureRun(ctx context.Context, s settings, progress io.Writer, jobs func(cores int) [][]stage) (result report.Run, err error) {
	err = s.withRouters(ctx, progress, func(ctx context.Context, dir string, routers []peer.Router) (err error) {
		b := &bench{settings: s, dir: dir, progress: progress}
		if b.cores, err = peer.Cores(); err != nil {
			return err
		}
		jobs := jobs(len(b.cores))
		if err := b.prepare(jobs); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		measure := b.measure
		if s.paired {
			measure = b.measurePaired
		}
		measured, rounds, err := measure(ctx, routers, jobs)
		result = report.Run{Command: command(os.Args[1:]), Machine: machine(), Settings: b.describe(rounds), Routers: measured}
		return err
	})
	return result, err
}

// withRouters finds or builds the routers of -peers, and passes them to the function "do". It also
// passes a context that ends after -limit, and a directory for files, which it removes at the end.
func (s settings) withRouters(ctx context.Context, progress io.Writer, do func(ctx context.Context, dir string, routers []peer.Router) error) (err error) {
	dir, err := os.MkdirTemp("", "bench-routers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	routers, err := s.routers(ctx, dir, progress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done after %v (-limit)", s.limit))
	defer cancel()
	return do(ctx, dir, routers)
}

// routers finds or builds the routers of -peers. It leaves out a router that is missing, and a router
// that has the same name and version as an earlier router.
func (s settings) routers(ctx context.Context, dir string, progress io.Writer) ([]peer.Router, error) {
	var routers []peer.Router
	have := make(map[string]bool)
	for _, name := range s.peers {
		r, err := find(ctx, name, dir, s.snirouter)
		title := r.Name + " " + r.Version
		switch {
		case errors.Is(err, errMissing):
			fmt.Fprintf(progress, "%s: %v\n", name, err)
		case err != nil:
			return nil, err
		case have[title]:
			fmt.Fprintf(progress, "%s: left out: %s comes twice\n", name, title)
		default:
			have[title] = true
			routers = append(routers, r)
		}
	}
	if s.other != "" {
		r := peer.SNIRouter(s.other, "")
		r.Name, r.Role = "other snirouter", peer.Peer
		routers = append(routers, r)
	}
	if len(routers) == 0 {
		return nil, errors.New("none of the routers is on this machine")
	}
	return routers, nil
}

// prepare reserves the processors and descriptors that the jobs need.
func (b *bench) prepare(jobs [][]stage) error {
	largest := largestSize(jobs)
	if b.routerCore < 0 {
		b.routerCore = b.cores[0]
	}
	if b.loadCore < 0 {
		b.loadCore = b.cores[min(1, len(b.cores)-1)]
	}
	b.routerCores = routerCores(b.cores, b.routerCore, b.loadCore)[:largest.Cores]
	if slices.Contains(b.routerCores, b.loadCore) {
		fmt.Fprintln(b.progress, "router and load share a processor: round trips and rates mean little")
	}
	b.sites = peer.Sites(largest.Hosts)
	b.open = largest.Open
	if err := b.limitDescriptors(); err != nil {
		return err
	}
	if err := peer.PinSelf(b.loadCore); err != nil {
		return err
	}
	for i := range b.routerCores {
		starter, err := peer.NewStarter(b.routerCores[:i+1]...)
		if err != nil {
			return errors.Join(err, b.close())
		}
		b.starters = append(b.starters, starter)
	}
	var err error
	if b.loop, err = load.New(2, b.sites[0]); err != nil {
		return errors.Join(err, b.close())
	}
	return nil
}

// routerCores returns the processors in the order in which a router gets them. routerCore is the
// first one. loadCore, the processor of the load, is the last one.
func routerCores(cores []int, routerCore, loadCore int) []int {
	order := []int{routerCore}
	for _, c := range cores {
		if c != routerCore && c != loadCore {
			order = append(order, c)
		}
	}
	if loadCore != routerCore {
		order = append(order, loadCore)
	}
	return order
}

func (b *bench) close() error {
	if b.loop != nil {
		b.loop.Close()
	}
	for _, s := range b.starters {
		s.Close()
	}
	return peer.PinSelf(b.cores...)
}

// limitDescriptors raises the limit of descriptors of this process to the maximum. Call it before
// the routers start, because they inherit the limit. The clients and backends in this process need
// two descriptors for each connection.
func (b *bench) limitDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	b.descriptors = int(min(limit.Max, 1<<20))
	if need := 2*(b.open+warmUp) + 100; need > b.descriptors {
		return fmt.Errorf("%d connections need %d descriptors, but the limit is %d: raise it (ulimit -Hn) or use -connections %d",
			b.open, need, b.descriptors, max(b.few.Open, (b.descriptors-100)/2-warmUp))
	}
	return nil
}

func (b *bench) describe(rounds int) string {
	text := fmt.Sprintf("Rounds: %d, %v a phase; router on processor %s, load on %d; at most %d descriptors a process; hello of %d bytes; %d new connections and %d round trips at a time",
		rounds, b.phase, strings.Trim(fmt.Sprint(b.routerCores), "[]"), b.loadCore, b.descriptors, b.loop.HelloSize(), b.atOnce, b.pings)
	if !b.scaling && !b.paired {
		text += fmt.Sprintf("; bulk of %d MiB over %d connections", b.bulk>>20, streams)
	}
	return text + "."
}

// command returns the command line that repeats this run.
func command(args []string) string {
	words := []string{"cd internal/benchmarks && go run ./sniproxy"}
	for _, a := range args {
		if strings.ContainsAny(a, " {}$*'\"") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// machine returns a description of the machine.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(strings.TrimSpace(name), ": \t")
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("?")
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return fmt.Sprintf("%s, Linux %s, loopback.", model, version)
}
