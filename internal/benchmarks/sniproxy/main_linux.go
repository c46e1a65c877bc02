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
	if s.hellos {
		err = printHellos(ctx, s, os.Stdout, os.Stderr)
	} else {
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
	if err := write(result, s.json, out); err != nil {
		return err
	}
	if s.quick && !result.Complete() {
		return errors.New("some figures are missing")
	}
	return nil
}

func write(result report.Result, file string, out io.Writer) error {
	if file != "" {
		data, err := json.MarshalIndent(result, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	_, err := io.WriteString(out, result.Markdown())
	return err
}

// run measures all routers in all rounds.
func run(ctx context.Context, s settings, progress io.Writer) (result report.Result, err error) {
	dir, err := os.MkdirTemp("", "bench-peers-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	routers, err := s.routers(ctx, dir, progress)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done after %v (-limit)", s.limit))
	defer cancel()
	b := &bench{settings: s, sites: peer.Sites(s.many.Hosts), dir: dir, progress: progress}
	if err := b.prepare(); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	result = report.Result{Command: command(os.Args[1:]), Machine: machine(), Settings: b.describe(), Sizes: s.sizes()}
	for _, r := range routers {
		result.Routers = append(result.Routers, report.Router{Name: r.Name, Role: string(r.Role), Version: r.Version})
	}
	for n := range b.rounds {
		for i, r := range routers {
			points, err := b.round(ctx, n+1, r)
			if err != nil {
				return result, err
			}
			result.Routers[i].Points = append(result.Routers[i].Points, points...)
		}
	}
	return result, nil
}

func (s settings) routers(ctx context.Context, dir string, progress io.Writer) ([]peer.Router, error) {
	var routers []peer.Router
	for _, name := range s.peers {
		r, err := find(ctx, name, dir, s.snirouter)
		switch {
		case errors.Is(err, errMissing):
			fmt.Fprintf(progress, "%s: %v\n", name, err)
		case err != nil:
			return nil, err
		default:
			routers = append(routers, r)
		}
	}
	if len(routers) == 0 {
		return nil, errors.New("none of the routers is on this machine")
	}
	return routers, nil
}

// prepare reserves the processors and descriptors that the run needs.
func (b *bench) prepare() error {
	cores, err := peer.Cores()
	if err != nil {
		return err
	}
	if b.routerCore < 0 {
		b.routerCore = cores[0]
	}
	if b.loadCore < 0 {
		b.loadCore = cores[min(1, len(cores)-1)]
	}
	if b.routerCore == b.loadCore {
		fmt.Fprintln(b.progress, "router and load share one processor: round trips and rates mean little")
	}
	if err := b.limitDescriptors(); err != nil {
		return err
	}
	if err := peer.PinSelf(b.loadCore); err != nil {
		return err
	}
	if b.starter, err = peer.NewStarter(b.routerCore); err != nil {
		return err
	}
	b.cores = cores
	if b.loop, err = load.New(2, b.sites[0]); err != nil {
		return errors.Join(err, b.close())
	}
	return nil
}

func (b *bench) close() error {
	if b.loop != nil {
		b.loop.Close()
	}
	b.starter.Close()
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
	if need := 2*(b.many.Open+warmUp) + 100; need > b.descriptors {
		return fmt.Errorf("%d connections need %d descriptors, but the limit is %d: raise it (ulimit -Hn) or use -connections %d",
			b.many.Open, need, b.descriptors, max(b.few.Open, (b.descriptors-100)/2-warmUp))
	}
	return nil
}

func (b *bench) describe() string {
	return fmt.Sprintf("Rounds: %d, %v a phase; router on processor %d, load on %d; at most %d descriptors a process; hello of %d bytes; %d new connections and %d round trips at a time; bulk of %d MiB over %d connections.",
		b.rounds, b.phase, b.routerCore, b.loadCore, b.descriptors, b.loop.HelloSize(), b.atOnce, b.pings, b.bulk>>20, streams)
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
	return fmt.Sprintf("%s, Linux %s, loopback.", model, strings.TrimSpace(string(kernel)))
}
