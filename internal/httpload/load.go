// Package httpload sends a steady stream of HTTP/1.1 requests and records each of them.
//
//	run := httpload.Start(ctx, httpload.Config[Answer]{Dial: dialer.DialContext, Address: "10.0.0.1:80", Parse: parse})
//	…
//	log := run.Stop()
//	err := log.Err(time.Time{}, time.Time{}) // nil if no request failed
//
// It does not use http.Transport, which repeats some failed requests and so hides failures.
package httpload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config describes a load. A is the type of an answer.
type Config[A any] struct {
	// Dial opens connections from the machine that sends the load.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Address is an IP address and a port.
	Address string
	// Host is the Host header. Path is the path of the requests, and may have a query; an empty
	// Path means "/".
	Host, Path string
	// Rate is the total number of requests a second. 0 means 200.
	Rate float64
	// Posts is the share of the requests that are POST with a short body, from 0 to 1. All other
	// requests are GET. Each sender spreads its POST requests evenly.
	Posts float64
	// Kept senders each use one connection for all their requests. Fresh senders open a new
	// connection for each request. If both numbers are 0, Kept is 8 and Fresh is 4. All senders
	// have an equal share of Rate.
	Kept, Fresh int
	// StartOver is the time over which the senders begin to send, one after the other. 0 means the
	// time between two requests of a sender.
	StartOver time.Duration
	// Timeout is the limit for a request, from dialling to its last byte. 0 means 5 s.
	Timeout time.Duration
	// Repeat makes a sender repeat a request once if the server had closed the kept connection
	// without a response, as RFC 9110 section 9.2.2 allows for idempotent methods. Without Repeat,
	// such a request is a failure. If a sender notices the close before it sends the request, it
	// always opens a new connection.
	Repeat bool
	// Parse returns the answer in the first line of the body of a response with status 200.
	Parse func(line []byte) (A, error)
}

func (c Config[A]) withDefaults() Config[A] {
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Rate == 0 {
		c.Rate = 200
	}
	if c.Kept == 0 && c.Fresh == 0 {
		c.Kept, c.Fresh = 8, 4
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// Run is a load in progress. Goroutines may call its methods concurrently.
type Run[A any] struct {
	*Log[A]
	cancel  context.CancelFunc
	senders sync.WaitGroup
	opened  atomic.Int64
}

// Start starts to send the requests that cfg describes. The load ends when ctx ends, or with a call
// of Stop.
func Start[A any](ctx context.Context, cfg Config[A]) *Run[A] {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	r := &Run[A]{Log: &Log[A]{}, cancel: cancel}
	n := cfg.Kept + cfg.Fresh
	every := time.Duration(float64(time.Second) * float64(n) / cfg.Rate)
	over := cfg.StartOver
	if over == 0 {
		over = every
	}
	for i := range n {
		s := &sender[A]{cfg: cfg, log: r.Log, fresh: i >= cfg.Kept, opened: &r.opened}
		first := over * time.Duration(i) / time.Duration(n)
		r.senders.Go(func() { s.run(ctx, first, every) })
	}
	return r
}

// Stop ends the load, waits for the requests in progress, and returns the record.
func (r *Run[A]) Stop() *Log[A] {
	r.cancel()
	r.senders.Wait()
	return r.Log
}

// Connections returns the number of connections that the senders have opened.
func (r *Run[A]) Connections() int { return int(r.opened.Load()) }

// sender sends one request at a time.
type sender[A any] struct {
	cfg    Config[A]
	log    *Log[A]
	fresh  bool
	opened *atomic.Int64
	posts  float64 // number of POST requests that are due; a fraction below 1 remains after each request

	conn net.Conn
	in   *bufio.Reader
}

func (s *sender[A]) run(ctx context.Context, first, every time.Duration) {
	defer s.close()
	timer := time.NewTimer(first)
	defer timer.Stop()
	for next := time.Now().Add(first); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.log.add(s.request(context.WithoutCancel(ctx)))
		// If a slow response has delayed the next request, continue from now. Do not send a burst
		// to catch up.
		if next = next.Add(every); time.Until(next) < 0 {
			next = time.Now()
		}
		timer.Reset(time.Until(next))
	}
}

func (s *sender[A]) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn, s.in = nil, nil
	}
}

