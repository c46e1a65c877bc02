package agentcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/netserve"
)

// ErrServerClosed is the error of Serve after Shutdown or Close.
var ErrServerClosed = errors.New("agentcheck: server closed")

// MaxName is the length in bytes, without the line end, of the longest name that a Server reads.
const MaxName = 1024

// Defaults of a Server.
const (
	// DefaultTimeout is HAProxy's default agent-inter. HAProxy waits no longer for an answer.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxConns is far above the usual need: 5,000 checks a second that take 1 ms each need
	// 5 connections at a time.
	DefaultMaxConns = 1024
)

// Bounds of reading after the answer. HAProxy closes the connection as soon as it has the line. A
// client that leaves the connection open must not occupy a place under MaxConns for long.
const (
	maxDiscard = 64 << 10 // bytes
	maxLinger  = 250 * time.Millisecond
)

// Errors of an exchange without an answer; see [Exchange].
var (
	// ErrNoName means that the server waited for a name and received no whole line within Timeout.
	// HAProxy adds no line end to agent-send: the text must end in \n.
	ErrNoName = errors.New("agentcheck: no name with a line end")
	// ErrPanic means that the handler panicked.
	ErrPanic = errors.New("agentcheck: handler panicked")
)

// Server answers agent checks. Do not change its fields after the first call of a method. Several
// goroutines may call its methods at the same time.
//
// The server sends each answer with one write. Then it closes its side of the connection and waits
// until HAProxy closes the other side. So HAProxy reads the answer and a clean end of the
// connection, even if the server has not read everything that HAProxy sent.
type Server struct {
	// Handler decides on the answers. It must not be nil.
	Handler Handler

	// ReadName makes the server read one line before it answers, and put the line into
	// Request.Name. HAProxy sends the text of agent-send, so one port can answer for many services.
	// Without agent-send HAProxy sends nothing: ReadName must then be false.
	ReadName bool

	// Timeout is the longest duration of an exchange: reading the name, the handler's context,
	// writing the answer, and at most 250 ms for the end of the connection. 0 or less means
	// DefaultTimeout.
	Timeout time.Duration

	// MaxConns is the largest number of exchanges at the same time. Further connections wait in the
	// kernel. 0 means DefaultMaxConns, a negative number means no bound.
	MaxConns int

	// Finished, if not nil, receives every exchange after its end, for metrics. The server calls it
	// from several goroutines at the same time.
	Finished func(Exchange)

	// Logger, if not nil, gets a line for each failed accept (warning), for each panic of the
	// handler (error), and for each exchange that failed otherwise (debug).
	Logger *slog.Logger

	once  sync.Once
	group netserve.Group
}

// Exchange is one finished exchange with HAProxy.
type Exchange struct {
	Request  Request
	Reply    Reply         // zero if the server did not call the handler, or the handler panicked
	Duration time.Duration // from accept until the kernel has the answer or the exchange failed
	// Err is nil if the server has written the answer. Otherwise HAProxy keeps the last answer.
	Err error
}

// Serve answers the checks that arrive at l, and closes l before it returns. After Shutdown or
// Close it returns [ErrServerClosed]. If the caller closes l, it returns the error of Accept. After
// any other error of Accept, such as a lack of file descriptors, it tries again, after a pause that
// grows from 5 ms to 1 s. Serve may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if s.Handler == nil {
		l.Close()
		return errors.New("agentcheck: Server has no Handler")
	}
	s.once.Do(s.init)
	err := s.group.Serve(l, s.serveConn)
	if errors.Is(err, netserve.ErrClosed) {
		return ErrServerClosed
	}
	return fmt.Errorf("agentcheck: %w", err)
}

// Shutdown closes the listeners and waits until the running exchanges have ended. If ctx ends
// first, Shutdown returns the error of ctx.
//
// A closed port changes nothing in HAProxy: the last answer stays in force. To drain the server,
// the handler must answer "drain" for at least one agent-inter before Shutdown.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	return s.group.Shutdown(ctx)
}

