package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/inputfile"
)

// Reloader makes an HAProxy in master-worker mode load its configuration again, and reports whether
// HAProxy accepted it. You can set [Dir.Reload] to its method Reload. A Reloader is a plain value.
//
// Only one reload of an HAProxy may run at a time, because a Reloader could mistake the outcome of
// another reload for its own. [Dir] ensures this.
type Reloader struct {
	// Master is the socket of the master process (option -S of haproxy).
	Master runtimeapi.Socket
	// StateFile is the file to which Reload saves the state of the servers before each reload;
	// empty means none. The configuration must name it as its server-state-file. Without it,
	// drained servers receive traffic after a reload until their agents answer again.
	//
	// HAProxy reads the file at every start. If HAProxy has not run for a long time, remove the
	// file before you start HAProxy, because its state is old.
	StateFile string
	// Config is the path of haproxy.cfg; it may be empty. With Config, Reload makes the old worker
	// send no more requests to servers that the file no longer contains; see [Reloader.Redirect]. A
	// new server on the same node receives the saved weight, drain and maintenance of the server
	// that it replaces.
	Config string
	// Foreign, if not nil, describes files of somebody else that HAProxy loads before the fragment
	// (Foreign.Fragment, the same file as Config). Before a reload, Reload asks the running HAProxy
	// which files it has loaded. If the fragment is not the last one after these files, Reload
	// reloads nothing and returns an error with [ErrNotLoaded].
	Foreign *Foreign
	// Warned, if not nil, is called with an error if the old worker may still send requests to a
	// server that Config does not contain. Reload still reloads HAProxy.
	Warned func(error)
	// Timeout is the longest time from the reload command to its confirmation; 0 means one minute.
	// In this time HAProxy reads its whole configuration.
	Timeout time.Duration
}

const defaultReloadTimeout = time.Minute

// ErrNoMaster is in the error of [Reloader.Reload] if no HAProxy listens at the master socket.
var ErrNoMaster = errors.New("no HAProxy listens at the master socket")

// ReloadError means that HAProxy refused a reload. HAProxy still runs the configuration that it ran
// before the reload.
type ReloadError struct {
	// Log is the text that HAProxy printed during the reload. With HAProxy before 2.7, Log is
	// empty, because these versions print only to their standard error.
	Log string
}

// Error returns the alerts in Log. If Log has no alert, Error returns all of Log.
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

