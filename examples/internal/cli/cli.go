// Package cli has the parts that the example binaries share: flags, exit codes, an admin listener
// with metrics and health pages, a line that shows the progress of a command, signals, and the
// sockets and notifications of systemd.
//
// The command line of a binary is one [Program]. A test can call its method Run with its own
// arguments, environment and output, and check the exit code:
//
//	var program = cli.Program{Name: "tool", Summary: "Makes things.", Commands: []cli.Command{{
//		Example: "tool -out out",
//		Run:     run,
//	}}}
//
//	func main() { cli.Main(program.Run) }
//
//	func run(ctx context.Context, inv cli.Invocation) int {
//		fs := cli.NewFlagSet("tool")
//		out := fs.String("out", "", "`directory` to write to")
//		if code, done := inv.Parse(fs); done {
//			return code
//		}
//		...
//	}
//
// Do not add code that users of headgate could import: such code belongs to the public packages.
package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/headgate/headgate/examples/internal/systemd"
)

// Exit codes of every binary.
const (
	ExitOK     = 0 // success
	ExitFailed = 1 // the work or a check failed, or a file cannot be read
	ExitUsage  = 2 // a flag is wrong, or a program that the binary needs is missing
	ExitDiffer = 3 // the command found a difference
)

// Invocation is everything that the operating system passes to the main function of a binary.
type Invocation struct {
	Args      []string                    // without the program's name
	LookupEnv func(string) (string, bool) // nil means an empty environment
	Environ   []string                    // all variables as NAME=VALUE, in which Parse finds mistyped names
	Stdout    io.Writer
	Stderr    io.Writer

	program  *Program // nil without Program.Run
	command  Command
	describe func(*flag.FlagSet) // if it is not nil, Parse only calls it
}

// Run is the body of a binary. It returns the exit code. Soon after ctx ends, Run must return.
type Run func(ctx context.Context, inv Invocation) int

// Main calls "run" with the arguments, environment and streams of the process, and exits with its
// code. The context of run ends at the first SIGINT or SIGTERM; a second signal kills the process.
//
// If systemd has started the process, the context contains systemd's sockets, and Main,
// ReadAgainOnHangup and Admin.Serve tell systemd the state of the process.
func Main(run Run) {
	service := systemd.Take(func(err error) { fmt.Fprintln(os.Stderr, err) })
	ctx, stop := signal.NotifyContext(systemd.NewContext(context.Background(), service), os.Interrupt, syscall.SIGTERM)
	told := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		defer close(told)
		stop()
		service.Stopping()
	})
	code := run(ctx, Invocation{
		Args:      os.Args[1:],
		LookupEnv: os.LookupEnv,
		Environ:   os.Environ(),
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
	})
	if !forget() { // a signal has come, and the process must not exit before systemd hears of it
		select {
		case <-told:
		case <-time.After(time.Second): // a reload is stuck, or systemd does not read
		}
	}
	os.Exit(code)
}

// Fail prints "program: message" to standard error and returns code.
func (inv Invocation) Fail(code int, program, format string, args ...any) int {
	fmt.Fprintf(inv.Stderr, program+": "+format+"\n", args...)
	return code
}
