package runtimeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Result is what [Socket.Apply] has done.
type Result struct {
	// Done is the number of commands that HAProxy has carried out.
	Done int
	// Busy are unwanted servers, as "backend/server", that still had connections when the wait ended.
	// They stay in maintenance, so they get no new requests. The next plan deletes them.
	Busy []string
}

// BusyError means that a server with changed words could not be replaced, because it still had
// connections when the wait ended. The server is in service again, with its old words.
type BusyError struct{ Backend, Server string }

// Error names the server.
func (e *BusyError) Error() string {
	return fmt.Sprintf("runtimeapi: server %s/%s still has connections, so its words cannot change", e.Backend, e.Server)
}

// maxRemovals is the number of servers for whose connections Apply waits at the same time. Each
// wait needs a connection to HAProxy, and HAProxy's socket allows 10 at a time by default ("stats
// maxconn"). Other connections wait in the kernel's queue.
const maxRemovals = 4

// maxErrors is the number of errors that Apply joins into one.
const maxErrors = 10

// WithWait returns a plan that waits at most for the given time until the connections of all its
// unwanted servers have ended. It waits for the same time again for each server that it replaces.
// The time is rounded to whole milliseconds, at least 1. The wait in the plans of [Actual.Plan] is
// 10 seconds.
func (p Plan) WithWait(wait time.Duration) Plan {
	commands := make([]Command, len(p.Commands))
	for i, c := range p.Commands {
		if c.Kind == WaitServer {
			c = c.withWait(wait)
		}
		commands[i] = c
	}
	p.Commands = commands
	return p
}

// withWait returns a WaitServer with another time, which is at least 1 ms.
func (c Command) withWait(wait time.Duration) Command {
	c.wait = max(wait.Truncate(time.Millisecond), time.Millisecond)
	c.Text = fmt.Sprintf("wait %dms srv-removable %s/%s", c.wait.Milliseconds(), c.Backend, c.Server)
	return c
}

// Apply sends the commands of a plan to HAProxy. It first sends all commands that HAProxy carries
// out immediately, in their order. Then it waits for the connections of unwanted servers, of
// several servers at the same time, and deletes each server whose connections have ended. After the
// time of these waits, it still deletes the remaining servers that have no connections. At last it
// replaces servers whose words have changed, one after the other. Another process must not change
// servers meanwhile.
//
// If HAProxy refuses a command, Apply sends no further command about this server, but continues with
// the others. The error then contains an [*AnswerError] for each such command, at most 10. If HAProxy
// cannot be reached, or ctx ends, Apply stops. After an error, HAProxy has a part of the changes. A
// new plan, with a new [Socket.Actual] and the same argument before, contains the rest.
func (s Socket) Apply(ctx context.Context, p Plan) (Result, error) {
	a := applier{socket: s, failed: map[string]bool{}}
	var removals, replacements [][]Command
	for _, group := range groups(p.Commands) {
		waits, adds := false, false
		for _, c := range group {
			waits = waits || c.Kind == WaitServer
			adds = adds || c.Kind == AddServer
		}
		switch {
		case waits && adds:
			replacements = append(replacements, group)
		case waits:
			removals = append(removals, group)
		default:
			a.run(ctx, group)
		}
	}
	began := time.Now()
	work := make(chan []Command)
	var wg sync.WaitGroup
	for range min(maxRemovals, len(removals)) {
		wg.Go(func() {
			for group := range work {
				a.run(ctx, sinceBegan(group, time.Since(began)))
			}
		})
	}
	for _, group := range removals {
		work <- group
	}
	close(work)
	wg.Wait()
	for _, group := range replacements {
		a.run(ctx, group)
	}
	return a.result, a.err()
}

// sinceBegan returns the commands with shorter waits, because the waits of the unwanted servers
// have begun before. Otherwise servers with long requests would delay the next change by the sum of
// their waits.
func sinceBegan(group []Command, d time.Duration) []Command {
	shorter := slices.Clone(group)
	for i, c := range shorter {
		if c.Kind == WaitServer {
			shorter[i] = c.withWait(cmp.Or(c.wait, defaultRemovalWait) - d)
		}
	}
	return shorter
}

// groups cuts a list of commands into runs of commands about the same server.
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

// applier sends commands. Several goroutines may call run at the same time.
type applier struct {
	socket Socket

	mu     sync.Mutex
	result Result
	failed map[string]bool // servers about which a command has failed, as "backend/server"
	errs   []error         // at most maxErrors
	more   int             // further errors
	broken bool            // HAProxy cannot be reached, or the context has ended
}

// run sends commands about one server, until one fails.
func (a *applier) run(ctx context.Context, group []Command) {
	for i, c := range group {
		target := c.Backend + "/" + c.Server
		if a.skips(target) {
			return
		}
		socket := a.socket
		if c.Kind == WaitServer {
			timeout := socket.Timeout
			if timeout <= 0 {
				timeout = defaultSocketTimeout
			}
			socket.Timeout = timeout + cmp.Or(c.wait, defaultRemovalWait)
		}
		answer, err := socket.Do(ctx, c.Text)
		switch {
		case err != nil:
			a.fail(target, err, true)
			return
		case c.Kind == WaitServer && isBusy(answer):
			a.busy(ctx, c, group[i:], group[0].Kind == SetMaint)
			return
		}
		if err := judge(c.Text, target, answer, silent(c.Kind), successTexts[c.Kind]); err != nil {
			a.fail(target, err, false)
			return
		}
		a.mu.Lock()
		a.result.Done++
		a.mu.Unlock()
	}
}

// isBusy reports whether the answer to a wait means that the server still has connections. HAProxy answers
// "Interrupted", before the time is over, if it notices that this side sends nothing more, which Socket
// always tells it.
func isBusy(answer string) bool {
	answer = strings.TrimSpace(answer)
	return strings.HasPrefix(answer, "Interrupted") || strings.HasPrefix(answer, "Wait delay expired")
}

// successTexts are the texts by which HAProxy reports that it has carried out a command. Other kinds
// of commands have an empty answer.
var successTexts = map[Kind][]string{
	AddServer:    {"New server registered."},
	DeleteServer: {"Server deleted."},
	WaitServer:   {"Done."},
	SetAddress:   {"changed from", "no need to change", "nothing changed"},
}

func silent(k Kind) bool { return successTexts[k] == nil }

// busy records that the server of the command c still has connections. rest are the commands about
// the server from c on. If they would replace the server, and inService is true, busy puts the server
// into service again.
func (a *applier) busy(ctx context.Context, c Command, rest []Command, inService bool) {
	target := c.Backend + "/" + c.Server
	if len(rest) <= 2 { // wait and delete
		a.mu.Lock()
		defer a.mu.Unlock()
		a.result.Busy = append(a.result.Busy, target)
		return
	}
	err := error(&BusyError{Backend: c.Backend, Server: c.Server})
	if !inService {
		a.fail(target, err, false)
		return
	}
	if ready := a.socket.change(ctx, "set server "+target+" state ready", target, true); ready != nil {
		err = errors.Join(err, ready)
	}
	a.fail(target, err, false)
}

func (a *applier) skips(target string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken || a.failed[target]
}

func (a *applier) fail(target string, err error, broken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed[target] = true
	a.broken = a.broken || broken
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
