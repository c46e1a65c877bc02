package relay

import (
	"errors"
	"fmt"
	"time"
)

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
