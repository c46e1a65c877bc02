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

// These are the shortest and the longest pause after a failed accept. The first pause is short,
// because most failures concern only one client, which has gone away before the server called
// accept(2). The longest pause is 1 s: when descriptors are free again, clients wait at most this
// long.
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
// closes the Spare, and accepts one connection with the freed descriptor. Now the server knows the
// source of this connection, and so can decide whether to close this connection or a connection of
// another source. Without a Spare, the client would wait in the backlog. The zero value is an empty
// Spare.
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

	// Failed, if not nil, is called after each failed accept. The argument "pause" is the length of
	// the pause that follows. Failed may close connections if the process has no free descriptor.
	// If it has closed some, it must return true: Run then calls Accept once more before it pauses.
	Failed func(err error, pause time.Duration) (freed bool)
	// Shed, if not nil, makes the Loop keep a Spare. When the Loop runs out of descriptors, it
	// accepts one connection with the Spare and calls MakeRoom. If MakeRoom is nil or returns false,
	// the Loop calls Shed, so that the caller can count the connection, and closes the connection.
	// Then it accepts again, without a pause.
	Shed func()
	// MakeRoom, if not nil, is called with a connection that the Loop has accepted with the Spare.
	// MakeRoom may close another connection, so that the process can serve the accepted one. If it
	// has closed one, it returns true, and Run calls the function "handle" with the accepted
	// connection. If it returns false, Run calls Shed and closes the accepted connection.
	MakeRoom func(net.Conn) bool
}

// Run accepts connections and calls the function "handle" for each of them. If Stop is closed, Run
// returns ErrClosed. If somebody else has closed the listener, Run returns the error of Accept. Run
// does not close the listener.
func (l *Loop) Run(handle func(net.Conn)) error {
	var backoff Backoff
	var spare Spare
	defer spare.Close()
	tried := false // true if Failed has freed descriptors since the last success or pause
	for {
		if l.Shed != nil {
			spare.Fill()
		}
		c, err := l.Listener.Accept()
		if err == nil {
			backoff.Reset()
			tried = false
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
		freed := l.Failed != nil && l.Failed(err, pause)
		if IsOutOfDescriptors(err) {
			if freed && !tried {
				tried = true
				continue
			}
			if l.Shed != nil && l.useSpare(&spare, handle) {
				backoff.Reset()
				continue
			}
		}
		tried = false
		select {
		case <-time.After(pause):
		case <-l.Stop:
			return ErrClosed
		}
	}
}

// useSpare closes the spare descriptor, and then accepts one connection, if a client waits. If
// MakeRoom makes room for this connection, useSpare passes the connection to the function "handle".
// Otherwise useSpare closes the connection. useSpare returns false if Accept fails again.
func (l *Loop) useSpare(spare *Spare, handle func(net.Conn)) bool {
	if !spare.Fill() {
		return false
	}
	spare.Close()
	// accept(2) allocates a descriptor before it looks for a connection. So accept can fail for
	// lack of a descriptor although no client waits. Set a deadline. Without it, the following
	// Accept could wait for a client without end.
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(minPause))
		defer d.SetDeadline(time.Time{})
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	if l.MakeRoom != nil && l.MakeRoom(c) {
		handle(c)
		return true
	}
	l.Shed() // before Close: when the client sees the end, the caller has counted it
	c.Close()
	return true
}
