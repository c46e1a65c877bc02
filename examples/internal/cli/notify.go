package cli

import (
	"context"
	"time"

	"github.com/headgate/headgate/examples/internal/systemd"
)

// aliveTimeout is the longest time that /healthz waits for Admin.Alive.
const aliveTimeout = 10 * time.Second

const (
	// startInterval is the pause between two checks whether the binary is ready, until it is ready
	// for the first time.
	startInterval = 100 * time.Millisecond
	// statusInterval is the longest pause between two updates of the text that "systemctl status"
	// shows, after the binary has been ready for the first time.
	statusInterval = 5 * time.Second
)

// alive returns nil if the binary makes progress.
func (a Admin) alive(ctx context.Context) error {
	if a.Alive != nil {
		return a.Alive(ctx)
	}
	_ = a.ready() // the error does not matter, but a call that never returns does
	return nil
}

func (a Admin) ready() error {
	if a.Ready == nil {
		return nil
	}
	return a.Ready()
}

// The method "notify" tells systemd three things:
//
//   - once, that the binary is ready for the first time
//   - as the status, whether the binary is ready, with the text of /readyz
//   - again and again, for the watchdog, that the binary makes progress
//
// It tells the watchdog only after Alive has returned nil. So if Alive fails or does not return,
// systemd restarts the binary.
func (a Admin) notify(ctx context.Context, service *systemd.Service) {
	if !service.Notified() {
		return
	}
	status := func() (text string, ready bool) {
		if err := a.ready(); err != nil {
			return "not ready: " + err.Error(), false
		}
		return "ready", true
	}
	last := ""
	for pace := time.Tick(startInterval); ; {
		text, ready := status()
		if ready && service.Ready(text) {
			last = text
			break
		}
		if text != last {
			service.Status(text)
			last = text
		}
		select {
		case <-ctx.Done():
			return
		case <-pace:
		}
	}
	interval := statusInterval
	if watchdog := service.Watchdog(); watchdog > 0 {
		interval = min(interval, watchdog/3)
	}
	for pace := time.Tick(interval); ; {
		checking, cancel := context.WithTimeout(ctx, interval)
		err := a.alive(checking)
		cancel()
		text, _ := status()
		if err != nil {
			text = "no progress: " + err.Error()
		} else if service.Watchdog() > 0 {
			service.Alive()
		}
		if text != last && ctx.Err() == nil {
			service.Status(text)
			last = text
		}
		select {
		case <-ctx.Done():
			return
		case <-pace:
		}
	}
}
