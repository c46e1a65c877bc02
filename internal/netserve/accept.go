package netserve

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Backoff computes the pauses after failed accepts. The zero value is ready to use.
type Backoff struct{ pause time.Duration }

// The first pause is short, because most failures concern only one client: it has gone away before
// the server called accept(2). The longest pause is 1 s: when descriptors are free again, clients
// wait at most this long.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Next returns the pause after the next failure: first 5 ms, later twice the last pause, and at
// most 1 s.
func (b *Backoff) Next() time.Duration {
	b.pause = min(max(2*b.pause, minPause), maxPause)
	return b.pause
}

// Reset makes Next start again with the shortest pause.
func (b *Backoff) Reset() { b.pause = 0 }

// Spare is a file descriptor in reserve, for a server that has run out of descriptors. The server
// closes the Spare, accepts one connection with the freed descriptor, and closes this connection.
// So the client sees the end of the connection, and can try another server. Without a Spare, the
// client would wait in the backlog. The zero value is an empty Spare.
type Spare struct{ file *os.File }

// Fill opens the descriptor if the Spare is empty. It reports whether the Spare has a descriptor
// now. Call Fill also after each successful accept: a dial may have used the descriptor that Close
// has freed.
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

// IsOutOfDescriptors reports whether err is EMFILE or ENFILE. After either error, a server can
// accept again if it first closes a descriptor.
func IsOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Loop accepts the connections of one listener. It continues after an error of Accept, because the
// usual errors (ECONNABORTED, EMFILE) are temporary.
type Loop struct {
	Listener net.Listener
	Stop     <-chan struct{} // to end Run, close Stop and then the Listener

	// Failed, if not nil, is called after each failed accept. pause is the pause that follows.
	Failed func(err error, pause time.Duration)
	// Shed, if not nil, makes the Loop refuse clients when it runs out of descriptors: it uses a
	// Spare to accept and close one connection, calls Shed, and does not pause.
	Shed func()
}

// Run accepts connections and calls handle for each of them. If Stop is closed, Run returns
// ErrClosed. If somebody else has closed the listener, Run returns the error of Accept. Run does
// not close the listener.
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

// shedOne closes the spare descriptor, and then accepts and closes one connection, if a client
// waits. It returns false if Accept fails again.
func (l *Loop) shedOne(spare *Spare) bool {
	if !spare.Fill() {
		return false
	}
	spare.Close()
	// accept(2) allocates a descriptor before it looks for a connection, so perhaps no client waits
	// any more. The deadline ends Accept in this case.
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
