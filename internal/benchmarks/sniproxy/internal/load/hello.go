// Package load implements the clients and the backends of a router under test with raw sockets, one
// epoll and one thread. It is so fast that the router's processor is busy, and that the time of a
// round trip is mainly the router's.
//
// A client sends the ClientHello of crypto/tls with another host name, and then plain bytes. The
// random field of the hello tells the backend what to do, and the backend answers with its number.
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

// want is the action that a client requests from its backend. The ClientHello contains this action.
type want byte

const (
	wantAnswer want = 'a' // AnswerSize bytes, then the end
	wantEcho   want = 'e' // one byte, then the bytes that the client sends
	wantBulk   want = 'b' // the ordered number of bytes, then the end
)

// AnswerSize is the size of an answer in bytes.
const AnswerSize = 1024

// These are sizes and offsets in bytes. In a ClientHello, the field "random" follows the header of
// the record, the header of the message and the version (RFC 8446, 4.1.2).
const (
	recordHeader = 5
	randomAt     = recordHeader + 4 + 2
	randomSize   = 32
	largestHello = recordHeader + 1<<14
)

// mark is a part of the random field of every hello of this package. If a backend does not find the
// mark in a hello, the router has changed the stream.
var mark = []byte("headgate")

// Hello is a ClientHello. The method For replaces its host name and its field "random".
type Hello struct {
	wire   []byte
	nameAt int
	size   int
}

// NewHello returns the ClientHello that crypto/tls of this Go version sends for host. Method For
// can replace the host by another name of the same length.
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

// For returns the hello with host as its server name. The hello tells the backend the action w, and
// the number of bytes for the action wantBulk. The result is valid until the next call of For.
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

// Len returns the size of a hello in bytes.
func (h *Hello) Len() int { return len(h.wire) }

// order decodes what the method For has written into a hello: the action w that the backend must
// take, and the number of bytes for the action wantBulk.
func order(hello []byte) (w want, size int64, err error) {
	random := hello[randomAt : randomAt+randomSize]
	if !bytes.HasPrefix(random, mark) {
		return 0, 0, errors.New("load: the backend received another hello than the client sent")
	}
	return want(random[len(mark)]), int64(binary.BigEndian.Uint64(random[len(mark)+1:])), nil
}

// helloSize returns the size of the hello that starts with b, or 0 if b is too short to contain the
// size.
func helloSize(b []byte) int {
	if len(b) < recordHeader {
		return 0
	}
	return recordHeader + int(binary.BigEndian.Uint16(b[3:]))
}

// recorder is a connection that keeps the written bytes and answers nothing.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }
func (r *recorder) Close() error                { return nil }
