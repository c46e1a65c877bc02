package runtimeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Result describes what [Socket.Apply] has done.
type Result struct {
	// Done is the number of commands that HAProxy has carried out.
	Done int
	// Busy contains the unwanted servers, as "backend/server", that still had connections at the
	// end of Plan.Wait. They stay in maintenance, so they get no new requests. The next plan
	// deletes them.
	Busy []string
	// Backends contains the unwanted backends that HAProxy could not delete, because they still have
	// a server or a request. The next plan deletes them. Until then, HAProxy still sends requests to
	// them if a map leads to them.
	Backends []string
}

// BusyError means that Apply could not replace a server whose options have changed: the server
// still had connections at the end of Plan.Wait. The server is in service again, with its old
// options.
type BusyError struct{ Backend, Server string }

// Error names the server.
func (e *BusyError) Error() string {
	return fmt.Sprintf("runtimeapi: server %s/%s still has connections, so its words cannot change", e.Backend, e.Server)
}

// If HAProxy refuses to delete a server because of its connections, Apply repeats the command after
// firstPause. Each further pause lasts twice as long, up to maxPause. The pauses limit how often
// Apply deletes, because a deletion stops all threads of HAProxy for a moment.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// maxErrors is the number of errors that Apply joins into one.
const maxErrors = 10

// Apply sends the commands of a plan to HAProxy: first the commands that HAProxy carries out
// immediately, then deletions of servers, then deletions of backends, and last the replacements of
// servers. HAProxy refuses to delete a server that has connections, so Apply repeats the deletions
// for at most Plan.Wait. No other process may change servers during Apply.
//
// If HAProxy refuses a command for a server, Apply sends no further command for this server. If
// HAProxy refuses a command for a backend, Apply sends none for this backend and its servers. It
// continues with all other servers and backends. The error contains an [*AnswerError] for each of the
// first 10 refused commands. Apply stops if it cannot reach HAProxy, or if ctx ends.
//
// After an error, call [Socket.Actual] again, and then [Actual.Plan] with the result of [Unsettled]
// as its first argument. If the plan adds or deletes backends, reload HAProxy instead.
func (s Socket) Apply(ctx context.Context, p Plan) (Result, error) {
	a := applier{socket: s, failed: map[string]bool{}}
	wait := cmp.Or(p.Wait, defaultWait)
	var removals, backends, replacements [][]Command
	for _, group := range groups(p.Commands) {
		deletes, adds, backend := false, false, false
		for _, c := range group {
			deletes = deletes || c.Kind == DeleteServer
			adds = adds || c.Kind == AddServer
			backend = backend || c.Kind == DeleteBackend
		}
		switch {
		case backend:
			backends = append(backends, group)
		case deletes && adds:
			replacements = append(replacements, group)
		case deletes:
			removals = append(removals, group)
		default:
			a.run(ctx, group)
		}
	}
	end := time.Now().Add(wait)
	for _, rest := range a.runUntil(ctx, removals, end) {
		a.result.Busy = append(a.result.Busy, rest[0].target())
	}
	a.deleteBackends(ctx, backends, end)
	for _, group := range replacements {
		for _, rest := range a.runUntil(ctx, [][]Command{group}, time.Now().Add(wait)) {
			a.notReplaced(ctx, rest[0], group)
		}
	}
	return a.result, a.err()
}

// groups cuts a list of commands into groups of consecutive commands about the same server.
func groups(commands []Command) [][]Command {
	var all [][]Command
	from := 0
	for i := 1; i <= len(commands); i++ {
		if i < len(commands) && commands[i].Backend == commands[from].Backend && commands[i].Server == commands[from].Server {
			continue
		}
		all = append(all, commands[from:i])
		from = i
	}
	return all
}

// applier sends commands.
type applier struct {
	socket Socket
	result Result
	failed map[string]bool // true for "backend/server" or a backend if a command about it has failed
	errs   []error         // at most maxErrors
	more   int             // the number of errors that are not in errs
	broken bool            // HAProxy cannot be reached, or the context has ended
}

// deleteBackends sends the groups of commands that delete backends. It leaves out the backends that
// still have a server. If HAProxy does not delete a backend, deleteBackends publishes it again, so
// that a map can lead to the backend again.
func (a *applier) deleteBackends(ctx context.Context, groups [][]Command, end time.Time) {
	left := map[string]bool{} // backends that still have a server
	for _, name := range a.result.Busy {
		backend, _, _ := strings.Cut(name, "/")
		left[backend] = true
	}
	for name := range a.failed {
		backend, _, _ := strings.Cut(name, "/")
		left[backend] = true
	}
	groups = slices.DeleteFunc(groups, func(group []Command) bool {
		backend := group[0].Backend
		if left[backend] {
			a.result.Backends = append(a.result.Backends, backend)
		}
		return left[backend]
	})
	inUse := map[string]bool{}
	for _, rest := range a.runUntil(ctx, slices.Clone(groups), end) {
		inUse[rest[0].Backend] = true
	}
	for _, group := range groups {
		backend := group[0].Backend
		if inUse[backend] {
			a.result.Backends = append(a.result.Backends, backend)
		}
		if !inUse[backend] && !a.failed[backend] || a.broken {
			continue
		}
		publish := Command{PublishBackend, backend, "", "publish backend " + backend}
		if err := a.socket.change(ctx, publish.Text, backend, false, successTexts[PublishBackend]...); err != nil {
			a.fail(publish, err)
		}
	}
}

