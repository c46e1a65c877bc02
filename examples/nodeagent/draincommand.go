package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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
	host, err := localAddress(*admin)
	if err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin: %v", err)
	}
	target := url.URL{Scheme: "http", Host: host, Path: "/drain"}
	method := http.MethodDelete
	if !*off {
		method = http.MethodPost
		target.RawQuery = url.Values{"wait": {wait.String()}}.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, *wait+5*time.Second)
	defer cancel()
	if err := send(ctx, method, target.String(), inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	return cli.ExitOK
}

// localAddress is where to reach, on this machine, what listens on an address.
func localAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}

func send(ctx context.Context, method, target string, out io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	// Not the default client: a proxy of the environment has no business here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	_, err = out.Write(body)
	return err
}
