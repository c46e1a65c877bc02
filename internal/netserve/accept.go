package netserve

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Backoff computes the pauses between failed accepts. The zero value is ready.
type Backoff struct{ pause time.Duration }

// The first pause is short because most failures concern one client that went away between its
// SYN and accept(2). The longest pause is short enough to go unnoticed when descriptors are free
// again.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Next returns the next pause: 5 ms at first, then twice the last one, 1 s at most.
func (b *Backoff) Next() time.Duration {
	b.pause = min(max(2*b.pause, minPause), maxPause)
	return b.pause
}

// Reset makes the next pause the shortest one.
func (b *Backoff) Reset() { b.pause = 0 }

// Spare is a file descriptor in reserve. A server that has run out of descriptors closes the
// Spare, accepts one connection with the freed number, and closes that connection: the client
// can go elsewhere, while a client in the backlog waits. The zero value is empty.
type Spare struct{ file *os.File }

// Fill opens the descriptor if the Spare is empty, and reports whether the Spare is full. Call
// Fill after each successful accept too: a dial may have used the freed number.
func (s *Spare) Fill() bool {
	if s.file == nil {
		s.file, _ = os.Open(os.DevNull)
	}
	return s.file != nil
}

// Close empties the Spare.
func (s *Spare) Close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// IsOutOfDescriptors reports whether err is EMFILE or ENFILE. Closing a descriptor remedies both.
func IsOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Loop accepts the connections of one listener. An accept error does not end the Loop, because
// the usual causes (ECONNABORTED, EMFILE) pass.
type Loop struct {
	Listener net.Listener
	Stop     <-chan struct{} // Run returns after Stop is closed and then the Listener

	// Failed, if not nil, is called after each failed accept with the pause that follows.
	Failed func(err error, pause time.Duration)
	// Shed, if not nil, makes the Loop shed connections: when there are no descriptors, the Loop
	// accepts and closes one connection by means of a Spare, calls Shed, and does not pause.
	Shed func()
}

// Run calls handle for each connection and returns ErrClosed when Stop is closed, or the error
// of Accept when somebody else closed the listener. Run does not close the listener.
func (l *Loop) Run(handle func(net.Conn)) error {
	var backoff Backoff
	var spare Spare
	defer spare.Close()
	for {
		if l.Shed != nil {
			spare.Fill()
		}
		c, err := l.Listener.Accept()
		if err == nil {
			backoff.Reset()
			handle(c)
			continue
		}
		select {
		case <-l.Stop:
			return ErrClosed
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		pause := backoff.Next()
		if l.Failed != nil {
			l.Failed(err, pause)
		}
		if l.Shed != nil && IsOutOfDescriptors(err) && l.shedOne(&spare) {
			backoff.Reset()
			continue
		}
		select {
		case <-time.After(pause):
		case <-l.Stop:
			return ErrClosed
		}
	}
}

// shedOne accepts and closes one connection, if a client waits. It returns false if accepting
// fails without the spare descriptor too.
func (l *Loop) shedOne(spare *Spare) bool {
	if !spare.Fill() {
		return false
	}
	spare.Close()
	// accept(2) allocates a descriptor before it looks for a connection, so the connection that
	// caused the failure may be gone. The deadline keeps Accept from waiting for the next one.
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(minPause))
		defer d.SetDeadline(time.Time{})
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	c.Close()
	l.Shed()
	return true
}
