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

// ReadAgainOnHangup handles SIGHUP until ctx ends: every running filewatch.Watcher reads its files
// again, each function in "read" runs, and systemd learns when the reload begins and ends. The
// flags, the environment and the file of -config are not read again. Without ReadAgainOnHangup,
// SIGHUP ends the program.
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
