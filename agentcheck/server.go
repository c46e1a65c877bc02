package agentcheck

import (
	"bytes"
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

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("agentcheck: server closed")

// MaxName is the length of the longest name, without its line end, that a Server reads.
const MaxName = 1024

// Defaults of a Server.
const (
	// DefaultTimeout is HAProxy's default agent-inter, after which it gives up on an answer.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxConns is far above what checks need: 5,000 a second that take 1 ms each are 5.
	DefaultMaxConns = 1024
)

// What is read, and thrown away, after the answer is bounded in size and in time. HAProxy ends
// the connection as soon as it has the line: clients that do not must not keep its checks from
// the places under MaxConns.
const (
	maxDrain  = 64 << 10
	maxLinger = 250 * time.Millisecond
)

// Errors of an exchange that ended without an answer; see [Exchange].
var (
	// ErrNoName: the server waits for a name, and it did not come with a line end in time.
	// HAProxy sends agent-send as it is written: it must end in \n.
	ErrNoName = errors.New("agentcheck: no name with a line end")
	// ErrPanic: the handler panicked.
	ErrPanic = errors.New("agentcheck: handler panicked")
)

// Server answers agent checks. Its fields must not change once it serves; its methods may be
// called from several goroutines.
//
// It writes each answer with one write, then ends its side of the connection and waits for
// HAProxy to end the other, so that HAProxy reads the answer and a clean end even if it had sent
// something that nobody read.
type Server struct {
	// Handler decides on the answers. It must not be nil.
	Handler Handler

	// ReadName makes the server wait for a line before it answers, the text of HAProxy's
	// agent-send, and puts it in Request.Name: so one port can answer for many services. Without
	// agent-send HAProxy sends nothing, so by default the server waits for nothing.
	ReadName bool

	// Timeout bounds each exchange as a whole: the name, the handler's context, the answer, and
	// the end of the connection, for which there are 250 ms at most. 0 means DefaultTimeout.
	Timeout time.Duration

	// MaxConns bounds how many exchanges go on at the same time; others wait in the kernel. 0
	// means DefaultMaxConns, less than 0 no bound.
	MaxConns int

	// Finished, if not nil, is told of every exchange when it is over, for metrics. It is called
	// from several goroutines at once.
	Finished func(Exchange)

	// Logger, if not nil, gets a line for each failed accept (warning), panic of the handler
	// (error), and exchange that failed otherwise (debug).
	Logger *slog.Logger

	once  sync.Once
	group netserve.Group
}

// Exchange is one finished exchange with HAProxy.
type Exchange struct {
	Request  Request
	Reply    Reply         // the zero Reply if the handler was not asked or panicked
	Duration time.Duration // from accept until the answer was handed to the kernel, or failed
	// Err is nil if the answer was written. Else HAProxy keeps the last answer in force.
	Err error
}

// Serve answers the checks that arrive at l. It blocks until Shutdown or Close and then returns
// [ErrServerClosed], or until l is closed by somebody else and then returns the error of Accept.
// All other errors of Accept, such as a lack of file descriptors, are retried after a pause of
// 5 ms, growing to 1 s. Serve may be called several times, for several listeners, and closes each.
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

// Shutdown closes the listeners and waits until the exchanges that were begun are over, at most
// until ctx ends, whose error it then returns. To HAProxy a closed port changes nothing: the last
// answer stays in force. A handler that should drain before the end must say so for at least one
// agent-inter before.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	return s.group.Shutdown(ctx)
}

// Close closes the listeners and all connections, and ends the context of handlers, without
// waiting for them; Shutdown afterwards waits.
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
			s.Logger.Warn("agentcheck: accept failed", "listener", l.Addr(), "error", err, "pause", pause)
		}
	}
}

func (s *Server) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return DefaultTimeout
}

// serveConn is one exchange.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	begin := time.Now()
	deadline := begin.Add(s.timeout())
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

// exchange reads the name if there is one to read, asks the handler and writes its answer, for
// both of which it has the empty buf.
func (s *Server) exchange(ctx context.Context, c net.Conn, q *Request, buf []byte) (Reply, error) {
	if s.ReadName {
		name, err := readName(c, buf)
		if err != nil {
			return Reply{}, err
		}
		q.Name = name
	}
	r, err := s.ask(ctx, q)
	if err != nil {
		return Reply{}, err
	}
	if buf, err = r.AppendText(buf); err != nil {
		return r, err
	}
	_, err = c.Write(buf)
	return r, err
}

// ask calls the handler. A panic of it costs this answer only.
func (s *Server) ask(ctx context.Context, q *Request) (r Reply, err error) {
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
			"name", x.Request.Name, "remote", x.Request.RemoteAddr, "error", x.Err)
	}
	if s.Finished != nil {
		s.Finished(x)
	}
}

// readName reads up to the first CR or LF, or to the end of the input if something came before.
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

// finish ends the connection in the order in which the peer sees the answer, then the end, and
// never a reset: closing a socket with unread input resets it, and a reset makes the peer throw
// away what it has not read yet (RFC 2525, section 2.17).
func finish(c net.Conn, sink []byte, deadline time.Time) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if soon := time.Now().Add(maxLinger); soon.Before(deadline) && c.SetReadDeadline(soon) != nil {
		return
	}
	for left := maxDrain; left > 0; {
		n, err := c.Read(sink)
		if err != nil {
			return
		}
		left -= n
	}
}
