package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/headgate/headgate/examples/internal/systemd"
	"github.com/headgate/headgate/internal/filewatch"
)

// ReadAgainOnHangup handles the signal SIGHUP until ctx ends. At each SIGHUP, it makes every
// running filewatch.Watcher read its files again, and calls each function in the argument "read".
// It does not read the flags, the environment and the file of -config again. Without
// ReadAgainOnHangup, SIGHUP ends the program. ReadAgainOnHangup tells systemd when the reload
// begins and ends.
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
				systemd.FromContext(ctx).Reload(func() {
					filewatch.Refresh()
					for _, f := range read {
						f()
					}
				})
			}
		}
	}()
}
