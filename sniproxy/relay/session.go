package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Session decides about one connection. The Engine calls its methods one at a time. They must not
// block, because the calling goroutine serves other connections too: a Session that has to wait
// returns Wait, and calls Conn.Resume later.
type Session interface {
	// Hello decides what happens with the connection, each time that the client has sent more
	// bytes. data holds all bytes so far, and is valid only during the call.
	//
	// If err is not nil, the Engine reads no more bytes of the client. err is io.EOF (the client
	// has ended its direction), os.ErrDeadlineExceeded (HelloTimeout), ErrHelloTooLong (HelloLimit)
	// or a read error. If Hello then returns More, the Engine drops the connection, and err becomes
	// Result.Err.
	Hello(data []byte, err error) Step

	// DialFailed decides what happens after a failed Connect. The backend has received no byte, so
	// another Connect is safe.
	DialFailed(err error) Step

	// Done reports the end of the connection. It is the last call for this Session, after the
	// Engine has closed the sockets of the client and of the backend.
	Done(Result)
}

// Conn is the connection of a client that an Engine serves.
type Conn interface {
	// RemoteAddr returns the address of the client. It is not valid if the client has no IP
	// address. Any goroutine may call RemoteAddr, also after Done.
	RemoteAddr() netip.AddrPort
	// LocalAddr returns the address that the client connected to. It may make a system call on the
	// socket, so call it only while the socket is certainly open: in the function "accept" of
	// Engine.Serve, or in a method of the Session.
	LocalAddr() netip.AddrPort
	// Resume ends the wait of a Session that has returned Wait: the Engine carries out the given
	// Step, which must not be Wait or More. Resume is safe for concurrent use, even before the
	// method that returns Wait has returned. A second call for the same Wait, or a call after Done,
	// has no effect.
	Resume(Step)
	// Idle returns the time since the Engine last moved a byte between the two sides. Before the
	// Engine relays, this is the time since accept. Any goroutine may call Idle.
	Idle() time.Duration
	// Close ends the connection soon, but may return before the end. Any goroutine may call Close.
	// At the end, the Engine calls Done as usual.
	Close()
}

// Action says what the Engine must do for a Step.
type Action uint8

// The actions.
const (
	// More means: wait for more bytes of the client, and call Hello again.
	More Action = iota
	// Wait means: do nothing until the Session calls Conn.Resume, without a time-out of the Engine.
	// If the client resets the connection, the Engine calls Done immediately.
	Wait
	// Connect means: connect to Step.Addr, or call Step.Dial, and relay after that.
	Connect
	// Answer means: write Step.Data to the client, send FIN, and drop the client's bytes until the
	// close, because a RST could destroy the answer. The Engine closes when the client ends its
	// direction, when the client has acknowledged no byte for 2 s, or when HalfCloseTimeout has
	// passed since accept.
	Answer
	// Drop closes the connection.
	Drop
	// Reset closes the connection with RST.
	Reset
)

// Step says what the Engine does next with a connection. Session.Hello and Session.DialFailed return
// it. The zero Step is More: the Engine reads more bytes of the client.
type Step struct {
	Action Action

	// Addr is the address to which the Engine connects if Action is Connect and Dial is nil.
	Addr netip.AddrPort
	// Dial, if not nil, makes the connection for Connect. The Engine then ignores Addr, and calls
	// Dial in a new goroutine. ctx ends after DialTimeout or when the connection is closed.
	Dial func(ctx context.Context) (net.Conn, error)

	// For Answer, Data is the answer. For Connect, the backend gets Data before the bytes of the
	// client, for example a PROXY protocol header. The Engine does not change Data, but may read it
	// until it calls Done.
	Data []byte
	// Skip is how many of the client's first bytes the Engine does not send to the backend.
	Skip int

	// Err is the reason for the actions Answer, Drop and Reset. It becomes Result.Err.
	Err error

	// DialTimeout and IdleTimeout are the time-outs for this connection, instead of
	// Engine.DialTimeout and Engine.IdleTimeout. 0 means the Engine's value, less than 0 means no
	// time-out.
	DialTimeout, IdleTimeout time.Duration
}

