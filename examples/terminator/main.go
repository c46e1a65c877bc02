// Terminator makes the configuration of an HAProxy that stands in front of
// Kubernetes clusters: from declarations of host and path, and from the clusters'
// own nodes and services.
//
//	terminator -once -routes routes.yaml -cluster eu-1=dir:manifests/eu-1 -out /etc/haproxy/headgate -http :80 -haproxy haproxy
//
// It writes to the directory -out:
//
//	haproxy.cfg, maps/*.map   the configuration, and in haproxy.cfg.last-good the one before
//	report.json               every problem, every node that is not used and why, every subset
//	dns.zone                  address records of the declared hosts (with -dns-origin)
//	cdn.json                  a distribution for each declared host (with -cdn-origin)
//
// What cannot be served is reported, on standard error too, and left out; the rest
// is served. Nothing is written where nothing changes. Nothing is written either,
// and the exit status is 1, when a file of declarations or a directory of manifests
// cannot be read at all, when more servers than -max-change would go or change, and
// when HAProxy rejects the configuration. Bad usage is exit status 2.
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