// errStale means that the server had closed a connection that the sender had kept open for its next
// request.
var errStale = errors.New("httpload: the server closed a kept connection")

// request sends one request.
func (s *sender[A]) request(ctx context.Context) Request[A] {
	method := http.MethodGet
	if s.posts += s.cfg.Posts; s.posts >= 1 {
		s.posts--
		method = http.MethodPost
	}
	if s.conn != nil && s.closedByServer() {
		s.close()
	}
	r := Request[A]{Start: time.Now(), Method: method, Kept: s.conn != nil}
	ctx, cancel := context.WithDeadline(ctx, r.Start.Add(s.cfg.Timeout))
	defer cancel()
	r.Status, r.Answer, r.Err = s.exchange(ctx, method)
	if s.cfg.Repeat && errors.Is(r.Err, errStale) {
		r.Repeated = true
		r.Status, r.Answer, r.Err = s.exchange(ctx, method)
	}
	r.End = time.Now()
	if r.Err != nil || s.fresh {
		s.close()
	}
	return r
}

// closedByServer reports whether the server has closed the kept connection. It does not read with a
// deadline in the past: such a read of package net returns the deadline's error even if the
// connection is closed.
func (s *sender[A]) closedByServer() bool {
	conn, ok := s.conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		closed = endOfInput(fd)
		return true
	})
	return err != nil || closed
}

func (s *sender[A]) exchange(ctx context.Context, method string) (status int, answer A, err error) {
	kept := s.conn != nil
	if !kept {
		conn, err := s.cfg.Dial(ctx, "tcp", s.cfg.Address)
		if err != nil {
			return 0, answer, fmt.Errorf("dial: %w", err)
		}
		s.opened.Add(1)
		s.conn, s.in = conn, bufio.NewReader(conn)
	}
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetDeadline(deadline); err != nil {
		return 0, answer, fmt.Errorf("deadline: %w", err)
	}
	connection := "keep-alive"
	if s.fresh {
		connection = "close"
	}
	body := ""
	if method == http.MethodPost {
		body = "Content-Length: 4\r\n\r\nload"
	} else {
		body = "\r\n"
	}
	_, err = fmt.Fprintf(s.conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: httpload\r\nConnection: %s\r\n%s", method, s.cfg.Path, s.cfg.Host, connection, body)
	if err == nil {
		_, err = s.in.Peek(1)
	}
	if err != nil {
		s.close()
		if kept && isClosed(err) {
			return 0, answer, errStale
		}
		return 0, answer, fmt.Errorf("no response: %w", err)
	}
	return s.read()
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// read reads a response to its end.
func (s *sender[A]) read() (status int, answer A, err error) {
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return 0, answer, fmt.Errorf("incomplete response: %w", err)
	}
	defer res.Body.Close()
	// The first line of the body is the answer. The rest is padding.
	body := bufio.NewReader(res.Body)
	line, err := body.ReadSlice('\n')
	line = bytes.Clone(line)
	if err == nil || errors.Is(err, bufio.ErrBufferFull) {
		_, err = io.Copy(io.Discard, body)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return res.StatusCode, answer, fmt.Errorf("incomplete body: %w", err)
	}
	if res.Close {
		s.close()
	}
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, answer, fmt.Errorf("status %d", res.StatusCode)
	}
	if answer, err = s.cfg.Parse(line); err != nil {
		return res.StatusCode, answer, fmt.Errorf("unexpected answer: %w", err)
	}
	return res.StatusCode, answer, nil
}
