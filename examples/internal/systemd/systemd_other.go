//go:build !linux

package systemd

import (
	"errors"
	"time"
)

func closeOnExec(int) {}

func checkListening(int) error { return errors.New("systemd runs only on Linux") }

func monotonic() time.Duration { return 0 }
