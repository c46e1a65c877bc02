package netserve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
)

// HTTPLimiter bounds the connections of an http.Server. Use NewHTTPLimiter. A connection waits
// while no handler runs for it.
//
// When there are too many connections, the limiter closes a connection of the client address that
// has the most connections; a waiting connection counts as 8. It closes the oldest waiting
// connection of this address. If the address has no waiting connection, but more connections than
// its share (see package fairshare), the limiter closes the connection whose handler has run for
// longest.
type HTTPLimiter struct {
	conns   fairshare.Table[*httpConn]
	evicted atomic.Int64
	refused atomic.Int64
}

// NewHTTPLimiter limits srv to maxConns connections, over all listeners together. It wraps
// srv.Handler, which must not be nil, and srv.ConnContext. srv must serve only listeners that the
// method Listener returns. Call NewHTTPLimiter and Listener before the first call of Serve.
func NewHTTPLimiter(srv *http.Server, maxConns int) *HTTPLimiter {
	l := &HTTPLimiter{}
	l.conns.Max = maxConns
	handler, connContext := srv.Handler, srv.ConnContext
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(httpConnKey{}).(*httpConn); ok {
			c.countHandler(1)
			defer c.countHandler(-1)
		}
		handler.ServeHTTP(w, r)
	})
	srv.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, nc)
		}
		if c := httpConnOf(nc); c != nil {
			ctx = context.WithValue(ctx, httpConnKey{}, c)
		}
		return ctx
	}
	return l
}

// Counts returns two numbers of connections that the limiter has closed since the start. evicted is
// the number of open connections that it closed to make room for new connections. refused is the
// number of new connections that it closed because it found no room for them.
func (l *HTTPLimiter) Counts() (evicted, refused int64) { return l.evicted.Load(), l.refused.Load() }

// Listener returns a listener whose connections the limiter counts.
func (l *HTTPLimiter) Listener(inner net.Listener) net.Listener {
	return &httpListener{inner, l}
}

type httpListener struct {
	net.Listener
	limiter *HTTPLimiter
}

// Accept returns the next connection for which there is room, and closes the others. If the process
// has no free descriptor, it closes some open connections and tries once more. After an error,
// http.Server pauses, and calls Accept again.
func (l *httpListener) Accept() (net.Conn, error) {
	for tried := false; ; {
		nc, err := l.Listener.Accept()
		if err != nil {
			if IsOutOfDescriptors(err) && l.limiter.shed() && !tried {
				tried = true
				continue
			}
			return nil, err
		}
		c := &httpConn{Conn: nc, limiter: l.limiter}
		c.since.Store(int64(time.Since(clockStart)))
		// A connection over a Unix socket is trusted, because only the user of this process can
		// connect to the socket.
		_, trusted := nc.LocalAddr().(*net.UnixAddr)
		victim, err := l.limiter.conns.Add(c, keyOf(nc), trusted)
		if err != nil {
			l.limiter.refused.Add(1)
			nc.Close()
			continue
		}
		l.limiter.evict(victim)
		return c, nil
	}
}

// shed closes some connections after the process has run out of descriptors. It returns false if it
// has closed none.
func (l *HTTPLimiter) shed() bool {
	victims := l.conns.Shed()
	for _, victim := range victims {
		l.evict(victim)
	}
	return len(victims) > 0
}

// evict closes a connection that makes room. c may be nil.
func (l *HTTPLimiter) evict(c *httpConn) {
	if c != nil {
		l.evicted.Add(1)
		c.Conn.Close()
	}
}

// clockStart is the time from which httpConn.since counts.
var clockStart = time.Now()

// httpConn is a connection of an http.Server with an HTTPLimiter.
type httpConn struct {
	net.Conn
	limiter *HTTPLimiter
	since   atomic.Int64 // time of the last change between waiting and serving, in nanoseconds after clockStart
	share   fairshare.Entry[*httpConn]

	mu       sync.Mutex
	handlers int // number of handlers that run; with HTTP/2, several run at the same time
}

type httpConnKey struct{}

// httpConnOf returns the httpConn that a connection of an http.Server wraps, or nil if it wraps
// none.
func httpConnOf(nc net.Conn) *httpConn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*httpConn)
	return c
}

// ShareEntry implements fairshare.Member.
func (c *httpConn) ShareEntry() *fairshare.Entry[*httpConn] { return &c.share }

// Idle implements fairshare.Member.
func (c *httpConn) Idle() time.Duration {
	return time.Since(clockStart) - time.Duration(c.since.Load())
}

// countHandler records that a handler begins (change is 1) or ends (-1). http.StateIdle does not
// show this: when a client resets an HTTP/2 stream, the state can change to idle before the handler
// of the stream begins.
func (c *httpConn) countHandler(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.handlers
	c.handlers += change
	switch {
	case before == 0:
		c.since.Store(int64(time.Since(clockStart)))
		_, _ = c.limiter.conns.Serve(c) // an evicted connection is closed already
	case c.handlers == 0:
		c.since.Store(int64(time.Since(clockStart)))
		c.limiter.conns.Wait(c)
	}
}

// Close implements net.Conn.
func (c *httpConn) Close() error {
	c.limiter.conns.Remove(c)
	return c.Conn.Close()
}
