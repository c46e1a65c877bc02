package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Reloader tells a HAProxy in master-worker mode to load its configuration
// again, and finds out whether it did. Its Reload fits [Dir.Reload].
//
// A Reloader is a plain value. Two reloads of one HAProxy at once would be
// taken for each other; [Dir] does not do that.
type Reloader struct {
	// Master is the master's socket (option -S of haproxy).
	Master runtimeapi.Socket
	// StateFile is where the state of the servers is saved just before each
	// reload: the file that the configuration names as its server-state-file.
	// Without it a reload sends traffic to drained servers until their agents
	// answer again. Empty means none.
	//
	// HAProxy reads the file at every start. Where one that is stopped for
	// long should not come back with the state of then, remove the file
	// before starting it.
	StateFile string
	// Timeout bounds a reload from the command to its confirmation. Zero
	// means one minute. HAProxy reads its whole configuration in this time.
	Timeout time.Duration
}

const defaultReloadTimeout = time.Minute

// ReloadError is a reload that HAProxy refused: the configuration that it had
// before is still in force.
type ReloadError struct {
	// Log is what HAProxy printed, from 2.7 on. Before that it tells its own
	// standard error only, and Log is empty.
	Log string
}

// Error has the log's alerts in it, or all of it if there are none.
func (e *ReloadError) Error() string {
	const prefix = "deploy: haproxy refuses the reload"
	if e.Log == "" {
		return prefix + "; the reason is in its log"
	}
	var b strings.Builder
	for _, a := range only(parseDiagnostics(e.Log), "ALERT") {
		b.WriteString("\n\t")
		b.WriteString(a.String())
	}
	if b.Len() == 0 {
		return prefix + ": " + e.Log
	}
	return prefix + ":" + b.String()
}

// Reload saves the servers' state, then reloads, then waits until it is known
// whether the new configuration is in force. It returns nil if it is and a
// [*ReloadError] if HAProxy refused it. Any other error leaves that open: the
// master did not answer, or not in time.
//
// HAProxy says so itself from 2.7 on. Before that, the master's process list
// tells: its count of reloads goes up, and either there is a new worker or not.
func (r Reloader) Reload(ctx context.Context) error {
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = defaultReloadTimeout
	}
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
	long := r.Master
	long.Timeout = timeout // 2.7 and later answer when the new worker is ready
	answer, err := long.Do(ctx, "reload")
	if verdict, log, ok := parseReloadAnswer(answer); ok {
		if !verdict {
			return &ReloadError{Log: log}
		}
		return nil
	}
	var dial *net.OpError
	if ctx.Err() != nil || errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("deploy: reload: %w", err)
	}
	if text := strings.TrimSpace(answer); text != "" {
		return fmt.Errorf("deploy: reload: the master says %.200q", text)
	}
	// A master before 2.7 replaces its own program at once, which cuts the
	// connection with or without an error.
	return r.confirm(ctx, before)
}

// confirm watches the process list of a master that does not say how the
// reload went.
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

// parseReloadAnswer reads what 2.7 and later say: a line "Success=1" or
// "Success=0", a line "--", then the log. ok is false for everything else.
func parseReloadAnswer(answer string) (success bool, log string, ok bool) {
	m := reloadVerdict.FindStringSubmatchIndex(answer)
	if m == nil {
		return false, "", false
	}
	log = strings.TrimSpace(answer[m[1]:])
	log = strings.TrimSpace(strings.TrimPrefix(log, "--"))
	return answer[m[2]:m[3]] == "1", log, true
}
