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
// use a Client; do not change its fields after the first use.
type Client struct {
	// Send is the text that the Client sends before it reads, like HAProxy's agent-send. The Client
	// does not append a line end, so Send usually ends in "\n". If Send is "", the Client sends
	// nothing.
	Send string

	// Timeout is the longest time that one call of Check may last. 0 and negative values mean
	// DefaultTimeout.
	Timeout time.Duration
}

// Check connects to addr ("host:port"), sends c.Send, reads one line, and returns the result of
// [Parse]. Check ends at the latest when ctx ends or after Timeout.
//
// If the error wraps a [*WordError], the Reply has the settings of the words that HAProxy would
// accept. With any other error, the Reply is zero.
func (c *Client) Check(ctx context.Context, addr string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(c.Timeout, 0), DefaultTimeout))
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Reply{}, fmt.Errorf("agentcheck: %w", err)
	}
	defer conn.Close()
	// When ctx ends, set the deadline of conn to a time in the past. Reads and writes that are in
	// progress then fail at once.
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

// exchange sends c.Send and returns the bytes that the agent sends. It stops reading after a line
// end, at the end of the connection, or after more than MaxLine bytes. The result can have bytes
// after the line end.
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
