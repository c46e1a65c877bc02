package sniproxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/peek"
)

// After an inner hello, the answer of the backend decides how the connection goes on:
//
//   - ServerHello, an alert or the end of the stream: the relay moves the bytes as usual. The Server
//     looks at the answer without taking it out of the socket (MSG_PEEK).
//   - HelloRetryRequest: the client sends a second encrypted hello. An echConn replaces this hello by
//     the second inner hello. Two goroutines relay the connection.

// dialECH returns a function that connects to s.upstream, sends a PROXY header and the inner hello,
// and waits for the answer of the backend. The caller must hold s.mu.
func (s *session) dialECH(proxyHeader []byte) func(context.Context) (net.Conn, error) {
	srv, addr, e, client := s.srv, s.upstream, s.echState(), s.client
	first := append(proxyHeader[:len(proxyHeader):len(proxyHeader)], e.records...)
	return func(ctx context.Context) (net.Conn, error) {
		c, err := srv.dial(ctx, addr)
		if err != nil || c == nil {
			return c, err
		}
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		_, err = c.Write(first)
		answer := helloUnknown
		if tcp, ok := c.(*net.TCPConn); ok && err == nil {
			answer, err = peekAnswer(tcp)
		}
		if !stop() {
			c.Close()
			return nil, context.Cause(ctx)
		}
		if err != nil {
			c.Close()
			return nil, err
		}
		s.mu.Lock()
		e.records = nil
		if answer == helloOther {
			e.opened = nil
		}
		s.mu.Unlock()
		if answer == helloOther {
			return c, nil
		}
		return &echConn{Conn: c, state: e, client: client, parser: peek.Parser{Accept: peek.TLS, MaxBytes: srv.MaxHello}}, nil
	}
}

// dial connects to an address with DialContext.
func (s *Server) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if s.DialContext != nil {
		return s.DialContext(ctx, "tcp", addr.String())
	}
	d := net.Dialer{KeepAlive: s.KeepAlive} // package relay does not set it for an echConn
	return d.DialContext(ctx, "tcp", addr.String())
}

// serverAnswer is the kind of the first bytes of a backend.
type serverAnswer uint8

const (
	helloUnknown serverAnswer = iota // too few bytes
	helloRetry                       // a HelloRetryRequest
	helloOther                       // a ServerHello, or anything else
)

// A HelloRetryRequest is a ServerHello whose random is a constant (RFC 8446 section 4.1.3).
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

const (
	typeServerHello = 2
	randomStart     = 4 + 2 // in a handshake message
	answerLen       = recordHeader + randomStart + sha256.Size
)

// answerOf returns the kind of the first bytes of a backend. The result is helloUnknown only if b has
// less than answerLen bytes, or if the ServerHello begins in a record of less than
// answerLen-recordHeader bytes. No known server sends such a record.
func answerOf(b []byte) serverAnswer {
	if len(b) > 0 && b[0] != recordHandshake || len(b) > recordHeader && b[recordHeader] != typeServerHello {
		return helloOther
	}
	if len(b) < answerLen {
		return helloUnknown
	}
	if binary.BigEndian.Uint16(b[3:]) < answerLen-recordHeader {
		return helloUnknown
	}
	if [sha256.Size]byte(b[recordHeader+randomStart:]) == retryRandom {
		return helloRetry
	}
	return helloOther
}

// echConn is the connection to a backend that has got an inner hello, and that may send a
// HelloRetryRequest. If it does, echConn replaces the second hello of the client by the second inner
// hello. All other bytes pass unchanged.
//
// If the second hello is wrong, echConn closes the connection to the backend. Read then returns an
// alert for the client and io.EOF, and Write drops the bytes of the client.
type echConn struct {
	net.Conn
	state  *echState
	client clientInfo
	parser peek.Parser // of the second hello

	mu     sync.Mutex
	answer serverAnswer
	seen   []byte // the first bytes of the backend, until "answer" is known
	failed []byte // the alert for the client that Read has not returned yet; not nil after a failure

	// Only Write uses these fields.
	passing bool   // no further record needs a look
	left    int    // the number of bytes until the next record of the client begins
	held    []byte // the first bytes of the next record, or of the second hello
}

