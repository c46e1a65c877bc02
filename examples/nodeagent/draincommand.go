package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
)

const drainProgram = program + " drain"

// runDrain is the subcommand: what is called where there is no shell.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram, "nodeagent drain -admin 127.0.0.1:9708 -wait 10s")
	admin := fs.String("admin", "", "`address` of the agent's admin listener, as the agent has it")
	wait := fs.Duration("wait", 10*time.Second, "for how long to wait at most until every balancer that has asked lately is told")
	off := fs.Bool("off", false, "take the drain back instead")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if *admin == "" {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin is needed (-h shows the flags)")
	}
	if *wait < 0 || *wait > longestWait {
		return inv.Fail(cli.ExitUsage, drainProgram, "-wait: want at most %s", longestWait)
	}
	if _, _, err := net.SplitHostPort(*admin); err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin: %v", err)
	}
	method, query := http.MethodPost, url.Values{"wait": {wait.String()}}
	if *off {
		method, query = http.MethodDelete, nil
	}
	ctx, cancel := context.WithTimeout(ctx, *wait+5*time.Second)
	defer cancel()
	if err := cli.AskAdmin(ctx, method, *admin, "/drain", query, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	return cli.ExitOK
}
