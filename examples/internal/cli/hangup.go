package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/headgate/headgate/internal/filewatch"
)

// ReadAgainOnHangup makes SIGHUP read the files of the program again, until ctx ends: all files that it
// follows, and then those that the functions read. Without ReadAgainOnHangup, SIGHUP ends the program.
// SIGHUP does not read the flags, the environment and the file of -config again.
func ReadAgainOnHangup(ctx context.Context, log *slog.Logger, read ...func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				log.Info("SIGHUP: reading the files again")
				filewatch.Refresh()
				for _, f := range read {
					f()
				}
			}
		}
	}()
}