// Errors to test for with errors.Is.
var (
	// ErrClosed is the error that Serve returns after Shutdown or Close. It is also the Result.Err
	// of a connection that the Engine closed because of CloseWithin or Close.
	ErrClosed = errors.New("relay: engine closed")
	// ErrHelloTooLong means that the client has sent HelloLimit bytes and the Session still
	// returned More.
	ErrHelloTooLong = errors.New("relay: hello too long")
	// ErrClientReset means that the client reset the connection in PhaseRelay, while the Engine
	// waited for bytes of the client. With errors.Is, such an error also matches
	// syscall.ECONNRESET.
	ErrClientReset = errors.New("relay: the client reset the connection")
)

// Party names who ended a connection.
type Party uint8

// The parties.
const (
	ByClient  Party = iota + 1 // the client sent its FIN first, or its connection failed
	ByBackend                  // the backend sent its FIN first, or its connection failed
	BySession                  // the Session ended the connection by Answer, Drop, Reset or Conn.Close
	ByTimeout                  // the time-out of the phase expired
	ByEngine                   // Engine.Close, Engine.CloseWithin, or a failure of the Engine itself
)

func (p Party) String() string {
	return name(p, "none", "client", "backend", "session", "timeout", "engine")
}

// Phase is a part of the life of a connection.
type Phase uint8

// The phases.
const (
	PhaseHello  Phase = iota + 1 // reading the first bytes of the client
	PhaseWait                    // from Wait to Resume
	PhaseDial                    // connecting to the backend
	PhaseRelay                   // relaying both ways
	PhaseAnswer                  // sending an Answer
)

func (p Phase) String() string {
	return name(p, "none", "hello", "wait", "dial", "relay", "answer")
}

// name returns the name of v, a value of an enumerated type. The argument "names" contains the
// names of all values of the type, in order, beginning with the value 0.
func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// Result describes a connection that has ended.
type Result struct {
	// By is the party that ended the connection: the side that failed, or, if no side failed, the
	// side that ended its direction first.
	By Party
	// Phase is the phase in which the connection ended.
	Phase Phase
	// Err is nil if both directions ended cleanly. If the Session ended the connection, Err is
	// Step.Err. For ByTimeout, Err wraps os.ErrDeadlineExceeded.
	Err error

	// ToBackend is the number of the client's bytes that the Engine wrote to the backend, without
	// Step.Data. ToClient is the number of bytes that the Engine wrote to the client, including an
	// Answer.
	ToBackend, ToClient int64

	// Hello is the time from accept until the first Step other than More. Dial is how long the last
	// Connect took, even if it failed. Total is the time from accept to close. 0 means that the
	// phase did not end. Hello and Dial together are at most Total.
	Hello, Dial, Total time.Duration
}

// isDefaultStep reports whether the Step decides nothing: its Action is More, or Drop with Err nil.
// If Session.Hello returns such a Step after the last bytes of the hello, the connection ends. If
// the client ended its direction, Result.Err is then nil. In all other cases, Result.Err is the
// error that ended the hello.
func isDefaultStep(s Step) bool {
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

// errNoConn is the error of a Connect whose Step.Dial returned neither a connection nor an error.
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
	if from == ByClient && errors.Is(err, syscall.ECONNRESET) {
		return clientReset{err}
	}
	return fmt.Errorf("relay: reading from the %v: %w", from, err)
}

// clientReset is an ErrClientReset with its cause.
type clientReset struct{ error }

func (e clientReset) Error() string {
	return fmt.Sprintf("relay: reading from the client: %v", e.error)
}
func (e clientReset) Unwrap() error        { return e.error }
func (e clientReset) Is(target error) bool { return target == ErrClientReset }

func writeError(to Party, err error) error {
	return fmt.Errorf("relay: writing to the %v: %w", to, err)
}

var errIdle = fmt.Errorf("relay: idle: %w", os.ErrDeadlineExceeded)

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
