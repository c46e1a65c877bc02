package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Reloader makes a HAProxy in master-worker mode load its configuration again, and finds out
// whether HAProxy accepted it. Its method Reload fits [Dir.Reload].
//
// A Reloader is a plain value. Only one reload of an HAProxy may run at a time, because a
// Reloader could take the outcome of another reload for its own. [Dir] runs one at a time.
type Reloader struct {
	// Master is the socket of the master process (option -S of haproxy).
	Master runtimeapi.Socket
	// StateFile is the file to which each reload first saves the state of the servers. The
	// configuration names the same file as its server-state-file. Empty means none: after a
	// reload, drained servers then get traffic until their agents answer again.
	//
	// HAProxy reads the file at every start. Remove the file before you start a HAProxy that
	// was stopped for long, so that it does not restore an old state.
	StateFile string
	// Timeout bounds a reload from the command to its confirmation; 0 means one minute. HAProxy
	// reads its whole configuration in this time.
	Timeout time.Duration
}

const defaultReloadTimeout = time.Minute

// ReloadError reports that HAProxy refused a reload. The configuration before it stays in force.
type ReloadError struct {
	// Log is what HAProxy printed. It is empty before HAProxy 2.7, which prints only to its
	// standard error.
	Log string
}

// Error returns the alerts of the log, or the whole log if it has no alert.
func (e *ReloadError) Error() string {
	const prefix = "deploy: haproxy refuses the reload"
	if e.Log == "" {
		return prefix + "; the reason is in its log"
	}
	alerts := withSeverity(parseDiagnostics(e.Log), "ALERT")
	if len(alerts) == 0 {
		return prefix + ": " + e.Log
	}
	return prefix + ":" + joinDiagnostics(alerts)
}

// Reload saves the state of the servers, sends the command and waits for the outcome. It returns
// nil if the new configuration is in force, and a [*ReloadError] if HAProxy refused it. Any other
// error means that the outcome is unknown, because the master did not answer in time.
//
// HAProxy 2.7 and later answer with the outcome. Before 2.7, Reload compares the master's process
// list: its count of reloads rises, and there is a new worker or not.
func (r Reloader) Reload(ctx context.Context) error {
	timeout := cmp.Or(max(r.Timeout, 0), defaultReloadTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	before, err := r.processes(ctx)
	if err != nil {
		return fmt.Errorf("deploy: reload: %w", err)
	}
	if r.StateFile != "" {
		worker := r.Master
		if worker.Worker = currentWorker(before); worker.Worker == "" {
			return errors.New("deploy: reload: the master has no worker whose state could be saved")
		}
		if err := worker.SaveServersState(ctx, r.StateFile); err != nil {
			return fmt.Errorf("deploy: reload: %w", err)
		}
	}
	master := r.Master
	master.Timeout = timeout // HAProxy 2.7 and later answer when the new worker is ready
	answer, err := master.Do(ctx, "reload")
	switch outcome, log := parseReloadAnswer(answer); outcome {
	case reloadDone:
		return nil
	case reloadRefused:
		return &ReloadError{Log: log}
	}
	var dial *net.OpError
	if ctx.Err() != nil || errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("deploy: reload: %w", err)
	}
	if text := strings.TrimSpace(answer); text != "" {
		return fmt.Errorf("deploy: reload: the master says %.200q", text)
	}
	// Before 2.7 the master replaces its own program at once. That closes the connection, with
	// or without an error.
	return r.confirm(ctx, before)
}

