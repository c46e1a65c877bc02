// Terminator makes the configuration of an HAProxy that stands in front of
// Kubernetes clusters: from declarations of host and path, and from the clusters'
// own nodes and services.
//
//	terminator -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig -out /var/lib/headgate -http :80 -haproxy haproxy -reload master.sock
//
// It follows all of them and applies what changes, at most once each -min-interval,
// until it is told to stop. With -once it makes the configuration once and ends, with
// -diff it shows what would change. It writes to the directory -out:
//
//	haproxy.cfg, maps/*.map   the configuration, and in haproxy.cfg.last-good the one before
//	report.json               every problem, every node that is not used and why, every subset,
//	                          what changed last and why, and what is refused
//	dns.zone                  address records of the declared hosts (with -dns-origin)
//	cdn.json                  a distribution for each declared host (with -cdn-origin)
//
// What cannot be served is reported, in the log too, and left out; the rest is served.
// Nothing is written where nothing changes. Nor is anything, and what was in force
// stays, when a file of declarations or a directory of manifests cannot be read at all,
// when more servers than -max-change would go or change, and when HAProxy rejects the
// configuration. With -once the exit status is 1 then; bad usage is exit status 2.
//
// # Following
//
// A cluster that does not answer, at the start or later, keeps the servers that it was
// last known to have: report.json remembers them over a restart. Nor is one believed that
// has no nodes or no services at the start, though it served some. One that was never
// seen is a problem, and the others go on without it after -start-timeout. A file of
// declarations that turns bad as a whole keeps what it declared.
//
// A change that is larger than -max-change is refused: in the log, in report.json and in
// the metric headgate_terminator_refused. What comes later is judged together with it.
// POST /force on -admin, from this machine, lets it pass, and so does a start with -force
// or "terminator -once -force" beside the running one. What HAProxy does not take is tried
// again, with growing pauses, and within 5 s after a change.
//
// Where several write to one directory, -lease makes one of them do so; the others follow
// and take over.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
)

const program = "terminator"

func main() { cli.Main(run) }

func run(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	if !s.once && !s.diff {
		if err := s.watch(ctx, inv); err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		return cli.ExitOK
	}
	changed, err := s.runOnce(ctx, time.Now(), inv)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	if s.diff {
		return cli.ExitOK
	}
	outcome := unchanged
	if changed {
		outcome = written
	}
	fmt.Fprintf(inv.Stdout, "%s: %s\n", s.out, outcome)
	return cli.ExitOK
}
