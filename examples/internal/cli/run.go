package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes of every binary.
const (
	ExitOK     = 0 // done what was asked
	ExitFailed = 1 // tried and failed, or a check did not hold
	ExitUsage  = 2 // bad flags, or something that must be there first is missing
)

// Invocation is one call of a binary: what the operating system hands to main.
type Invocation struct {
	Args      []string                    // without the program's name
	LookupEnv func(string) (string, bool) // nil: no environment
	Stdout    io.Writer
	Stderr    io.Writer
}

// Run is the body of a binary. It returns the exit code, and soon after ctx is
// cancelled.
type Run func(ctx context.Context, inv Invocation) int

// Main calls run with the process's own arguments, environment and streams and
// exits with its code. The context ends at the first SIGINT or SIGTERM; a second
// signal kills the process as usual, so that a stop that hangs can be ended.
func Main(run Run) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, Invocation{
		Args:      os.Args[1:],
		LookupEnv: os.LookupEnv,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
	}))
}

// Logger returns the logger of a binary: text lines on standard error.
func (inv Invocation) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(inv.Stderr, nil))
}

// Fail prints a message to standard error, with the program's name in front, and
// returns code.
func (inv Invocation) Fail(code int, program, format string, args ...any) int {
	fmt.Fprintf(inv.Stderr, program+": "+format+"\n", args...)
	return code
}