// confirm polls the process list of a master before 2.7 until it shows the outcome of a reload.
func (r Reloader) confirm(ctx context.Context, before []process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := r.processes(ctx)
		if err == nil {
			switch compareProcesses(before, now) {
			case reloadDone:
				return nil
			case reloadRefused:
				return &ReloadError{}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("deploy: reload is not confirmed: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func (r Reloader) processes(ctx context.Context) ([]process, error) {
	answer, err := r.Master.Do(ctx, "show proc")
	if err != nil {
		return nil, err
	}
	return parseProcesses(answer)
}

var reloadVerdict = regexp.MustCompile(`(?m)^Success=([01])\s*$`)

// parseReloadAnswer parses the answer of HAProxy 2.7 and later to "reload": a line "Success=1" or
// "Success=0", a line "--", then the log. For any other text it returns reloadPending.
func parseReloadAnswer(answer string) (outcome reloadState, log string) {
	m := reloadVerdict.FindStringSubmatchIndex(answer)
	if m == nil {
		return reloadPending, ""
	}
	log = strings.TrimSpace(answer[m[1]:])
	log = strings.TrimSpace(strings.TrimPrefix(log, "--"))
	if answer[m[2]:m[3]] == "1" {
		return reloadDone, log
	}
	return reloadRefused, log
}

// process is a process in the answer of a master to "show proc".
type process struct {
	pid     int
	kind    string // "master", "worker", or the name of a program
	reloads int    // the number of reloads since it started
	old     bool   // listed as a worker from before a reload
}

// parseProcesses parses the answer to "show proc" (management guide, section 9.4):
//
//	#<PID>          <type>          <reloads>       <uptime>        <version>
//	11519           master          2 [failed: 0]   0d00h00m34s     2.6.12
//	# workers
//	12233           worker          0               0d00h00m00s     2.6.12
//	# old workers
//	11523           worker          1               0d00h00m33s     2.6.12
//	# programs
//
// HAProxy 2.4 has a column <relative PID> before <reloads>, with "[was: 1]" for an old worker. So
// parseProcesses finds columns by the header, and text in brackets is one word.
func parseProcesses(answer string) ([]process, error) {
	reloads := -1
	old := false
	var all []process
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "#<"):
			reloads = headerColumn(line, "reloads")
		case strings.HasPrefix(line, "#"):
			old = strings.Contains(line, "old ")
		case reloads < 2:
			return nil, fmt.Errorf("deploy: not a process list of a master: %.200q", answer)
		default:
			p, err := parseProcess(line, reloads)
			if err != nil {
				return nil, err
			}
			p.old = old
			all = append(all, p)
		}
	}
	if len(all) == 0 || all[0].kind != "master" {
		return nil, fmt.Errorf("deploy: not a process list of a master: %.200q", answer)
	}
	return all, nil
}

// headerColumn returns the index of the column <name>, or -1.
func headerColumn(header, name string) int {
	for i, part := range strings.Split(header, "<")[1:] {
		if column, _, _ := strings.Cut(part, ">"); column == name {
			return i
		}
	}
	return -1
}

var bracketed = regexp.MustCompile(`\[[^\]]*\]`)

func parseProcess(line string, reloads int) (process, error) {
	words := strings.Fields(bracketed.ReplaceAllString(line, "[]"))
	if len(words) <= reloads {
		return process{}, fmt.Errorf("deploy: process list: %.200q", line)
	}
	pid, err1 := strconv.Atoi(words[0])
	n, err2 := strconv.Atoi(words[reloads])
	if err := errors.Join(err1, err2); err != nil || pid <= 0 || n < 0 {
		return process{}, fmt.Errorf("deploy: process list: %.200q", line)
	}
	return process{pid: pid, kind: words[1], reloads: n}, nil
}

// currentWorker returns the address of the worker that serves new connections, for
// [runtimeapi.Socket]. It is the worker with the fewest reloads. After a refused reload a master
// may list that worker as old. Empty means that there is no worker.
func currentWorker(all []process) string {
	var best *process
	for i, p := range all {
		if p.kind == "worker" && (best == nil || p.reloads < best.reloads) {
			best = &all[i]
		}
	}
	if best == nil {
		return ""
	}
	return fmt.Sprintf("@!%d", best.pid)
}

type reloadState int

const (
	reloadPending reloadState = iota // the outcome is not known yet
	reloadDone
	reloadRefused
)

// compareProcesses returns the state of a reload by the process lists before and after it. The
// master starts over at a reload: its count rises, and it answers again after it has started a
// worker or failed to start one.
func compareProcesses(before, now []process) reloadState {
	known := make(map[int]bool, len(before))
	for _, p := range before {
		known[p.pid] = true
	}
	if now[0].pid != before[0].pid {
		// Another master has started, with the configuration on disk.
		known = nil
	} else if now[0].reloads == before[0].reloads {
		return reloadPending
	}
	for _, p := range now {
		if p.kind == "worker" && !p.old && !known[p.pid] {
			return reloadDone
		}
	}
	return reloadRefused
}
