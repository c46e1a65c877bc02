package hellotest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Cuts describes how Cut writes a hello.
type Cuts struct {
	Records []int // the sizes of the records, as in the function Records; nil means the records of the client
	Segment int   // the number of bytes in each write; 0 means one write for all bytes
	// Before, if not nil, is called before each write. The argument i is the number of the write,
	// which begins with 0. Before may block. If it returns an error, the connection writes no more
	// bytes.
	Before func(i int) error
}

// Cut returns a connection that writes to conn. It cuts the first handshake message into records
// and segments, and writes later bytes unchanged. TCP sends each write as one segment, unless the
// receiver is slow.
func Cut(conn net.Conn, cuts Cuts) net.Conn { return &cutConn{Conn: conn, cuts: cuts} }

type cutConn struct {
	net.Conn
	cuts Cuts

	mu   sync.Mutex
	held []byte // the hello, until it is complete
	done bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return c.Conn.Write(b)
	}
	c.held = append(c.held, b...)
	wire := c.held
	if c.cuts.Records != nil {
		var err error
		if wire, err = Rerecord(c.held, c.cuts.Records...); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return len(b), nil
			}
			return 0, err
		}
	}
	c.done = true
	c.held = nil
	if err := WriteSegments(c.Conn, wire, c.cuts.Segment, c.cuts.Before); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteSegments writes b in pieces of n bytes; 0 means one piece. "before", which may be nil, is
// called like Cuts.Before with the number of each piece.
func WriteSegments(w io.Writer, b []byte, n int, before func(i int) error) error {
	if n <= 0 {
		n = len(b)
	}
	for i := 0; len(b) > 0; i++ {
		if before != nil {
			if err := before(i); err != nil {
				return err
			}
		}
		n := min(n, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Capture makes a TLS client of crypto/tls with this configuration, and returns the records of the
// ClientHello that this client sends.
func Capture(config *tls.Config) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tls.Client(client, config).HandshakeContext(ctx) // the client gets no answer
	}()
	defer func() { cancel(); client.Close(); <-ended }()

	return ReadRecords(server, maxCapture)
}

// maxCapture is a size in bytes that no hello of crypto/tls exceeds.
const maxCapture = 1 << 17

// ReadRecords reads the TLS records that contain the first handshake message, and no bytes after these
// records. If the records have more than limit bytes, or if the first record is not a handshake
// record, ReadRecords returns an error.
func ReadRecords(r io.Reader, limit int) ([]byte, error) {
	var wire []byte
	for {
		head := make([]byte, recordHeader)
		if _, err := io.ReadFull(r, head); err != nil {
			return nil, err
		}
		body := make([]byte, int(head[3])<<8|int(head[4]))
		if head[0] != 22 || len(wire)+len(head)+len(body) > limit {
			return nil, fmt.Errorf("hellotest: record of type %d and %d bytes after %d bytes", head[0], len(body), len(wire))
		}
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		wire = append(append(wire, head...), body...)
		if _, _, err := Message(wire); err == nil {
			return wire, nil
		}
	}
}
