package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// printScaling measures the routers at growing sizes, or reads the figures of an earlier run.
func printScaling(ctx context.Context, s settings, out, progress io.Writer) (err error) {
	var result report.Scaling
	if s.from == "" {
		result, err = scale(ctx, s, progress)
	} else {
		result, err = readScaling(s.from)
	}
	if err != nil {
		return err
	}
	if s.page != "" {
		if err := writePage(s.page, result); err != nil {
			return err
		}
	}
	return s.print(result, result.Run, out)
}

func readScaling(file string) (result report.Scaling, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(data, &result); err != nil {
		return result, fmt.Errorf("%s: %w", file, err)
	}
	if len(result.Cores) == 0 || len(result.Open) < 2 || len(result.Hosts) == 0 {
		return result, fmt.Errorf("%s: the figures are not of a run with -scaling", file)
	}
	return result, nil
}

// writePage writes the tables into the page, and the chart into the directory of the page.
func writePage(page string, result report.Scaling) error {
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text, err := insertFigures(string(data), figuresOf(result))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if err := drawScaling(filepath.Join(filepath.Dir(page), scalingChart), result); err != nil {
		return err
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

// scale measures all routers at growing sizes.
func scale(ctx context.Context, s settings, progress io.Writer) (result report.Scaling, err error) {
	result.Run, err = measureRun(ctx, s, progress, func(cores int) [][]stage {
		result.Axes = s.axes(cores)
		return growing(result.Axes)
	})
	return result, err
}

// growing returns the jobs of a run at growing sizes. A job has the stages that measure one process
// of a router. The jobs are:
//   - for each number of processors, a job with a stage for each number of open connections;
//   - for each number of host names except the first, a job.
func growing(axes report.Axes) (jobs [][]stage) {
	for _, cores := range axes.Cores {
		var stages []stage
		for _, size := range axes.OpenSizes(cores) {
			stages = append(stages, stage{Size: size, steps: []step{(*bench).roundTrips, (*bench).idle, (*bench).idleCPU, (*bench).connections}})
		}
		jobs = append(jobs, stages)
	}
	for _, size := range axes.HostSizes()[1:] {
		jobs = append(jobs, []stage{{Size: size, steps: []step{(*bench).connections}}})
	}
	return jobs
}
