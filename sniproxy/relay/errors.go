package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// undecided says whether a Session had nothing of its own to say about the end of a
// hello, so that the reason of that end is the result.
func undecided(s Step) bool {
	return s.Action == More || s.Action == Drop && s.Err == nil
}

func helloError(err error) error {
	switch {
	case errors.Is(err, ErrHelloTooLong):
		return err
	case isTimeout(err):
		err = os.ErrDeadlineExceeded
	}
	return fmt.Errorf("relay: reading the hello: %w", err)
}

// errNoConn is what a Step.Dial failed with that returned neither a connection nor an error.
var errNoConn = errors.New("no connection and no error")

func dialError(err error) error {
	switch {
	case err == nil:
		return nil
	case isTimeout(err):
		err = os.ErrDeadlineExceeded
	}
	return fmt.Errorf("relay: dial: %w", err)
}

func readError(from Party, err error) error {
	return fmt.Errorf("relay: reading from the %v: %w", from, err)
}

func writeError(to Party, err error) error {
	return fmt.Errorf("relay: writing to the %v: %w", to, err)
}

var errIdle = fmt.Errorf("relay: idle: %w", os.ErrDeadlineExceeded)

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