// runUntil sends groups of commands. The commands of a group concern one server or one backend. If
// HAProxy cannot delete a server or backend because it is still in use, runUntil tries again until
// the time "end". The result "busy" contains the commands that remain at this time.
func (a *applier) runUntil(ctx context.Context, groups [][]Command, end time.Time) (busy [][]Command) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		busy = nil
		for _, group := range groups {
			if rest := a.run(ctx, group); len(rest) > 0 {
				busy = append(busy, rest)
			}
		}
		left := time.Until(end)
		if len(busy) == 0 || left <= 0 {
			return busy
		}
		select {
		case <-ctx.Done(): // the next command fails, which ends the loop
		case <-time.After(min(pause, left)):
		}
		groups = busy
	}
}

// run sends commands about one server or one backend to HAProxy, one after the other, and stops if
// one fails. If HAProxy refuses to delete the server or backend because it is still in use, run
// returns this command and the commands after it, so that the caller can send them later.
func (a *applier) run(ctx context.Context, group []Command) (rest []Command) {
	for i, c := range group {
		if a.broken || a.failed[c.target()] || a.failed[c.Backend] {
			return nil
		}
		answer, err := a.socket.Do(ctx, c.Text)
		if err != nil {
			a.fail(c, err)
			a.broken = true
			return nil
		}
		if c.Kind == DeleteServer && strings.Contains(answer, notInMaintenance) {
			// The server is no longer in maintenance: an agent check began before the maintenance,
			// and its answer ended the maintenance. So begin the maintenance again.
			if err := a.socket.change(ctx, "set server "+c.target()+" state maint", c.target(), true); err != nil {
				a.fail(c, err)
				return nil
			}
			return group[i:]
		}
		if c.Kind == DeleteServer && strings.Contains(answer, stillConnected) {
			return group[i:]
		}
		if c.Server == "" {
			// Before its answer, HAProxy 3.4.7 prints messages about earlier commands, such as
			// "Server b/s is going DOWN for maintenance" and "Server deleted.".
			answer = lastLine(answer)
		}
		if c.Kind == DeleteBackend && strings.Contains(answer, stillStreams) {
			return group[i:]
		}
		if err := judge(c.Text, c.target(), answer, silent(c.Kind), successTexts[c.Kind]); err != nil {
			a.fail(c, err)
			return nil
		}
		a.result.Done++
	}
	return nil
}

// stillConnected is HAProxy's answer to the deletion of a server that has connections or requests.
const stillConnected = "Server still has connections attached to it"

// stillStreams is HAProxy's answer to the deletion of a backend that a request still uses.
const stillStreams = "Backend still has attached streams on it"

// lastLine returns the last non-empty line of an answer, with its line end.
func lastLine(answer string) string {
	text := strings.TrimRight(answer, "\n")
	return answer[strings.LastIndexByte(text, '\n')+1:]
}

// notInMaintenance is HAProxy's answer to the deletion of a server that is not in maintenance.
const notInMaintenance = "Only servers in maintenance mode can be deleted"

// successTexts contains the texts with which HAProxy reports that a command has succeeded, by the
// kind of the command. For kinds that are not in the map, an empty line reports success.
var successTexts = map[Kind][]string{
	AddServer:        {"New server registered."},
	DeleteServer:     {"Server deleted."},
	SetAddress:       {"changed from", "no need to change", "nothing changed"},
	AddBackend:       {"New backend registered."},
	PublishBackend:   {"Backend published."},
	UnpublishBackend: {"Backend unpublished."},
	DeleteBackend:    {"Backend deleted."},
}

func silent(k Kind) bool { return successTexts[k] == nil }

// notReplaced records that Apply could not replace the server of the command c, because the server
// still has connections. The argument "group" contains the commands that replace the server. If
// they have begun a maintenance, or ended the agent checks, notReplaced undoes this.
func (a *applier) notReplaced(ctx context.Context, c Command, group []Command) {
	err := error(&BusyError{Backend: c.Backend, Server: c.Server})
	for _, done := range group {
		switch done.Kind {
		case DisableAgent:
			err = errors.Join(err, a.socket.change(ctx, "enable agent "+c.target(), c.target(), true))
		case SetMaint:
			err = errors.Join(err, a.socket.change(ctx, "set server "+c.target()+" state ready", c.target(), true))
		}
	}
	a.fail(c, err)
}

func (a *applier) fail(c Command, err error) {
	a.failed[c.target()] = true
	if len(a.errs) < maxErrors {
		a.errs = append(a.errs, err)
	} else {
		a.more++
	}
}

func (a *applier) err() error {
	if a.more > 0 {
		a.errs = append(a.errs, fmt.Errorf("runtimeapi: %d further commands failed", a.more))
	}
	return errors.Join(a.errs...)
}
