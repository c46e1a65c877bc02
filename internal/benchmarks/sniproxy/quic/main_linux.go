package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// host is the name in all hellos.
const host = "site-000000.apps.example"

// ourCommand runs snirouter with the settings that nginx has.
const ourCommand = " -quic {listen} -hosts {hosts} -allow 127.0.0.0/8 -log-sample 0 -quic-idle-timeout 10s"

type settings struct {
	rounds     int
	handshakes int
	pings      int
	bulk       int      // MiB
	snirouters []string // NAME=PATH; empty means that the command builds snirouter
	nginx      bool
}

func main() {
	s := settings{}
	quick := flag.Bool("quick", false, "one short round")
	flag.IntVar(&s.rounds, "rounds", 5, "number of rounds; the table shows medians")
	flag.IntVar(&s.handshakes, "handshakes", 2000, "handshakes in each round")
	flag.IntVar(&s.pings, "pings", 5000, "round trips in each round")
	flag.IntVar(&s.bulk, "bulk", 512, "MiB of each bulk transfer")
	flag.BoolVar(&s.nginx, "nginx", true, "measure nginx too")
	flag.Func("snirouter", "`NAME=PATH` of a snirouter, in place of the one that the command builds; may be given several times", func(v string) error {
		if !strings.Contains(v, "=") {
			return errors.New("want NAME=PATH")
		}
		s.snirouters = append(s.snirouters, v)
		return nil
	})
	flag.Parse()
	if *quick {
		s.rounds, s.handshakes, s.pings, s.bulk = 1, 50, 50, 2
	}
	if err := run(context.Background(), s, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "quic:", err)
		os.Exit(1)
	}
}

// figures are the results of one router in one round, in the order of the variable "columns".
type figures [8]float64

var columns = [8]string{
	"CPU µs a handshake", "handshakes/s", "round trip p50 µs", "CPU µs a round trip",
	"bundles: CPU s a GiB", "bundles: MiB/s", "singly: CPU s a GiB", "singly: MiB/s",
}

func run(ctx context.Context, s settings, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "bench-quic-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	routers, err := s.routers(ctx, dir, progress)
	if err != nil {
		return err
	}
	cores, err := peer.Cores()
	if err != nil {
		return err
	}
	if err := peer.PinSelf(cores[min(1, len(cores)-1)]); err != nil {
		return err
	}
	defer peer.PinSelf(cores...) //nolint:errcheck // the process ends
	starter, err := peer.NewStarter(cores[0])
	if err != nil {
		return err
	}
	defer starter.Close()
	load, err := newLoad(ctx)
	if err != nil {
		return err
	}
	defer load.close()

	results := make([][]figures, len(routers))
	for round := range s.rounds {
		for i, r := range routers {
			f, err := measure(ctx, s, starter, load, r, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			results[i] = append(results[i], f)
			fmt.Fprintf(progress, "round %d/%d  %-26s %.1f\n", round+1, s.rounds, r.Name, f)
		}
	}
	write(out, routers, results)
	return nil
}

func (s settings) routers(ctx context.Context, dir string, progress io.Writer) (list []peer.Router, err error) {
	if s.nginx {
		if r, err := peer.FindNginxUDP(); err == nil {
			list = append(list, r)
		} else {
			fmt.Fprintln(progress, "nginx is left out:", err)
		}
	}
	if len(s.snirouters) == 0 {
		path := filepath.Join(dir, "snirouter")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./examples/snirouter")
		cmd.Dir = filepath.Join("..", "..") // the main module, which has the dependencies of snirouter
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build (run the command in internal/benchmarks): %w\n%s", err, out)
		}
		s.snirouters = []string{"snirouter=" + path}
	}
	for _, v := range s.snirouters {
		name, path, _ := strings.Cut(v, "=")
		r := peer.SNIRouter(path+ourCommand, "")
		r.Name = name
		list = append(list, r)
	}
	return list, nil
}

// measure starts a router in a directory below dir, and measures it once.
func measure(ctx context.Context, s settings, starter *peer.Starter, load *load, r peer.Router, dir string) (f figures, err error) {
	p, listen, err := starter.Launch(ctx, dir, r, peer.Setup{ // the number of a free TCP port is free for UDP too
		Hosts: []string{host}, Backends: []netip.AddrPort{load.backendAddr},
		Connections: 2 * s.handshakes, Descriptors: 4*s.handshakes + 1000, Root: os.Geteuid() == 0,
	})
	if err != nil {
		return f, err
	}
	defer p.Stop()
	defer func() {
		if ended := p.Err(); ended != nil {
			err = errors.Join(err, ended)
		}
	}()
	if err := load.ready(listen); err != nil {
		return f, err
	}
	used := func(do func() error) (cpu, took time.Duration, err error) {
		before, err := p.CPU()
		if err != nil {
			return 0, 0, err
		}
		begin := time.Now()
		if err := do(); err != nil {
			return 0, 0, err
		}
		took = time.Since(begin)
		after, err := p.CPU()
		return after.Total - before.Total, took, err
	}
	cpu, took, err := used(func() error { return load.handshakes(listen, s.handshakes) })
	if err != nil {
		return f, err
	}
	f[0], f[1] = micros(cpu)/float64(s.handshakes), float64(s.handshakes)/took.Seconds()
	var times []time.Duration
	if cpu, _, err = used(func() (err error) { times, err = load.pings(listen, s.pings); return err }); err != nil {
		return f, err
	}
	f[2], f[3] = micros(report.Quantile(times, 0.5)), micros(cpu)/float64(s.pings)
	for i, bundles := range []bool{true, false} {
		if cpu, took, err = used(func() error { return load.bulk(listen, s.bulk<<20, bundles) }); err != nil {
			return f, err
		}
		f[4+2*i], f[5+2*i] = cpu.Seconds()*1024/float64(s.bulk), float64(s.bulk)/took.Seconds()
	}
	return f, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// For each figure, write writes three values: the median of all rounds, the lowest and the highest.
func write(out io.Writer, routers []peer.Router, results [][]figures) {
	fmt.Fprintf(out, "| router | %s |\n|---|%s\n", strings.Join(columns[:], " | "), strings.Repeat("---:|", len(columns)))
	for i, r := range routers {
		fmt.Fprintf(out, "| %s |", strings.TrimSpace(r.Name+" "+r.Version))
		for c := range columns {
			var values []float64
			for _, f := range results[i] {
				values = append(values, f[c])
			}
			fmt.Fprintf(out, " %.3g (%.3g–%.3g) |", report.Quantile(values, 0.5), report.Quantile(values, 0), report.Quantile(values, 1))
		}
		fmt.Fprintln(out)
	}
}