// Reload saves the state of the servers, sends the reload command and waits for the outcome. It
// returns nil if the new configuration is in force, and a [*ReloadError] if HAProxy refused it.
// With any other error, the outcome is unknown, because the master did not answer in time.
//
// HAProxy 2.7 and later answer the command with the outcome. For earlier versions, Reload compares
// the master's process list: a reload is over when the master's number of reloads has risen, and
// has succeeded if the list then contains a new worker.
func (r Reloader) Reload(ctx context.Context) error {
	timeout := cmp.Or(max(r.Timeout, 0), defaultReloadTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	before, err := r.processes(ctx)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("deploy: reload: %w: %w", ErrNoMaster, err)
	}
	if err != nil {
		return fmt.Errorf("deploy: reload: %w", err)
	}
	if r.StateFile != "" || r.Config != "" || r.Foreign != nil {
		worker := r.Master
		if worker.Worker = currentWorker(before); worker.Worker == "" {
			return errors.New("deploy: reload: the master has no worker whose state could be saved")
		}
		if r.Foreign != nil {
			if err := r.Foreign.verify(ctx, worker); err != nil {
				return fmt.Errorf("deploy: reload: %w", err)
			}
		}
		if err := r.prepare(ctx, worker); err != nil {
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
	// Before HAProxy 2.7, the master replaces its own program when it gets the command. The
	// replacement closes the connection, with or without an error. So only the list of processes
	// shows the outcome.
	return r.confirm(ctx, before)
}

// prepare saves the state of the servers in StateFile, for the worker that the reload starts. It
// also changes the addresses of servers in the present worker, so that this worker sends no more
// requests to servers that Config does not contain.
//
// After the reload, the present worker still receives the next request on each idle connection. But
// HAProxy then refuses commands that change addresses in this worker, so prepare sends these
// commands before the reload.
func (r Reloader) prepare(ctx context.Context, worker runtimeapi.Socket) error {
	text, err := worker.ServersState(ctx)
	if err != nil {
		return err
	}
	var moves []move
	if r.Config != "" {
		config, err := inputfile.Read(r.Config, maxFile)
		if err != nil {
			return err
		}
		servers, err := parseState(text)
		if err != nil {
			return err
		}
		good, err := inputfile.ReadOptional(r.Config+lastGoodSuffix, maxFile)
		if err != nil {
			return err
		}
		to := readMembers(config)
		if good != nil {
			before := readMembers(good)
			servers.dropLeftovers(before)
			servers.reweigh(before, to)
		}
		moves = servers.moves(to)
		servers.carry(to)
		text = servers.String()
	}
	if r.StateFile != "" {
		if err := atomicfile.Write(r.StateFile, []byte(text), 0o644, nil); err != nil {
			return fmt.Errorf("save the state of the servers: %w", err)
		}
	}
	if err := makeMoves(ctx, worker, moves); err != nil && r.Warned != nil {
		r.Warned(err)
	}
	return nil
}

// confirm waits for the outcome of a reload of HAProxy before 2.7. It reads the master's list of
// processes again and again until the list shows the outcome. The argument "before" is the list
// from the time before the reload.
func (r Reloader) confirm(ctx context.Context, before []process) error {
	tick := time.Tick(10 * time.Millisecond)
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
		case <-tick:
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

// worker returns the Socket of the worker that serves new connections. Commands to this Socket go
// through the socket of the master.
func (r Reloader) worker(ctx context.Context) (runtimeapi.Socket, error) {
	all, err := r.processes(ctx)
	if err != nil {
		return runtimeapi.Socket{}, err
	}
	worker := r.Master
	if worker.Worker = currentWorker(all); worker.Worker == "" {
		return runtimeapi.Socket{}, errors.New("the master has no worker")
	}
	return worker, nil
}

var reloadVerdict = regexp.MustCompile(`(?m)^Success=([01])\s*$`)

// parseReloadAnswer parses the answer of HAProxy 2.7 and later to "reload". The answer is a line
// "Success=1" or "Success=0", a line "--", and the log. If the text has another form, outcome is
// reloadPending.
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

// process is one line of a master's answer to "show proc".
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
// HAProxy 2.4 has a further column <relative PID>, so parseProcesses finds each column by its name.
// An old worker has "[was: 1]" in this column, so text in brackets is one word.
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

// headerColumn returns the index, from 0, of the column <name>, or -1 if there is none.
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

// currentWorker returns the worker that serves new connections, as a value of
// [runtimeapi.Socket.Worker] such as "@!1234", or "". It is the worker with the fewest reloads.
// After a refused reload, the master may list it as an old worker.
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
	return best.address()
}

// address returns the process as a value of [runtimeapi.Socket.Worker], such as "@!1234".
func (p process) address() string { return workerAddress(p.pid) }

func workerAddress(pid int) string { return fmt.Sprintf("@!%d", pid) }

type reloadState int

const (
	reloadPending reloadState = iota // the outcome is not known yet
	reloadDone
	reloadRefused
)

// compareProcesses says whether a reload has succeeded, has failed or is still in progress. It
// compares the master's lists of processes before the reload and now. In a reload the master
// restarts itself, and its count of reloads rises by one. The master answers again only when it has
// started a worker, or has failed to start one.
func compareProcesses(before, now []process) reloadState {
	known := make(map[int]bool, len(before))
	for _, p := range before {
		known[p.pid] = true
	}
	if now[0].pid != before[0].pid {
		// The master now has another process ID than before the reload command. So a new master has
		// started since then, and it has read the configuration on disk. So all workers of this
		// master are new.
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
