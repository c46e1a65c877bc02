// Frontproxy is an HTTP proxy in front of the pods of one service, for the clients of one zone. It
// runs its own HAProxy, which chooses a pod for each request.
//
//	frontproxy -service media/tracks:http -zone eu-1a -listen :8080 -admin :9710    in a pod
//	frontproxy -service media/tracks:http -discovery http://discovery:9100 -listen :8080
//	frontproxy -local 8081 -listen :8080                                            as the sidecar of a pod
//	frontproxy drain -admin unix:/run/headgate/frontproxy.sock                      as a preStop hook
//
// Package haproxycfg/frontproxy describes the configuration, and package
// haproxycfg/frontproxy/controller describes what happens at a change and at a failure. README.md
// describes how to run and drain the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/internal/filelock"
)

const program = "frontproxy"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Sends the HTTP requests of one zone to the pods of one service, through an HAProxy that it runs.",
	Readme:  readme,
	Commands: []cli.Command{
		{Example: "frontproxy -service media/tracks:http -zone eu-1a -listen :8080 -admin :9710 -policy policy.yaml", Run: runProxy},
		{
			Name: "drain", Summary: "Drains a running frontproxy, and returns at the end of the drain.",
			Example: "frontproxy drain -admin unix:/run/headgate/frontproxy.sock",
			Exits:   map[int]string{cli.ExitOK: "the drain is over, or -undo has ended it", cli.ExitFailed: "an error, or somebody has ended the drain"},
			Run:     runDrain,
		},
	},
}

var run = commandLine.Run

func main() { cli.Main(run) }

func runProxy(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	log := inv.Logger(s.logFormat, slog.LevelInfo)
	kubeconn.LogTo(log)
	if s.out == "" {
		dir, err := os.MkdirTemp("", "frontproxy")
		if err != nil {
			return inv.Fail(cli.ExitFailed, program, "%v", err)
		}
		defer os.RemoveAll(dir)
		s.out = dir
	}
	unlock, err := lockDir(s.out)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	defer unlock()
	p, err := newProxy(s, log, inv.Stdout)
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}
	if err := serve(ctx, s, p, log); err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return cli.ExitOK
}

// lockDir creates the directory of -out and locks it, because two programs would overwrite each
// other's files and sockets.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fail("out", "%v", err)
	}
	unlock, err = filelock.TryLock(filepath.Join(dir, "frontproxy.lock"))
	if errors.Is(err, filelock.ErrLocked) {
		return nil, fail("out", "another frontproxy uses %s: %v", dir, err)
	}
	if err != nil {
		return nil, fail("out", "%v", err)
	}
	return unlock, nil
}

// serve runs the proxy until ctx ends and the drain is over.
func serve(ctx context.Context, s settings, p *proxy, log *slog.Logger) error {
	cli.ReadAgainOnHangup(ctx, log, p.readAuthorities)
	// ctx ends when the drain begins. The parts that must work during the drain use the context
	// "running", which serve cancels after the drain.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	admin := cli.Admin{Gatherer: p.metrics, Ready: p.ready, Detail: p.detail, Extra: p.adminPages(running)}
	listeners, err := s.admin.Listen(ctx, &admin)
	if err != nil {
		return err
	}
	group.Go(func() error { return admin.Serve(running, listeners...) })
	group.Go(func() error {
		if p.supervisor != nil { // files of an earlier process are no reason to ask an HAProxy that starts
			p.supervisor.AwaitFirstStart(running)
		}
		return p.controller.Run(running)
	})
	if p.supervisor != nil {
		group.Go(func() error { return p.supervisor.Run(running) })
	}
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-ctx.Done():
		}
		p.shutdown(running)
		stop()
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// shutdown drains and ends the HAProxy that this program has started. A further signal, or the end
// of ctx, ends this HAProxy at once. If another program has started HAProxy, shutdown does nothing.
func (p *proxy) shutdown(ctx context.Context) {
	if p.supervisor == nil {
		return
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	ended := make(chan error, 1)
	progress, err := p.drainer.Shutdown(ctx, func() {
		deadline, cancel := context.WithTimeout(ctx, p.drainTimeout)
		p.stopping.Store(true)
		go func() {
			defer cancel()
			ended <- p.supervisor.Drain(deadline)
		}()
	})
	if failed := <-ended; failed != nil && err == nil {
		err = failed
	}
	if err != nil {
		p.log.Warn("closed the connections that did not end in time", "progress", progress, "err", err)
		return
	}
	p.log.Info("drained", "progress", progress)
}

// fail returns an error that names a flag.
func fail(flag, format string, args ...any) error {
	return fmt.Errorf("-%s: %s", flag, fmt.Sprintf(format, args...))
}
