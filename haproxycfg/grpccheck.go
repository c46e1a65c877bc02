package haproxycfg

import (
	"encoding/binary"
	"encoding/hex"
)

// grpcPath is the path of the method of gRPC's health checking protocol.
const grpcPath = "/grpc.health.v1.Health/Check"

// grpcServing is a regular expression for the answer SERVING in hexadecimal: a gRPC message that is
// not compressed, has 2 bytes, and sets field 1 to the value 1.
const grpcServing = "00000000020801"

// appendGRPC renders the check. HAProxy cannot send a gRPC message with "http-check send": the first
// byte of the message is zero, and HAProxy ends the body there (tried with 2.6, 3.0 and 3.4). So
// HAProxy sends the frames of HTTP/2 as bytes, and waits for the bytes of the gRPC message SERVING
// (grpcServing).
func (h *Health) appendGRPC(t *text) {
	t.line("option tcp-check")
	t.line("tcp-check connect")
	t.line("tcp-check send-binary " + hex.EncodeToString(grpcCheckRequest()))
	t.line("tcp-check expect rbinary " + grpcServing)
}

// grpcCheckRequest returns the bytes that HAProxy sends in a check: the preface, empty settings,
// the headers of one request, and an empty message (RFC 9113, section 3.4; RFC 7541, section 6). An
// empty message requests the health of the whole server.
func grpcCheckRequest() []byte {
	frame := func(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
		b = append(b, 0, byte(len(payload)>>8), byte(len(payload)), kind, flags)
		return append(binary.BigEndian.AppendUint32(b, stream), payload...)
	}
	const settings, headers, data, endHeaders, endStream = 4, 1, 0, 4, 1
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
	header := []byte{0x83, 0x86}                     // ":method: POST" and ":scheme: http" of the static table
	header = text(append(header, 0x04), grpcPath)    // :path
	header = text(append(header, 0x01), "localhost") // :authority
	header = text(text(append(header, 0), "content-type"), "application/grpc")
	header = text(text(append(header, 0), "te"), "trailers")

	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = frame(b, settings, 0, 0, nil)
	b = frame(b, headers, endHeaders, 1, header)
	return frame(b, data, endStream, 1, make([]byte, 5))
}
