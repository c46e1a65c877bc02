package sniproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/peek"
)

// ECHResult says what the Server has done with the encrypted ClientHello of a TLS client.
type ECHResult uint8

// The results of ECH.
const (
	// ECHNone means that the client offers no encrypted hello, or that the Server has no ECHKeys.
	ECHNone ECHResult = iota
	// ECHAccepted means that the Server has decrypted the hello. Stats.Name is the inner name.
	ECHAccepted
	// ECHGrease means that the Server has no key for the config_id of the client: the client has
	// sent random bytes (GREASE), or has an old ECHConfig. Stats.Name is the outer name.
	ECHGrease
	// ECHFailed means that a key with the config_id of the client does not decrypt the hello, or
	// that the client breaks RFC 9849. In the second case, the Server sends an alert.
	ECHFailed
)

// String returns the result in lower case, the form for metrics.
func (r ECHResult) String() string { return word(r, "none", "accepted", "grease", "failed") }

// echState is the state of a connection whose encrypted hello the Server has decrypted. It drops the
// hello as soon as it can, because the connection may stay open for long.
type echState struct {
	opened   *ech.Opened // nil if no second hello of the client can follow
	records  []byte      // the inner hello in TLS records; nil if the backend has answered
	outerLen int         // the length of the outer hello with the headers of its records
	innerLen int         // the length of the inner hello with the headers of its records
	// failure is set if the second hello of the client, after a HelloRetryRequest, is wrong.
	failure atomic.Pointer[ech.Error]
}

// openHello decrypts the encrypted hello of a client. data has the bytes of the client after the
// PROXY header. r and err are the result of the parser for data.
//
//   - If the hello is decrypted, openHello returns the result of the parser for the inner hello.
//   - If the Server must route by the outer hello, openHello returns r and err.
//   - If the client breaks RFC 9849, the error is an *ech.Error, and the Server must refuse the
//     client.
//   - If other bytes follow the hello in its TLS record, the error wraps peek.ErrMalformed.
func (s *session) openHello(r peek.Result, err error, data []byte) (peek.Result, error) {
	if r.Protocol != peek.TLS || r.Hello.Len == 0 || r.Hello.SSLv2 { // not TLS, or malformed
		return r, err
	}
	opened, echErr := s.srv.ECHKeys().Open(r.Hello.Message(data))
	switch {
	case echErr == nil:
	case errors.Is(echErr, ech.ErrNotOffered):
		return r, err
	case errors.Is(echErr, ech.ErrNoKey):
		s.echResult = ECHGrease
		return r, err
	case errors.Is(echErr, ech.ErrDecrypt):
		s.echResult = ECHFailed
		return r, err
	default:
		s.echResult = ECHFailed
		return r, echErr
	}
	if !endsRecord(data, r.Hello.Len) {
		// The TLS record has more bytes after the hello. The Server replaces the hello and the
		// header of the record, so the backend could not read the bytes without a header. RFC 8446
		// section 5.1 forbids a further message in the record of a ClientHello, because the keys
		// may change after the ClientHello.
		s.echResult = ECHFailed
		return r, fmt.Errorf("%w: bytes after an encrypted ClientHello in its record", peek.ErrMalformed)
	}
	s.echResult = ECHAccepted
	records := appendRecords(nil, opened.Message, data[1:3])
	s.ensureRare().ech = &echState{opened: opened, records: records, outerLen: r.Hello.Len, innerLen: len(records)}
	inner := peek.Result{Protocol: peek.TLS, Hello: opened.Hello, RawName: opened.Hello.ServerName}
	inner.Hello.ECH, inner.Hello.Len = true, r.Hello.Len
	if inner.RawName == "" {
		return inner, peek.ErrNoName
	}
	inner.Name, err = peek.NormalizeServerName(inner.RawName)
	return inner, err
}

// echState returns the state of a connection with a decrypted hello, or nil.
func (s *session) echState() *echState {
	if s.rare == nil {
		return nil
	}
	return s.rare.ech
}

const (
	recordHeader    = 5
	recordHandshake = 22
	maxRecord       = 1 << 14
)

// endsRecord reports whether one of the TLS records in b ends at the offset n. The first record
// begins at offset 0.
func endsRecord(b []byte, n int) bool {
	at := 0
	for at < n && at+recordHeader <= len(b) {
		at += recordHeader + int(binary.BigEndian.Uint16(b[at+3:]))
	}
	return at == n
}

// appendRecords appends a handshake message in TLS records to b. version is the two bytes of the
// version in the headers of the records. The caller copies it from the record of the client's outer
// hello. It is often 0x0301 for the first hello. Servers refuse a second hello whose version is not
// 0x0303.
func appendRecords(b, message, version []byte) []byte {
	for len(message) > 0 {
		n := min(len(message), maxRecord)
		b = append(b, recordHandshake, version[0], version[1], byte(n>>8), byte(n))
		b = append(b, message[:n]...)
		message = message[n:]
	}
	return b
}
