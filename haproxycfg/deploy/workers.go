package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Workers lists and ends the old workers of an HAProxy in master-worker mode. An old worker was
// started before the last reload, and runs until its last connection ends. A Workers is a plain
// value, safe for concurrent use.
type Workers struct {
	// Master is the socket of the master process (option -S of haproxy).
	Master runtimeapi.Socket
	// Timeout is the longest time that EndOldest waits for one worker to end; 0 means 5 s.
	Timeout time.Duration
}

// EndedWorker is a worker that EndOldest has ended.
type EndedWorker struct {
	PID int
	// Streams is the number of streams that the worker had, and that its end has cut. A stream is
	// an HTTP request without a complete answer, or a tunnel such as a WebSocket. -1 means that the
	// number is unknown, because the worker did not answer.
	Streams int
}

// Old returns the process IDs of the old workers, the oldest worker first.
func (w Workers) Old(ctx context.Context) ([]int, error) {
	all, err := Reloader{Master: w.Master}.processes(ctx)
	if err != nil {
		return nil, fmt.Errorf("deploy: old workers: %w", err)
	}
	return oldWorkers(all), nil
}

// oldWorkers returns the process IDs of all workers except the one that serves new connections. The
// worker that has survived the most reloads comes first.
func oldWorkers(all []process) []int {
	current := currentWorker(all)
	var old []process
	for _, p := range all {
		if p.kind == "worker" && p.address() != current {
			old = append(old, p)
		}
	}
	slices.SortStableFunc(old, func(a, b process) int { return cmp.Compare(b.reloads, a.reloads) })
	pids := make([]int, len(old))
	for i, p := range old {
		pids[i] = p.pid
	}
	return pids
}

// Stats returns the statistics of each worker. The worker that serves new connections comes first,
// then the old workers, the oldest first. If a worker does not answer and still runs, Stats returns
// an error.
func (w Workers) Stats(ctx context.Context) ([][]runtimeapi.Stat, error) {
	all, err := Reloader{Master: w.Master}.processes(ctx)
	if err != nil {
		return nil, fmt.Errorf("deploy: workers: %w", err)
	}
	addresses := []string{currentWorker(all)}
	for _, pid := range oldWorkers(all) {
		addresses = append(addresses, workerAddress(pid))
	}
	if addresses[0] == "" {
		return nil, errors.New("deploy: HAProxy has no worker")
	}
	var stats [][]runtimeapi.Stat
	for _, address := range addresses {
		socket := w.Master
		socket.Worker = address
		rows, err := socket.Stats(ctx)
		if err == nil {
			stats = append(stats, rows)
			continue
		}
		now, listErr := Reloader{Master: w.Master}.processes(ctx)
		if listErr != nil || currentWorker(now) == address || slices.ContainsFunc(oldWorkers(now), func(pid int) bool { return workerAddress(pid) == address }) {
			return nil, fmt.Errorf("deploy: worker %s: %w", address, errors.Join(err, listErr))
		}
	}
	if len(stats) == 0 {
		return nil, errors.New("deploy: all workers have ended")
	}
	return stats, nil
}

// EndOldest ends the oldest worker, and returns when the master no longer lists this worker. If the
// worker does not end within Timeout, for example in a debugger, EndOldest ends the next one. If no
// old worker ends, EndOldest returns an error. It uses the master's command line, so it needs no
// permission to send signals.
func (w Workers) EndOldest(ctx context.Context) (EndedWorker, error) {
	old, err := w.Old(ctx)
	if err != nil {
		return EndedWorker{}, err
	}
	err = errors.New("deploy: there is no old worker")
	for i, pid := range old {
		ended := EndedWorker{PID: pid}
		failed := w.end(ctx, &ended)
		if failed == nil {
			return ended, nil
		}
		failed = fmt.Errorf("deploy: old worker %d does not end: %w", pid, failed)
		if i == 0 {
			err = failed
		} else {
			err = errors.Join(err, failed)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return EndedWorker{}, err
}

// end ends the worker with the process ID ended.PID. Before that, it sets ended.Streams to the
// number of streams of the worker.
func (w Workers) end(ctx context.Context, ended *EndedWorker) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(w.Timeout, 0), 5*time.Second))
	defer cancel()
	worker := w.Master
	worker.Worker = workerAddress(ended.PID)
	worker.Timeout = cmp.Or(max(w.Timeout, 0), 5*time.Second) / 3
	var err error
	if ended.Streams, err = worker.Streams(ctx); err != nil {
		ended.Streams = -1
	}
	// The worker ends before it answers the command. So the answer does not show whether the worker
	// has ended.
	command := worker.Exit(ctx)
	tick := time.Tick(10 * time.Millisecond)
	for {
		old, err := w.Old(ctx)
		if err == nil && !slices.Contains(old, ended.PID) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(command, ctx.Err(), err)
		case <-tick:
		}
	}
}
