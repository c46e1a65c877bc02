package relay

import (
	"context"
	"net"
	"net/netip"
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
