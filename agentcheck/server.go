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

// MaxName is the length of the longest name that a Server reads, in bytes and without the line end.
const MaxName = 1024

// Defaults of a Server.
const (
	// DefaultTimeout is HAProxy's default agent-inter, the time after which HAProxy stops waiting
	// for an answer.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxConns is the number of exchanges that may run at the same time if MaxConns is 0. It
	// is far more than most agents need. For example, 5,000 checks per second that take 1 ms each
	// need 5 connections at the same time.
	DefaultMaxConns = 1024
)

// After the Server has sent the answer, it reads and drops the rest of the client's bytes within
// these limits. HAProxy closes the connection as soon as it has the answer. Another client may
// leave the connection open, but must not occupy one of the MaxConns connections for long.
const (
	maxDiscard = 64 << 10 // bytes
	maxLinger  = 250 * time.Millisecond
)

// These are values of Exchange.Err. They mean that the server sent no answer.
var (
	// ErrNoName means that the server waited for a name, but received no complete line within
	// Timeout. The usual cause: the text of agent-send in HAProxy's configuration does not end in
	// \n, and HAProxy does not append a line end.
	ErrNoName = errors.New("agentcheck: no name with a line end")
	// ErrEvicted means that the server closed the connection before it had written the answer, to
	// make room for a connection of another client address.
	ErrEvicted = errors.New("agentcheck: closed to make room for another client")
	// ErrTooManyConns means that the server closed the connection, because MaxConns exchanges ran
	// and too many connections waited.
	ErrTooManyConns = errors.New("agentcheck: too many connections wait")
	// ErrPanic means that the handler panicked.
	ErrPanic = errors.New("agentcheck: handler panicked")
)

// Server answers agent checks. Several goroutines may call its methods; do not change its fields
// after the first call.
//
// The server sends each answer, closes its sending side, and reads until HAProxy closes the
// connection. So HAProxy receives no reset, even if it has sent bytes that the server does not
// need.
type Server struct {
	// Handler decides which answer HAProxy gets. It must not be nil.
	Handler Handler

	// If ReadName is true, the server reads one line, which agent-send configures, into
	// Request.Name before it answers. So one port can answer for many services. Without agent-send
	// HAProxy sends nothing, and ReadName must be false.
	ReadName bool

	// Timeout limits one exchange: reading the name, running the handler, writing the answer, and
	// waiting for HAProxy to close the connection (at most 250 ms). 0 and negative values mean
	// DefaultTimeout.
	Timeout time.Duration

	// MaxConns limits the connections that the server answers at the same time. 0 means
	// DefaultMaxConns, a negative number means no limit.
	//
	// At the limit, new connections wait: up to 128, or up to MaxConns if MaxConns is larger than
	// 128. The server closes each further new connection, and Finished receives ErrTooManyConns.
	//
	// A client that opens connections without end cannot lock HAProxy out. Each client address has
	// a share of the connections: MaxConns divided by the number of client addresses. At the limit,
	// or without a free descriptor, the server closes the oldest connection of an address that has
	// more than its share. Exchange.Evicted is then true.
	MaxConns int

	// Finished, if not nil, receives each finished exchange, for example to count it. The server
	// calls it from several goroutines at the same time.
	Finished func(Exchange)

	// Logger, if not nil, gets a warning for each failed accept, an error for each panic of the
	// handler, and a debug line for each exchange that failed for another reason.
	Logger *slog.Logger

	once  sync.Once
	group netserve.Group
}

// Exchange is one finished exchange with HAProxy.
type Exchange struct {
	Request  Request
	Reply    Reply         // zero if the server did not call the handler, or the handler panicked
	Duration time.Duration // from accept until the kernel has the answer or the exchange failed
	// Err is nil if the server has written the answer. If Err is not nil, HAProxy got no answer and
	// keeps the settings of the last answer.
	Err error
	// Evicted is true if the server closed the connection to make room for a connection of another
	// client address; see Server.MaxConns. Err is nil if the server had already written the answer.
	Evicted bool
}

// Serve answers the checks that arrive at l until Shutdown or Close, and then returns
// [ErrServerClosed]. It returns another error only if the caller has closed l. After errors such as
// a lack of file descriptors, it tries again after 5 ms to 1 s. Several calls of Serve may run at
// the same time.
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

// Shutdown closes the listeners and waits until the running exchanges have ended, or returns the
// error of ctx. It does not drain the server in HAProxy, because HAProxy keeps the last answer. To
// drain the server, let the handler answer "drain" for at least one agent-inter before you call
// Shutdown.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	return s.group.Shutdown(ctx)
}

// Close closes the listeners and all connections, and cancels the contexts of the handlers. It does
// not wait for the handlers. To wait, call Shutdown after Close.
func (s *Server) Close() error {
	s.once.Do(s.init)
	return s.group.Close()
}

func (s *Server) init() {
	s.group.MaxConns = DefaultMaxConns
	if s.MaxConns != 0 {
		s.group.MaxConns = max(s.MaxConns, 0)
	}
	s.group.Refused = func(c net.Conn) {
		s.finished(context.Background(), Exchange{
			Request: Request{LocalAddr: c.LocalAddr(), RemoteAddr: c.RemoteAddr()}, Err: ErrTooManyConns,
		})
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
	var space [512]byte // large enough for most answers and names
	x := Exchange{Request: Request{LocalAddr: c.LocalAddr(), RemoteAddr: c.RemoteAddr()}}
	if x.Err = c.SetDeadline(deadline); x.Err == nil {
		x.Reply, x.Err = s.exchange(ctx, c, &x.Request, space[:0])
	}
	x.Duration = time.Since(begin)
	if x.Err == nil {
		finish(c, space[:], deadline)
	}
	if x.Evicted = netserve.Evicted(ctx); x.Evicted && x.Err != nil && !errors.Is(x.Err, ErrPanic) {
		x.Err = fmt.Errorf("%w: %w", ErrEvicted, x.Err)
	}
	s.finished(ctx, x)
}

// exchange reads the name if ReadName is set, calls the handler, and writes the answer. buf is an
// empty slice. exchange uses the capacity of buf for the name and the answer.
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

// callHandler returns the answer of the handler. If the handler panics, it returns an error that
// wraps ErrPanic.
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

// readName reads a name and its line end, CR or LF. If the client closes its sending side after at
// least one byte, the name needs no line end.
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

// finish closes the sending side, and discards input until the client closes its side. If a program
// closes a socket with unread input, the kernel sends a reset, and the client discards an answer
// that it has not read yet (RFC 2525, section 2.17).
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
