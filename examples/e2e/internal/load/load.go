// Package load sends a steady stream of requests and records every one.
//
// It writes requests and reads responses itself. It does not use http.Transport, because
// http.Transport repeats some failed requests and so hides failures. There is one exception: if the
// server closes a kept connection without a response, a client may repeat the request (RFC 9110,
// section 9.2.2). Package load repeats such a request once and counts the repetition.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

// Config describes a load.
type Config struct {
	// Dial opens connections from the machine that sends the load.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Address is an IP address and a port.
	Address string
	// Host is the Host header. Path may have a query. "" means "/".
	Host, Path string
	// Rate is the total number of requests a second. 0 means 200.
	Rate float64
	// Kept is the number of senders that each use one connection for all their requests. Fresh is
	// the number of senders that open a new connection for each request. If both are 0, Kept is 8
	// and Fresh is 4. Each sender sends an equal share of Rate.
	Kept, Fresh int
	// Timeout is the limit for a request, from dialling to its last byte. 0 means 5 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
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
type Run struct {
	*Log
	cancel  context.CancelFunc
	senders sync.WaitGroup
}

// Start starts to send. The load ends when ctx ends, or with a call of Stop.
func Start(ctx context.Context, cfg Config) *Run {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	r := &Run{Log: &Log{}, cancel: cancel}
	n := cfg.Kept + cfg.Fresh
	for i := range n {
		s := &sender{cfg: cfg, log: r.Log, fresh: i >= cfg.Kept}
		every := time.Duration(float64(time.Second) * float64(n) / cfg.Rate)
		first := every * time.Duration(i) / time.Duration(n)
		r.senders.Go(func() { s.run(ctx, first, every) })
	}
	return r
}

// Stop ends the load, waits for the requests in progress, and returns the record.
func (r *Run) Stop() *Log {
	r.cancel()
	r.senders.Wait()
	return r.Log
}

// sender sends one request at a time.
type sender struct {
	cfg   Config
	log   *Log
	fresh bool

	conn net.Conn
	in   *bufio.Reader
}

func (s *sender) run(ctx context.Context, first, every time.Duration) {
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

func (s *sender) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn, s.in = nil, nil
	}
}

// errStale means that the server had closed a kept connection.
var errStale = errors.New("load: the server closed a kept connection")

// request sends one request. It repeats the request once if the server had closed the kept
// connection.
func (s *sender) request(ctx context.Context) Request {
	r := Request{Start: time.Now(), Kept: s.conn != nil}
	ctx, cancel := context.WithDeadline(ctx, r.Start.Add(s.cfg.Timeout))
	defer cancel()
	r.Status, r.Answer, r.Err = s.exchange(ctx)
	if errors.Is(r.Err, errStale) {
		r.Repeated = true
		r.Status, r.Answer, r.Err = s.exchange(ctx)
	}
	r.End = time.Now()
	if r.Err != nil || s.fresh {
		s.close()
	}
	return r
}

func (s *sender) exchange(ctx context.Context) (status int, answer pod.Answer, err error) {
	kept := s.conn != nil
	if !kept {
		conn, err := s.cfg.Dial(ctx, "tcp", s.cfg.Address)
		if err != nil {
			return 0, answer, fmt.Errorf("dial: %w", err)
		}
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
	_, err = fmt.Fprintf(s.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: e2e-load\r\nConnection: %s\r\n\r\n", s.cfg.Path, s.cfg.Host, connection)
	if err == nil {
		_, err = s.in.Peek(1)
	}
	if err != nil {
		s.close()
		if kept && closedByPeer(err) {
			return 0, answer, errStale
		}
		return 0, answer, fmt.Errorf("no response: %w", err)
	}
	return s.read()
}

func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// read reads a response to its end.
func (s *sender) read() (status int, answer pod.Answer, err error) {
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return 0, answer, fmt.Errorf("incomplete response: %w", err)
	}
	defer res.Body.Close()
	// The first line of the body is the Answer. The rest is padding.
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
	if err := json.Unmarshal(line, &answer); err != nil {
		return res.StatusCode, answer, fmt.Errorf("not a pod's answer: %w", err)
	}
	return res.StatusCode, answer, nil
}
