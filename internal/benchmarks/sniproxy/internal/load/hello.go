package load

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// want says what a backend is to do with a connection.
type want byte

const (
	wantAnswer want = 'a' // AnswerSize bytes, then the end
	wantEcho   want = 'e' // one byte, then whatever the client sends
	wantBulk   want = 'b' // as many bytes as the client says, then the end
)

// AnswerSize is what a backend answers to a connection that asks for nothing else.
const AnswerSize = 1024

// A ClientHello has its random after the headers of the record and of the message and
// after the version (RFC 8446, 4.1.2).
const (
	recordHeader = 5
	randomAt     = recordHeader + 4 + 2
	randomSize   = 32
	largestHello = recordHeader + 1<<14
)

// mark in the random tells our hellos from a stream that a router has garbled.
var mark = []byte("headgate")

// Hello is a ClientHello of which the host name and the random can be replaced.
type Hello struct {
	wire   []byte
	nameAt int
	size   int
}

// NewHello takes the hello that crypto/tls sends for a host, with today's key shares and
// so with today's size. All further names must be as long as this one.
func NewHello(host string) (*Hello, error) {
	var sent recorder
	err := tls.Client(&sent, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("load: hello: %w", err)
	}
	h := &Hello{wire: sent.Bytes(), nameAt: bytes.Index(sent.Bytes(), []byte(host)), size: len(host)}
	if h.nameAt < 0 || len(h.wire) < randomAt+randomSize || helloSize(h.wire) != len(h.wire) {
		return nil, errors.New("load: hello: not one record with the name in it")
	}
	return h, nil
}

// For is the hello for a host. It is valid until the next call.
func (h *Hello) For(host string, w want, size int64) []byte {
	if len(host) != h.size {
		panic("load: names of different lengths")
	}
	copy(h.wire[h.nameAt:], host)
	random := h.wire[randomAt:]
	copy(random, mark)
	random[len(mark)] = byte(w)
	binary.BigEndian.PutUint64(random[len(mark)+1:], uint64(size))
	return h.wire
}

// Len is how many bytes a hello has.
func (h *Hello) Len() int { return len(h.wire) }

// order is what For has put into a hello.
func order(hello []byte) (w want, size int64, err error) {
	random := hello[randomAt : randomAt+randomSize]
	if !bytes.HasPrefix(random, mark) {
		return 0, 0, errors.New("load: the backend got another hello than the client sent")
	}
	return want(random[len(mark)]), int64(binary.BigEndian.Uint64(random[len(mark)+1:])), nil
}

// helloSize is how long the hello that starts with these bytes is, or 0 while they are
// too few to tell.
func helloSize(b []byte) int {
	if len(b) < recordHeader {
		return 0
	}
	return recordHeader + int(binary.BigEndian.Uint16(b[3:]))
}

// recorder keeps what is written and answers nothing.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }
func (r *recorder) Close() error                { return nil }
