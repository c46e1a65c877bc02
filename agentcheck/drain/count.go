package drain

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connEntry is a connection that the Drainer counts. The mutex of the Drainer guards its fields.
type connEntry struct {
	since    time.Time // the last change between idle and busy
	idle     bool
	requests int // running handlers of an http.Server
	control  int // how many of the requests are for Control
}

type entryKey struct{}

func (d *Drainer) addLocked(idle bool) *connEntry {
	e := &connEntry{since: time.Now(), idle: idle}
	if d.conns == nil {
		d.conns = map[*connEntry]struct{}{}
	}
	d.conns[e] = struct{}{}
	return e
}

func (d *Drainer) remove(e *connEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, e)
}

// loadLocked counts open connections and requests. It does not count a connection on which only
// requests to Control have arrived: a POST to Control waits for the end of the drain, so the drain
// must not wait for this connection.
func (d *Drainer) loadLocked(now time.Time) Load {
	l := Load{Requests: d.requests}
	for e := range d.conns {
		l.Requests -= e.control
		switch {
		case e.control > 0 && e.control >= e.requests:
		case e.idle:
			l.Connections++
			l.Idle++
		default:
			l.Connections++
			l.Oldest = max(l.Oldest, now.Sub(e.since))
		}
	}
	return l
}

// Attach makes the Drainer count the connections and requests of srv. During a drain, srv also
// closes connections, with the header "Connection: close" or with GOAWAY. Call Attach once for each
// server, before the server starts: it wraps the fields Handler, ConnState and ConnContext.
//
// The Drainer counts a hijacked connection, such as a WebSocket, until the handler returns. With a
// listener of [Drainer.Listener], it counts the connection until somebody closes it.
func (d *Drainer) Attach(srv *http.Server) {
	handler, connState, connContext := srv.Handler, srv.ConnState, srv.ConnContext
	if handler == nil {
		handler = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, _ := r.Context().Value(entryKey{}).(*connEntry)
		d.countRequest(e, 1)
		defer d.countRequest(e, -1)
		if d.draining.Load() && r.Header["Upgrade"] == nil && (r.ProtoMajor < 2 || d.mayGoAway(e)) {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
	srv.ConnState = func(nc net.Conn, s http.ConnState) {
		d.setState(nc, s)
		if connState != nil {
			connState(nc, s)
		}
	}
	srv.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, nc)
		}
		return context.WithValue(ctx, entryKey{}, d.entryOf(nc))
	}
}

// mayGoAway reports whether net/http may send GOAWAY with a response on the HTTP/2 connection e:
// half of Delay has passed since the drain began, and e has no other running request.
func (d *Drainer) mayGoAway(e *connEntry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.began.IsZero() && time.Since(d.began) >= d.delay()/2 && (e == nil || e.requests == 1)
}

// countRequest records that the handler of a request on the connection e begins (change is 1) or
// ends (change is -1).
func (d *Drainer) countRequest(e *connEntry, change int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests += change
	if e != nil {
		e.requests += change
	}
}

// setState records the state of a connection of an http.Server. A new connection counts as idle
// until the first byte of a request arrives, because net/http reports StateActive only then.
func (d *Drainer) setState(nc net.Conn, s http.ConnState) {
	e := d.entryOf(nc)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch s {
	case http.StateNew, http.StateIdle:
		e.idle, e.since = true, time.Now()
	case http.StateActive:
		e.idle, e.since = false, time.Now()
	case http.StateHijacked, http.StateClosed:
		if d.http[nc] == e { // otherwise the listener is wrapped, and conn.Close removes the entry
			delete(d.http, nc)
			delete(d.conns, e)
		}
	}
}

// entryOf returns the entry of a connection of an http.Server. If the Drainer has not wrapped the
// listener of the connection, entryOf adds an entry at its first call for this connection.
func (d *Drainer) entryOf(nc net.Conn) *connEntry {
	inner := nc
	if t, ok := inner.(*tls.Conn); ok {
		inner = t.NetConn()
	}
	if c, ok := inner.(*conn); ok && c.d == d {
		return c.entry
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.http[nc]
	if e == nil {
		e = d.addLocked(true)
		if d.http == nil {
			d.http = map[net.Conn]*connEntry{}
		}
		d.http[nc] = e
	}
	return e
}

// Listener returns a listener for servers that do not use net/http. The Drainer counts each of its
// connections until the connection is closed. The Drainer cannot know whether such a connection is
// idle, so the drain waits for each of them.
func (d *Drainer) Listener(l net.Listener) net.Listener { return &listener{l, d} }

type listener struct {
	net.Listener
	d *Drainer
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return &conn{Conn: nc, d: l.d, entry: l.d.addLocked(false)}, nil
}

// conn is a connection that the Drainer counts until it is closed.
type conn struct {
	net.Conn
	d     *Drainer
	entry *connEntry
	once  sync.Once
}

// NetConn returns the connection of the inner listener.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite calls CloseWrite of the inner connection. If the inner connection does not have this
// method, CloseWrite returns net.ErrClosed.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return net.ErrClosed
}

func (c *conn) Close() error {
	defer c.once.Do(func() { c.d.remove(c.entry) })
	return c.Conn.Close()
}