// Close closes the listeners and all connections and ends the context of the handlers. It does not
// wait for the handlers; a Shutdown after Close does.
func (s *Server) Close() error {
	s.once.Do(s.init)
	return s.group.Close()
}

func (s *Server) init() {
	s.group.MaxConns = DefaultMaxConns
	if s.MaxConns != 0 {
		s.group.MaxConns = max(s.MaxConns, 0)
	}
	if s.Logger != nil {
		s.group.AcceptError = func(l net.Listener, err error, pause time.Duration) {
			s.Logger.Warn("agentcheck: accept failed", "listener", l.Addr(), "err", err, "pause", pause)
		}
	}
}

// serveConn runs one exchange.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	begin := time.Now()
	deadline := begin.Add(cmp.Or(max(s.Timeout, 0), DefaultTimeout))
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var space [512]byte // more than most answers and names
	x := Exchange{Request: Request{LocalAddr: c.LocalAddr(), RemoteAddr: c.RemoteAddr()}}
	if x.Err = c.SetDeadline(deadline); x.Err == nil {
		x.Reply, x.Err = s.exchange(ctx, c, &x.Request, space[:0])
	}
	x.Duration = time.Since(begin)
	if x.Err == nil {
		finish(c, space[:], deadline)
	}
	s.finished(ctx, x)
}

// exchange reads the name if ReadName is set, calls the handler, and writes its answer. buf is an
// empty buffer for the name and the answer.
func (s *Server) exchange(ctx context.Context, c net.Conn, q *Request, buf []byte) (Reply, error) {
	if s.ReadName {
		name, err := readName(c, buf)
		if err != nil {
			return Reply{}, err
		}
		q.Name = name
	}
	r, err := s.callHandler(ctx, q)
	if err != nil {
		return Reply{}, err
	}
	if buf, err = r.AppendLine(buf); err != nil {
		return r, err
	}
	_, err = c.Write(buf)
	return r, err
}

// callHandler returns the answer of the handler. A panic of the handler becomes an error.
func (s *Server) callHandler(ctx context.Context, q *Request) (r Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = Reply{}, fmt.Errorf("%w: %v", ErrPanic, p)
			if s.Logger != nil {
				s.Logger.ErrorContext(ctx, "agentcheck: handler panicked",
					"name", q.Name, "remote", q.RemoteAddr, "panic", p, "stack", string(debug.Stack()))
			}
		}
	}()
	return s.Handler.ServeAgent(ctx, q), nil
}

func (s *Server) finished(ctx context.Context, x Exchange) {
	if x.Err != nil && s.Logger != nil && !errors.Is(x.Err, ErrPanic) {
		s.Logger.DebugContext(ctx, "agentcheck: no answer",
			"name", x.Request.Name, "remote", x.Request.RemoteAddr, "err", x.Err)
	}
	if s.Finished != nil {
		s.Finished(x)
	}
}

// readName reads up to the first CR or LF. The end of the input also ends a name that is not empty.
func readName(c net.Conn, buf []byte) (string, error) {
	for {
		if len(buf) > MaxName {
			return "", fmt.Errorf("%w within %d bytes", ErrNoName, MaxName)
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(2*cap(buf), MaxName+1)), buf...)
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		fresh := buf[len(buf) : len(buf)+n]
		if end := bytes.IndexAny(fresh, "\r\n"); end >= 0 {
			return string(buf[:len(buf)+end]), nil
		}
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF) && len(buf) > 0 && len(buf) <= MaxName:
			return string(buf), nil
		case err != nil:
			return "", fmt.Errorf("%w: %q, then %w", ErrNoName, buf, err)
		}
	}
}

// finish closes the sending side, then reads and discards until the peer closes its side. The
// caller then closes the socket. Closing a socket with unread input sends a reset, and a reset
// makes the peer discard an answer that it has not read yet (RFC 2525, section 2.17).
func finish(c net.Conn, sink []byte, deadline time.Time) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if soon := time.Now().Add(maxLinger); soon.Before(deadline) && c.SetReadDeadline(soon) != nil {
		return
	}
	for left := maxDiscard; left > 0; {
		n, err := c.Read(sink)
		if err != nil {
			return
		}
		left -= n
	}
}
