package agentcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client asks agents as HAProxy does. The zero value is ready to use, and safe for concurrent
// use as long as its fields do not change.
type Client struct {
	// Send is what to send first, as HAProxy's agent-send: verbatim, so it mostly ends in "\n".
	Send string

	// Timeout bounds each Check as a whole. 0 means DefaultTimeout.
	Timeout time.Duration
}

// Check connects to addr ("host:port"), sends Send, reads one line and parses it. It returns
// what [Parse] does: a Reply that comes with an error that wraps a [*WordError] holds what HAProxy
// would apply. Any other error comes with the zero Reply. The context and Timeout bound it all.
func (c *Client) Check(ctx context.Context, addr string) (Reply, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Reply{}, fmt.Errorf("agentcheck: %w", err)
	}
	defer conn.Close()
	// An end of the context, for whatever cause, fails the reads and writes below.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	line, err := c.ask(conn)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Reply{}, fmt.Errorf("agentcheck: asking %s: %w", addr, err)
	}
	return Parse(line)
}

// ask returns what the agent says up to the first line end, the end of the connection, or more
// bytes than a line may have.
func (c *Client) ask(conn net.Conn) ([]byte, error) {
	if c.Send != "" {
		if _, err := io.WriteString(conn, c.Send); err != nil {
			return nil, err
		}
	}
	buf := make([]byte, 0, 512)
	for len(buf) <= MaxLine {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := conn.Read(buf[len(buf):cap(buf)])
		fresh := buf[len(buf) : len(buf)+n]
		buf = buf[:len(buf)+n]
		if bytes.ContainsAny(fresh, "\r\n") || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return buf, nil
}
