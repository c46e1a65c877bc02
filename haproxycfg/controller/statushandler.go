package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/statuspage"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/webpage"
)

// statusChanges is the largest number of changes in the journal that the status page shows.
const statusChanges = 20

// StatusHandler returns a handler of GET /, the status page; see package statuspage. The argument
// "title" is the name of the terminator on the page; "" means "terminator" and the name of the
// machine. The argument "worker" has the same meaning as in Explain. The function "command" returns
// a shell command that sends a request to the Controller's handlers, or "" if the page must show no
// command. Both "worker" and "command" may be nil.
func (c *Controller) StatusHandler(title string, worker func(context.Context) (runtimeapi.Socket, error), command func(method, path string) string) http.Handler {
	if title == "" {
		name, _ := os.Hostname() // an error leaves the name empty
		title = strings.TrimSpace("terminator " + name)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", &statuspage.Handler{
		Title: title,
		View:  func(context.Context) statuspage.View { return c.view(time.Now()) },
		Explain: func(ctx context.Context, target explain.Target) (explain.Explanation, error) {
			return c.Explain(ctx, target, worker)
		},
		Command: command,
	})
	return mux
}

// view returns the state of the Controller for the status page. It shares its lists with the
// Controller, so nobody may change them.
func (c *Controller) view(now time.Time) statuspage.View {
	status := c.Status()
	v := statuspage.View{
		Now: now, Servers: status.Servers, Refused: status.Refused, MayForce: status.MayForce,
		HasJournal: c.Journal != nil,
	}
	// Show the error here only if the last attempt to apply a configuration failed. If it was
	// refused, or if its reload waits, another part of the page says so.
	if status.Err != nil && status.Outcome == Failed {
		v.Faults = append(v.Faults, "The last attempt to apply the latest routes and clusters has failed: "+status.Err.Error())
	}
	if names := status.Unread; len(names) > 0 {
		v.Faults = append(v.Faults, fmt.Sprintf("The routes of %d files have not been read since the start: %s", len(names), strings.Join(names[:min(len(names), 10)], ", ")))
	}
	if err := status.Ready(); err != nil && status.Err == nil {
		v.Faults = append(v.Faults, "Not ready: "+err.Error())
	}
	if f := status.Fleet; f != nil && f.Err != nil {
		v.Faults = append(v.Faults, f.String())
	}
	if !status.Leading {
		v.Notes = append(v.Notes, strings.TrimSuffix("Another process leads: "+status.Leader, ": "))
	}
	if w := status.Waiting; w != nil {
		v.Refused = nil // somebody has allowed this change, or it has disappeared
		v.Notes = append(v.Notes, fmt.Sprintf("A change is not in force yet, since %s: %v.", toSeconds(w.Since).Format(time.RFC3339), w))
	}
	if n := status.JournalErrors; n > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("After %d attempts, the journal could not be written.", n))
	}
	for _, k := range status.Clusters {
		v.Clusters = append(v.Clusters, statuspage.Cluster{Name: k.Name, Connectivity: k.Connectivity, Nodes: k.Nodes, Services: k.Services})
	}
	if x := c.explained.Load(); x != nil && status.Leading {
		v.Known, v.Routes, v.Report, v.Problems = true, x.table.Routes(), x.report, x.problems
		if x.planned {
			v.Report.Applied = nil
			v.Notes = append(v.Notes, "This process has not applied a configuration yet. The page shows the routes and services that it wants to apply.")
		}
	}
	if r := v.Refused; r != nil && c.ForceHint != nil {
		v.Allow = c.ForceHint(r.ID)
		short := *r
		short.Reason = strings.TrimSuffix(r.Reason, "; "+v.Allow) // the page shows the hint elsewhere
		v.Refused = &short
	}
	if k := status.Canary; k != nil {
		line := fmt.Sprintf("%s (%s ago).", strings.TrimSuffix(k.String(), "."), webpage.Duration(now.Sub(k.Since)))
		if k.Withdrawn() {
			v.Faults = append(v.Faults, line)
		} else {
			v.Notes = append(v.Notes, line)
		}
	}
	if h := status.Hold; h != nil {
		v.Hold, v.Pending = &h.Held, h.Pending
	}
	shifts, err := c.Shifts()
	if err != nil {
		v.Faults = append(v.Faults, "The holds and shifts cannot be read: "+err.Error())
	}
	v.Shifts = shifts.Shifts
	if c.Journal == nil {
		return v
	}
	entries, problems, total, err := c.Journal.Recent(statusChanges)
	if err = errors.Join(append(problems, err)...); err != nil {
		v.Faults = append(v.Faults, "Changes of the journal cannot be read: "+err.Error())
	}
	v.Journal, v.JournalTotal = entries, total
	return v
}
