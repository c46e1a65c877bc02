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

// The shortest and the longest pause after a failed accept. Most failures concern only one client,
// which has gone away before accept(2). When descriptors are free again, clients wait at most the
// longest pause.
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
// closes the Spare, so that it can accept one more connection and learn the source of this
// connection. Then the server closes the new connection or a connection of another source. Without
// a Spare, the new client would stay in the backlog. The zero value is an empty Spare.
type Spare struct{ file *os.File }

// Fill opens the descriptor if the Spare is empty, and reports whether the Spare has a descriptor
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

	// Failed, if not nil, is called after each failed accept, with the length of the pause that
	// follows. If the process has no free descriptor, Failed may close some connections. It must
	// then return true, so that Run calls Accept once more before it pauses.
	Failed func(err error, pause time.Duration) (freed bool)
	// Shed, if not nil, makes the Loop use a Spare: when the process runs out of descriptors, the
	// Loop closes the Spare and accepts one connection. If MakeRoom is nil or returns false, the
	// Loop calls Shed, so that the caller can count the connection, and closes the connection. Then
	// the Loop accepts again, without a pause.
	Shed func()
	// MakeRoom, if not nil, is called with a connection that the Loop has accepted with the Spare.
	// If MakeRoom has closed another connection instead, it returns true, and Run serves the
	// accepted connection. If MakeRoom returns false, Run calls Shed and closes the accepted
	// connection.
	MakeRoom func(net.Conn) bool
}

// Run accepts connections and calls the function "handle" for each. It returns ErrClosed if Stop is
// closed, and the error of Accept if somebody else has closed the listener. Run does not close the
// listener.
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

// useSpare closes the spare descriptor, and then accepts one connection, if a client waits. It
// passes the connection to the function "handle" if MakeRoom makes room, and otherwise closes the
// connection. It returns false if Accept fails again.
func (l *Loop) useSpare(spare *Spare, handle func(net.Conn)) bool {
	if !spare.Fill() {
		return false
	}
	spare.Close()
	// accept(2) allocates a descriptor before it looks for a connection, so it can fail although no
	// client waits. Without a deadline, the following Accept could then wait without end.
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
