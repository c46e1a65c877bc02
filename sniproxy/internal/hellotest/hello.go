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

// Extension is an extension with a body that need not make sense.
type Extension struct {
	Type uint16
	Body []byte
}

// Hello describes a ClientHello. The zero value is well-formed and has no extensions.
type Hello struct {
	Name       string   // server_name; "" is without
	ALPN       []string // nil is without
	Versions   []uint16 // supported_versions; nil is without
	KeyShares  []uint16 // groups, each with a key of 32 bytes; nil is without
	ECH        bool     // an outer encrypted_client_hello
	Extensions []Extension
	Pad        int // least length of the message, by a padding extension; 64 KiB less some at most
}

// Message gives the handshake message, with its header, without records.
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
		all = append(all, Extension{0xfe0d, []byte{0, 0, 1, 0, 1, 7, 0, 0, 0, 0}})
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

// vector puts a length of so many bytes before b.
func vector(size int, b []byte) []byte {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(b)))
	return slices.Concat(length[8-size:], b)
}

// Wire gives the hello in records of the given sizes, as Records does.
func (h Hello) Wire(sizes ...int) []byte { return Records(h.Message(), sizes...) }

// Records puts a handshake message into records: each of the sizes once, the last of
// them as often as it takes. No sizes are 16384.
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

// Message takes the first handshake message out of its records. rest is what comes
// behind the record that it ends in.
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

// Rerecord gives the same handshake message in other records, and what came behind it.
func Rerecord(wire []byte, sizes ...int) ([]byte, error) {
	msg, rest, err := Message(wire)
	if err != nil {
		return nil, err
	}
	return append(Records(msg, sizes...), rest...), nil
}
