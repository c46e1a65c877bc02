package agentcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client makes agent checks as HAProxy does. The zero value is ready to use. Several goroutines may
// use a Client at the same time if its fields do not change.
type Client struct {
	// Send is the text to send first, like HAProxy's agent-send. The Client adds no line end, so
	// Send usually ends in "\n". "" sends nothing.
	Send string

	// Timeout is the longest duration of a Check. 0 or less means DefaultTimeout.
	Timeout time.Duration
}

// Check connects to addr ("host:port"), sends Send, reads one line, and returns the result of
// [Parse]. If the error wraps a [*WordError], the Reply has the settings that HAProxy would apply.
// With any other error the Reply is zero. Check returns when ctx ends or Timeout has passed.
func (c *Client) Check(ctx context.Context, addr string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(c.Timeout, 0), DefaultTimeout))
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Reply{}, fmt.Errorf("agentcheck: %w", err)
	}
	defer conn.Close()
	// When the context ends, the reads and writes below fail.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	line, err := c.exchange(conn)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Reply{}, fmt.Errorf("agentcheck: asking %s: %w", addr, err)
	}
	return Parse(line)
}

// exchange sends Send and returns the bytes that the agent sends, up to the first read that
// contains a line end, the end of the connection, or more than MaxLine bytes.
func (c *Client) exchange(conn net.Conn) ([]byte, error) {
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
