// Dashboards checks the Grafana dashboards, the metrics ("promtool check metrics") and the
// Prometheus rules: each query of each panel must be valid and return data. It runs the edge, the
// router and the front proxies on the loopback device, with real binaries, HAProxy and Prometheus.
//
//	make test-dashboards
//	make test-dashboards DASHBOARDFLAGS='-svg examples/dashboards'
//
// With -svg, it first changes the systems for a minute and a half, for example cordons a node, and
// then draws charts of this time from some queries.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings are the values of the flags.
type settings struct {
	bin, examples, svg string
	patience           time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.bin, "bin", "", "`directory` with the binaries terminator, nodeagent, snirouter, hostapi and frontproxy")
	flag.StringVar(&s.examples, "examples", "examples", "`directory` with the dashboards and the rules")
	flag.StringVar(&s.svg, "svg", "", "`directory` for the charts; empty means no charts")
	flag.DurationVar(&s.patience, "patience", 5*time.Minute, "longest `time` for all checks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func (s *settings) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	dashboards, err := readDashboards(filepath.Join(s.examples, "dashboards"))
	if err != nil {
		return err
	}
	l, err := newLab(s.bin)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := l.stop(); err == nil {
			err = stopErr
		}
	}()
	for _, start := range []func(context.Context) error{l.startEdge, l.startRouter, l.startFronts} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	l.startTraffic()
	p, err := l.startPrometheus(ctx, s.examples)
	if err != nil {
		return err
	}
	if s.svg != "" {
		begin := time.Now()
		if err := l.scenario(ctx); err != nil {
			return err
		}
		if err := drawCharts(ctx, p, dashboards, s.svg, begin, time.Now()); err != nil {
			return err
		}
	}
	if err := s.checkQueries(ctx, p, dashboards); err != nil {
		return err
	}
	if err := p.checkRules(ctx); err != nil {
		return err
	}
	return l.checkMetrics(ctx)
}

// checkQueries runs the queries of all panels. It repeats a query until the query returns data.
func (s *settings) checkQueries(ctx context.Context, p *prometheus, dashboards []dashboard) error {
	for _, d := range dashboards {
		queries, empty := 0, 0
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				queries++
				expr, err := expand(target.Expr)
				if err != nil {
					return fmt.Errorf("%s: panel %q: %w", d.file, panel.Title, err)
				}
				if emptyPanels[panel.Title] {
					empty++
					_, err = p.query(ctx, expr)
				} else {
					err = p.waitForData(ctx, expr)
				}
				if err != nil {
					return fmt.Errorf("%s: panel %q: %s: %w", d.file, panel.Title, expr, err)
				}
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				arguments, ok := strings.CutPrefix(v.Definition, "label_values(")
				metric, _, two := strings.Cut(arguments, ",")
				if !ok || !two {
					return fmt.Errorf("%s: variable %s: the query %q is not label_values(METRIC, LABEL)", d.file, v.Name, v.Definition)
				}
				if err := p.waitForData(ctx, metric); err != nil {
					return fmt.Errorf("%s: variable %s: %w", d.file, v.Name, err)
				}
			}
		}
		fmt.Printf("%s: %d queries are valid, and %d return data\n", d.file, queries, queries-empty)
	}
	return nil
}

// checkMetrics checks /metrics of each binary with promtool.
func (l *lab) checkMetrics(ctx context.Context) error {
	for _, job := range l.jobs {
		if strings.HasSuffix(job.name, "haproxy") { // the names of HAProxy's metrics are not ours
			continue
		}
		for _, target := range job.targets {
			text, err := fetch(ctx, "http://"+target+"/metrics")
			if err != nil {
				return err
			}
			cmd := exec.CommandContext(ctx, "promtool", "check", "metrics")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("metrics of %s: %w: %s", job.name, err, out)
			}
		}
		fmt.Printf("%s: promtool check metrics finds no problem\n", job.name)
	}
	return nil
}
