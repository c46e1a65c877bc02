package systemd

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// notifyTimeout bounds how long a notification may wait for room in systemd's queue.
const notifyTimeout = 5 * time.Second

// Notified reports whether systemd wants notifications (Type=notify or WatchdogSec=).
func (s *Service) Notified() bool { return s != nil && s.address != "" }

// Watchdog returns the longest time that systemd waits for the next WATCHDOG=1 (WatchdogSec=). 0
// means that systemd wants no WATCHDOG=1.
func (s *Service) Watchdog() time.Duration {
	if !s.Notified() {
		return 0
	}
	return s.watchdog
}

// Ready tells systemd that the service has started, and reports whether it could tell systemd. From
// then on, Reload notifies systemd.
func (s *Service) Ready(status string) bool {
	sent := true
	s.locked(func() {
		sent = s.send("READY=1", "STATUS="+status)
		s.ready = s.ready || sent
	})
	return sent
}

// Status sets the text that systemctl status shows.
func (s *Service) Status(text string) { s.locked(func() { s.send("STATUS=" + text) }) }

// Alive tells the watchdog of systemd that the service makes progress.
func (s *Service) Alive() { s.locked(func() { s.send("WATCHDOG=1") }) }

// Stopping tells systemd that the service stops.
func (s *Service) Stopping() { s.locked(func() { s.send("STOPPING=1") }) }

// Reload calls the function f. It tells systemd before the call that a reload begins (RELOADING=1),
// and after the call that it has ended (READY=1). Before the first call of Ready, Reload only calls
// f, because READY=1 would tell systemd that the service has started.
func (s *Service) Reload(f func()) {
	if !s.Notified() {
		f()
		return
	}
	s.locked(func() {
		if !s.ready {
			f()
			return
		}
		// A unit with Type=notify-reload (systemd 253 and later) needs the time of this message.
		// systemd 252 ignores the time.
		s.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
		f()
		s.send("READY=1")
	})
}

// locked calls the function f if systemd wants notifications. Only one such function runs at a
// time, so that no other notification comes between RELOADING=1 and READY=1.
func (s *Service) locked(f func()) {
	if s.Notified() {
		s.notifying.Lock()
		defer s.notifying.Unlock()
		f()
	}
}

// send sends one notification, and reports whether it succeeded. The lines are assignments, such as
// "READY=1".
func (s *Service) send(lines ...string) bool {
	err := s.write(lines)
	if err == nil {
		s.lastErr = ""
		return true
	}
	if err = fmt.Errorf("systemd: NOTIFY_SOCKET: %w", err); s.failed != nil && err.Error() != s.lastErr {
		s.lastErr = err.Error()
		s.failed(err)
	}
	return false
}

func (s *Service) write(lines []string) error {
	for i, line := range lines {
		lines[i] = strings.Map(func(r rune) rune {
			if r < ' ' {
				return ' ' // a line feed would begin another assignment
			}
			return r
		}, line)
	}
	// A name that begins with "@" is an abstract socket, both for systemd and for package net. So
	// the address needs no change.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = c.Write([]byte(strings.Join(lines, "\n")))
	return err
}
