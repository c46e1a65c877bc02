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

// Session decides about one connection. The Engine calls the methods of a Session one at a time.
// The calling goroutine serves other connections too, so the methods must not block: a Session
// that has to wait returns Wait and calls Conn.Resume later.
type Session interface {
	// Hello is called whenever the client has sent more bytes. data holds everything that the
	// client has sent so far, and is valid only during the call.
	//
	// A non-nil err means that no more bytes will come: io.EOF (the client ended its direction),
	// os.ErrDeadlineExceeded (HelloTimeout), ErrHelloTooLong (HelloLimit) or a read error. Then
	// More acts like Drop with this error.
	Hello(data []byte, err error) Step

	// DialFailed is called when the last Connect failed. The backend has received no byte, so
	// another Connect is safe.
	DialFailed(err error) Step

	// Done is the last call. Both connections are closed.
	Done(Result)
}

// Conn is the connection of a client that an Engine serves.
type Conn interface {
	// RemoteAddr returns the address of the client. It is not valid if the client has no IP
	// address.
	RemoteAddr() netip.AddrPort
	// LocalAddr returns the address that the client connected to. It may cost a system call.
	// Call it only from accept or a method of the Session.
	LocalAddr() netip.AddrPort
	// Resume continues after Wait with another Step, which must not be Wait or More. Any
	// goroutine may call it, also before the method that returns Wait has returned. A second call
	// for one Wait, and a call after Done, have no effect.
	Resume(Step)
	// Close ends the connection soon. Any goroutine may call it. The Engine still calls Done.
	Close()
}

// Action is what the Engine does for a Step.
type Action uint8

// The actions.
const (
	// More waits for more bytes of the client.
	More Action = iota
	// Wait waits for Conn.Resume. The Engine applies no time-out; the caller of Resume needs its
	// own. If the client resets the connection, the Engine calls Done at once.
	Wait
	// Connect connects to Addr, or calls Dial, and then relays.
	Connect
	// Answer writes Data to the client and ends that direction. Then it reads and discards the
	// bytes of the client for up to 2 s, so that no RST overtakes the answer, and closes.
	Answer
	// Drop closes the connection.
	Drop
	// Reset closes the connection with RST.
	Reset
)

// Step is the decision of a Session. The zero Step is More.
type Step struct {
	Action Action

	// Addr is the address for Connect.
	Addr netip.AddrPort
	// Dial, if not nil, makes the connection for Connect instead of Addr. The Engine calls it in a
	// new goroutine. ctx ends after DialTimeout or when the connection is closed.
	Dial func(ctx context.Context) (net.Conn, error)

	// Data is the answer for Answer. For Connect, the Engine sends Data to the backend before the
	// bytes of the client, for example a PROXY protocol header. The Engine does not change Data,
	// and may read it until Done.
	Data []byte
	// Skip is the number of the client's first bytes that the backend does not receive.
	Skip int

	// Err becomes Result.Err for Answer, Drop and Reset.
	Err error

	// DialTimeout and IdleTimeout replace the Engine's for this connection. 0 means the Engine's
	// value, less than 0 means no time-out.
	DialTimeout, IdleTimeout time.Duration
}

// Errors to test for with errors.Is.
var (
	// ErrClosed is the error of Serve, and of connections that the Engine closed, after Shutdown
	// or Close.
	ErrClosed = errors.New("relay: engine closed")
	// ErrHelloTooLong means that a Session had not decided after HelloLimit bytes.
	ErrHelloTooLong = errors.New("relay: hello too long")
	// ErrClientReset means that the client reset the connection while the Engine waited for its
	// bytes in PhaseRelay. The error also is syscall.ECONNRESET.
	ErrClientReset = errors.New("relay: the client reset the connection")
)

// Party names who ended a connection.
type Party uint8

// The parties.
const (
	ByClient  Party = iota + 1 // the client sent its FIN first, or its connection failed
	ByBackend                  // the backend sent its FIN first, or its connection failed
	BySession                  // Answer, Drop, Reset or Conn.Close
	ByTimeout                  // the time-out of the phase
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

// name returns the name of an enumerated value.
func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// Result describes a connection that has ended.
type Result struct {
	// By is the party that ended the connection: the side that failed, or else the side that
	// ended its direction first.
	By Party
	// Phase is the phase in which the connection ended.
	Phase Phase
	// Err is nil if both directions ended cleanly. If the Session ended the connection, Err is
	// Step.Err. For ByTimeout, Err wraps os.ErrDeadlineExceeded.
	Err error

	// ToBackend counts the bytes of the client that the Engine wrote to the backend, without
	// Step.Data. ToClient counts the bytes written to the client, an Answer included.
	ToBackend, ToClient int64

	// Hello is the time from accept until the first Step that is not More. Dial is the time of
	// the last Connect, until the connection was made or failed. Total is the time from accept to
	// close. 0 means that the phase did not end. Hello and Dial do not overlap, so their sum is
	// at most Total.
	Hello, Dial, Total time.Duration
}

// isDefaultStep reports whether a Session made no decision of its own about the end of a hello.
// Then the reason of that end becomes the Result.
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

// errNoConn reports a Step.Dial that returned neither a connection nor an error.
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
