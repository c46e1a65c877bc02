package systemd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func closeOnExec(fd int) { unix.CloseOnExec(fd) }

// checkListening returns an error if a descriptor is not a stream socket that listens.
func checkListening(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case errors.Is(err, unix.ENOTSOCK):
		return errors.New("it is no socket")
	case err != nil:
		return fmt.Errorf("SO_TYPE: %w", err)
	case kind != unix.SOCK_STREAM:
		return errors.New("want a stream socket (ListenStream=), and it is of another type")
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("SO_ACCEPTCONN: %w", err)
	}
	if listening == 0 {
		return errors.New("it does not listen; the .socket unit needs Accept=no")
	}
	return nil
}

// monotonic returns the time of CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
