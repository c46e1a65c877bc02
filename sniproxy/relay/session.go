package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Session decides what becomes of one connection. The Engine calls its methods one at a
// time, never two at once, from goroutines that serve other connections too: they must
// not block. A Session that needs to wait returns Wait and calls Conn.Resume later.
type Session interface {
	// Hello is given all that the client has sent so far, whenever there is more of
	// it. data is valid during the call only. A non-nil err says that no more will
	// come: io.EOF (the client ended its direction), os.ErrDeadlineExceeded
	// (HelloTimeout), ErrHelloTooLong (HelloLimit) or what reading failed with. The
	// answer to it cannot be More, which is then the same as Drop with that error.
	Hello(data []byte, err error) Step

	// DialFailed says that the backend of the last Connect was not reached, and that
	// no byte was sent to it: another Connect is safe.
	DialFailed(err error) Step

	// Done is the last call, with both connections closed.
	Done(Result)
}

// Conn is a client's connection in the hands of an Engine.
type Conn interface {
	// RemoteAddr is the client's address; not valid where it has no IP address.
	RemoteAddr() netip.AddrPort
	// LocalAddr is the address that the client connected to. It may cost a system
	// call. It may be called while Session methods or accept run, not at other times.
	LocalAddr() netip.AddrPort
	// Resume goes on after Wait with another Step, not Wait or More. It may be called
	// from any goroutine, also within a Session method. Without a Wait to answer it
	// waits for one; after the first call for one Wait, and after Done, it does
	// nothing.
	Resume(Step)
	// Close ends the connection soon, from any goroutine. Done is called as ever.
	Close()
}

// Action is what a Step does.
type Action uint8

// The actions.
const (
	// More waits for more bytes of the client.
	More Action = iota
	// Wait does nothing until Conn.Resume. No time-out applies: whoever resumes has
	// one. If the client resets the connection meanwhile, Done is called at once.
	Wait
	// Connect connects to Addr, or by Dial, and then relays.
	Connect
	// Answer writes Data to the client, ends that direction, reads and discards what
	// the client still sends, for a second or two so that no reset overtakes the
	// answer, and closes.
	Answer
	// Drop closes the connection.
	Drop
	// Reset closes the connection with RST.
	Reset
)

// Step is what a Session wants next. The zero Step is More.
type Step struct {
	Action Action

	// Addr is where Connect connects to.
	Addr netip.AddrPort
	// Dial makes the backend's connection instead, if not nil. It runs in a goroutine
	// of its own, and ctx ends after DialTimeout or when the connection is closed.
	Dial func(ctx context.Context) (net.Conn, error)

	// Data is, for Connect, sent to the backend before the bytes of the client, such
	// as a PROXY protocol header; for Answer it is the answer. The Engine does not
	// change it, and may read it until Done.
	Data []byte
	// Skip is how many of the client's first bytes are not sent to the backend.
	Skip int

	// Err is, for Answer, Drop and Reset, what Result.Err will be.
	Err error

	// DialTimeout and IdleTimeout take the place of the Engine's for this connection,
	// if not 0; less than 0 is none.
	DialTimeout, IdleTimeout time.Duration
}

// Errors that are told apart by errors.Is.
var (
	// ErrClosed is what Serve returns, and what Result.Err holds, after Close and Shutdown.
	ErrClosed = errors.New("relay: engine closed")
	// ErrHelloTooLong says that HelloLimit bytes were not enough for a decision.
	ErrHelloTooLong = errors.New("relay: hello too long")
)

// Party is who ended a connection.
type Party uint8

// The parties.
const (
	ByClient  Party = iota + 1 // the client: its FIN came first, or its side failed
	ByBackend                  // the backend, likewise
	BySession                  // Answer, Drop, Reset or Conn.Close
	ByTimeout                  // the time-out of the phase
	ByEngine                   // Engine.Close, Engine.CloseWithin, or a failure of the Engine itself
)

func (p Party) String() string {
	return name(p, "none", "client", "backend", "session", "timeout", "engine")
}

// Phase is how far a connection came.
type Phase uint8

// The phases.
const (
	PhaseHello  Phase = iota + 1 // the client's first bytes
	PhaseWait                    // from Wait to Resume
	PhaseDial                    // connecting to the backend
	PhaseRelay                   // bytes both ways
	PhaseAnswer                  // the client gets an answer instead
)

func (p Phase) String() string {
	return name(p, "none", "hello", "wait", "dial", "relay", "answer")
}

// name is the name of an enumerated value.
func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// Result is what became of a connection.
type Result struct {
	// By is who ended it: of two clean ends of direction whose was first, else who
	// failed.
	By Party
	// Phase is the phase in which it ended.
	Phase Phase
	// Err is nil where both directions ended clean, and Step.Err where the Session
	// ended it. For ByTimeout it wraps os.ErrDeadlineExceeded.
	Err error

	// ToBackend counts the bytes of the client that were given to the backend's
	// socket, without Step.Data; ToClient those given to the client's, Answer
	// included.
	ToBackend, ToClient int64

	// Hello is the time from accept to the Session's decision (the first Step that is
	// not More), Dial that of the last Connect until the connection was there, or
	// failed, and Total that from accept to close. A time that did not pass is 0.
	Hello, Dial, Total time.Duration
}

// undecided says whether a Session had nothing of its own to say about the end of a
// hello, so that the reason of that end is the result.
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
