package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller"
)

// runRollback is the subcommand "terminator rollback".
func runRollback(ctx context.Context, inv cli.Invocation) int { return runOrder(ctx, inv, "rollback") }

// runRelease is the subcommand "terminator release".
func runRelease(ctx context.Context, inv cli.Invocation) int { return runOrder(ctx, inv, "release") }

func runOrder(ctx context.Context, inv cli.Invocation, command string) int {
	var admin cli.AdminFlags
	var by, reason, id string
	var force bool
	name := program + " " + command
	fs := cli.NewFlagSet(name)
	admin.RegisterClient(fs)
	fs.StringVar(&by, "by", "", "`name` of the person or program that gives the order; if empty, $SUDO_USER or $USER, and the host name")
	if command == "rollback" {
		fs.StringVar(&reason, "reason", "", "`text` that /readyz, the report and the journal show")
		fs.BoolVar(&force, "force", false, cli.Meaning("force", "this holds for the change to the earlier routes"))
		id, inv.Args = cli.CutArgument(fs, inv.Args)
	}
	if code, done := inv.Parse(fs); done {
		return code
	}
	err := admin.Check()
	if !admin.Given() {
		err = errors.New("-admin is needed")
	}
	if err != nil {
		return inv.Fail(cli.ExitUsage, name, "%v (-h shows the flags)", err)
	}
	query := url.Values{"id": {id}, "by": {cmp.Or(by, caller(inv))}, "reason": {reason}, "force": {fmt.Sprint(force)}}
	var out bytes.Buffer
	var answer controller.OrderAnswer
	err = admin.Ask(ctx, http.MethodPost, "/"+command, query, &out)
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &answer)
	}
	if err != nil {
		return inv.Fail(cli.ExitFailed, name, "%v", err)
	}
	fmt.Fprintln(inv.Stdout, answer)
	if answer.Detail != "" {
		return cli.ExitDiffer // the order is written, but the change has to wait or is refused
	}
	return cli.ExitOK
}

// caller returns the user that runs the program and the name of the host, as USER@HOST. It returns
// only the name of the host if the user is not known.
func caller(inv cli.Invocation) string {
	host, _ := os.Hostname()
	for _, variable := range []string{"SUDO_USER", "USER"} {
		if inv.LookupEnv == nil {
			break
		}
		if user, ok := inv.LookupEnv(variable); ok && user != "" {
			return user + "@" + host
		}
	}
	return host
}