// NetConn returns the connection below, so that package relay can find out what the backend has
// acknowledged, and can send RST.
func (c *echConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the direction to the backend.
func (c *echConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Read reads from the backend.
func (c *echConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		if n = copy(b, c.failed); n == 0 {
			return 0, io.EOF
		}
		c.failed = c.failed[n:]
		return n, nil
	}
	if c.answer == helloUnknown {
		c.seen = append(c.seen, b[:min(n, answerLen-len(c.seen))]...)
		c.answer = answerOf(c.seen)
		if c.answer == helloUnknown && len(c.seen) == answerLen {
			c.answer = helloOther // the ServerHello is in tiny records
		}
		if c.answer != helloUnknown {
			c.seen = nil
		}
	}
	return n, err
}

// progress returns the kind of the first bytes of the backend, and whether the second hello was wrong.
func (c *echConn) progress() (answer serverAnswer, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer, c.failed != nil
}

// The types of TLS records that a client may send before its second hello (RFC 8446 sections 5 and
// 4.2.10): change_cipher_spec, and application_data with early data.
const (
	recordChangeCipherSpec = 20
	recordApplicationData  = 23
)

// Write writes bytes of the client to the backend.
func (c *echConn) Write(b []byte) (int, error) {
	if c.passing {
		return c.Conn.Write(b)
	}
	for written := 0; ; {
		n, err := c.step(b[written:])
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// step sends, holds back or drops the first bytes of b, and returns the number of these bytes. It
// returns 0 only in the call in which it learns that the backend sends no HelloRetryRequest.
func (c *echConn) step(b []byte) (int, error) {
	answer, failed := c.progress()
	switch {
	case failed:
		return len(b), nil
	case c.passing:
		return c.Conn.Write(b)
	case answer == helloOther:
		c.pass()
		return 0, c.release()
	case c.left > 0:
		n, err := c.Conn.Write(b[:min(c.left, len(b))])
		c.left -= n
		return n, err
	case len(c.held) < recordHeader:
		n := min(recordHeader-len(c.held), len(b))
		c.held = append(c.held, b[:n]...)
		if len(c.held) < recordHeader {
			return n, nil
		}
		return n, c.beginRecord(answer)
	}
	c.held = append(c.held, b...)
	return len(b), c.secondHello()
}

// beginRecord looks at the header of a record of the client, which is in c.held. If the second hello
// begins, beginRecord leaves the header there. Otherwise it sends the header to the backend.
func (c *echConn) beginRecord(answer serverAnswer) error {
	switch kind := c.held[0]; {
	case kind == recordHandshake && answer == helloRetry:
		return nil // the second hello begins
	case kind == recordChangeCipherSpec || kind == recordApplicationData:
		c.left = int(binary.BigEndian.Uint16(c.held[3:]))
	default:
		c.pass() // an alert, or a record that the backend must refuse
	}
	return c.release()
}

// pass makes all later bytes of the client pass unchanged, and drops what only the second hello needs.
func (c *echConn) pass() { c.passing, c.state.opened = true, nil }

// release sends the bytes in c.held to the backend.
func (c *echConn) release() error {
	held := c.held
	c.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(held)
	return err
}

// secondHello sends the second inner hello, if the second hello of the client is complete.
func (c *echConn) secondHello() error {
	r, err := c.parser.Parse(c.held)
	if _, incomplete := err.(peek.NeedMore); incomplete {
		return nil
	}
	if r.Hello.Len == 0 {
		c.fail(&ech.Error{Alert: alertDecodeError, What: "second hello: " + err.Error()})
		return nil
	}
	message, err := c.state.opened.OpenSecond(r.Hello.Message(c.held))
	var wrong *ech.Error
	switch {
	case errors.As(err, &wrong):
		c.fail(wrong)
		return nil
	case !endsRecord(c.held, r.Hello.Len):
		c.fail(&ech.Error{Alert: alertDecodeError, What: "second hello: bytes after it in its record"})
		return nil
	}
	c.pass()
	c.held = append(appendRecords(nil, message, c.held[1:3]), c.held[r.Hello.Len:]...)
	return c.release()
}

// fail ends the connection to the backend. Read then returns the alert of err for the client.
func (c *echConn) fail(err *ech.Error) {
	c.state.failure.Store(err)
	c.held = nil
	c.mu.Lock()
	c.failed = alertRecord(c.client, err.Alert)
	c.mu.Unlock()
	c.Conn.Close() // ends a Read that waits
}
