// Package hellotest helps to test TLS routers. It makes ClientHellos of every shape, and connections
// that cut the hello of a real client into records and segments:
//
//	wire := hellotest.Hello{Name: "a.example", Pad: 20_000}.Wire(1, 100) // records of 1, 100, 100, … bytes
//
//	client := &tls.Config{ServerName: "a.example"}
//	conn := tls.Client(hellotest.Cut(tcp, hellotest.Cuts{Records: []int{1, 100}, Segment: 1}), client)
//
// The package is for tests only. It does not use testing.T.
package hellotest

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

const (
	recordHeader    = 5
	handshakeHeader = 4
	maxRecord       = 1 << 14
)

// Extension is an extension of a ClientHello. Its body may be malformed.
type Extension struct {
	Type uint16
	Body []byte
}

// Hello describes a ClientHello. The zero value is well-formed and has no extensions.
type Hello struct {
	Name       string   // of the server_name extension; "" means no extension
	ALPN       []string // nil means no extension
	Versions   []uint16 // of the supported_versions extension; nil means no extension
	KeyShares  []uint16 // groups, each with a key of 32 bytes; nil means no extension
	ECH        bool     // add an outer encrypted_client_hello extension
	Extensions []Extension
	Pad        int // the least length of the message, by a padding extension; about 64 KiB at most
}

// Message returns the handshake message, including its own header of four bytes, but without the
// headers of TLS records.
func (h Hello) Message() []byte {
	msg := []byte{1, 0, 0, 0, 3, 3}
	msg = append(msg, make([]byte, 32)...) // random
	msg = append(msg, 0, 0, 2, 0x13, 0x01) // no session; one cipher suite
	msg = append(msg, 1, 0)                // no compression
	if ext := h.extensions(len(msg)); ext != nil {
		msg = binary.BigEndian.AppendUint16(msg, uint16(len(ext)))
		msg = append(msg, ext...)
	}
	n := len(msg) - handshakeHeader
	msg[1], msg[2], msg[3] = byte(n>>16), byte(n>>8), byte(n)
	return msg
}

func (h Hello) extensions(before int) []byte {
	var all []Extension
	if h.Name != "" {
		all = append(all, Extension{0, vector(2, append([]byte{0}, vector(2, []byte(h.Name))...))})
	}
	if h.ALPN != nil {
		var list []byte
		for _, p := range h.ALPN {
			list = append(list, vector(1, []byte(p))...)
		}
		all = append(all, Extension{16, vector(2, list)})
	}
	if h.Versions != nil {
		var list []byte
		for _, v := range h.Versions {
			list = binary.BigEndian.AppendUint16(list, v)
		}
		all = append(all, Extension{43, vector(1, list)})
	}
	if h.KeyShares != nil {
		var list []byte
		for _, g := range h.KeyShares {
			list = binary.BigEndian.AppendUint16(list, g)
			list = append(list, vector(2, make([]byte, 32))...)
		}
		all = append(all, Extension{51, vector(2, list)})
	}
	if h.ECH {
		all = append(all, Extension{extECH, []byte{0, 0, 1, 0, 1, 7, 0, 0, 0, 0}})
	}
	all = append(all, h.Extensions...)
	var b []byte
	for _, e := range all {
		b = binary.BigEndian.AppendUint16(b, e.Type)
		b = append(b, vector(2, e.Body)...)
	}
	if missing := h.Pad - before - 2 - len(b); missing > 0 {
		b = append(b, 0, 21)
		b = append(b, vector(2, make([]byte, max(missing-4, 0)))...)
	}
	return b
}

// vector returns a length field with the length of b, followed by b. The argument "size" is the
// size of the length field in bytes.
func vector(size int, b []byte) []byte {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(b)))
	return slices.Concat(length[8-size:], b)
}

// Wire returns the hello in records of the given sizes; see Records.
func (h Hello) Wire(sizes ...int) []byte { return Records(h.Message(), sizes...) }

// Records returns a handshake message, cut into TLS records of sizes[0] bytes, sizes[1] bytes, and
// so on. All later records have the last size. Without sizes, each record has 16384 bytes.
func Records(msg []byte, sizes ...int) []byte {
	var wire []byte
	n := maxRecord
	for len(msg) > 0 {
		if len(sizes) > 0 {
			n, sizes = sizes[0], sizes[1:]
		}
		n := min(max(n, 1), maxRecord, len(msg))
		wire = append(wire, 22, 3, 1, byte(n>>8), byte(n))
		wire = append(wire, msg[:n]...)
		msg = msg[n:]
	}
	return wire
}

// Message returns the first handshake message, without the headers of its TLS records. The result
// "rest" is the part of wire after the last record of this message.
func Message(wire []byte) (msg, rest []byte, err error) {
	for {
		if len(wire) < recordHeader || wire[0] != 22 {
			return nil, nil, errors.New("hellotest: not a whole handshake message")
		}
		n := recordHeader + int(binary.BigEndian.Uint16(wire[3:]))
		if len(wire) < n {
			return nil, nil, io.ErrUnexpectedEOF
		}
		msg = append(msg, wire[recordHeader:n]...)
		wire = wire[n:]
		if len(msg) >= handshakeHeader {
			if size := handshakeHeader + int(binary.BigEndian.Uint32(msg)&0xffffff); len(msg) >= size {
				return msg[:size], wire, nil
			}
		}
	}
}

// Rerecord returns a copy of wire whose first handshake message is cut into records of other sizes
// (see Records). The bytes of wire after this message stay the same.
func Rerecord(wire []byte, sizes ...int) ([]byte, error) {
	msg, rest, err := Message(wire)
	if err != nil {
		return nil, err
	}
	return append(Records(msg, sizes...), rest...), nil
}
