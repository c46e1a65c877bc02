package ech

import (
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/headgate/headgate/sniproxy/peek"
)

// After these errors of Open, route the connection by the outer name, and send the bytes of the
// client unchanged.
var (
	// ErrNotOffered means that the hello has no encrypted_client_hello extension.
	ErrNotOffered = errors.New("ech: the client offers no encrypted hello")
	// ErrNoKey means that no key has the config_id and the cipher suite of the client. Most such
	// clients send random bytes (GREASE). The others have an old ECHConfig.
	ErrNoKey = errors.New("ech: no key for this config_id")
	// ErrDecrypt means that a key has the config_id and the cipher suite of the client, but cannot
	// decrypt the hello. The config_id has one byte, so with n keys, a client that sends random
	// bytes causes this error in n of 256 cases.
	ErrDecrypt = errors.New("ech: the key of this config_id does not decrypt the hello")
)

// The alerts of an Error (RFC 8446 section 6).
const (
	alertIllegalParameter = 47
	alertDecodeError      = 50
	alertDecryptError     = 51
	alertMissingExtension = 109
)

// Error means that the client breaks RFC 9849. The server must end the connection with an alert.
type Error struct {
	Alert uint8  // the number of the alert: 47, 50, 51 or 109
	What  string // the reason
}

func (e *Error) Error() string { return fmt.Sprintf("ech: %s (alert %d)", e.What, e.Alert) }

func illegal(what string) error { return &Error{alertIllegalParameter, what} }

// Keys is a set of keys. The zero value and nil have no key.
type Keys struct{ list []Key }

// NewKeys returns the set of these keys. Several keys may have the same config_id. Open then tries
// each key with the config_id of the client, which costs more time.
func NewKeys(keys ...Key) *Keys { return &Keys{slices.Clone(keys)} }

// Configs returns the ECHConfigs of the keys, in the order of NewKeys.
func (k *Keys) Configs() []Config {
	if k == nil {
		return nil
	}
	var list []Config
	for _, key := range k.list {
		list = append(list, key.Config)
	}
	return list
}

// Opened is an inner hello.
type Opened struct {
	// Message is the inner ClientHello, with its header of four bytes, and without headers of TLS
	// records. It is at most as long as the outer ClientHello.
	Message []byte
	// Hello is the parsed Message. Its ServerName is "" if the inner hello has no name.
	Hello peek.ClientHello

	context  *hpke.Recipient
	configID uint8
	suite    Suite
}

// Open decrypts the hello in a ClientHello. message is the handshake message with its header of four
// bytes, and without headers of TLS records; see [peek.ClientHello.Message]. Open does not change
// message, and keeps no reference to it.
//
// The error is ErrNotOffered, ErrNoKey, ErrDecrypt or an *Error.
func (k *Keys) Open(message []byte) (*Opened, error) {
	outer, err := parseOuter(message)
	if err != nil {
		return nil, err
	}
	found := ErrNoKey
	if k == nil {
		return nil, found
	}
	var aad []byte
	for _, key := range k.list {
		if key.Config.ID != outer.configID {
			continue
		}
		for _, s := range key.suites {
			if s.Suite != outer.suite {
				continue
			}
			found = ErrDecrypt
			context, err := hpke.NewRecipient(outer.enc, key.hpke, s.kdf, s.aead, key.info)
			if err != nil {
				break
			}
			if aad == nil {
				aad = outer.aad()
			}
			if encoded, err := context.Open(aad, outer.payload()); err == nil {
				o := &Opened{context: context, configID: outer.configID, suite: outer.suite}
				o.Message, o.Hello, err = outer.decode(encoded)
				if err != nil {
					return nil, err
				}
				return o, nil
			}
			break
		}
	}
	return nil, found
}

// OpenSecond decrypts the ClientHello that the client sends after a HelloRetryRequest. The argument
// and the result have the form of those of Open. Call OpenSecond at most once. Each error is an
// *Error.
//
// Beyond RFC 9849, OpenSecond requires that the server name is the name of the first inner hello,
// because the router has chosen the backend by this name.
func (o *Opened) OpenSecond(message []byte) ([]byte, error) {
	outer, err := parseOuter(message)
	switch {
	case errors.Is(err, ErrNotOffered):
		return nil, &Error{alertMissingExtension, "no encrypted_client_hello extension in the second hello"}
	case err != nil:
		return nil, err
	case outer.configID != o.configID || outer.suite != o.suite:
		return nil, illegal("the second hello has another config_id or cipher suite")
	case len(outer.enc) != 0:
		return nil, illegal("the second hello has a key share of HPKE")
	}
	encoded, err := o.context.Open(outer.aad(), outer.payload())
	if err != nil {
		return nil, &Error{alertDecryptError, "the second hello cannot be decrypted"}
	}
	inner, hello, err := outer.decode(encoded)
	if err != nil {
		return nil, err
	}
	if hello.ServerName != o.Hello.ServerName {
		return nil, illegal("the second hello has another server name")
	}
	return inner, nil
}

// outerHello is a parsed ClientHelloOuter.
type outerHello struct {
	message    []byte
	sessionID  []byte
	extensions reader

	suite        Suite
	configID     uint8
	enc          []byte
	payloadStart int // offsets in message
	payloadEnd   int
}

const (
	typeClientHello    = 1
	handshakeHeader    = 4
	clientHelloFixed   = 2 + 32  // the version and the random
	extEncryptedHello  = version // RFC 9849 section 5
	extOuterExtensions = 0xfd00  // RFC 9849 section 5.1
	echTypeOuter       = 0
	echTypeInner       = 1
	versionTLS13       = 0x0304
)

// parseOuter parses the ClientHello that the client has sent. The error is ErrNotOffered, or an
// *Error.
func parseOuter(message []byte) (outerHello, error) {
	o := outerHello{message: message}
	r := reader{b: message}
	header := r.next(handshakeHeader)
	if r.bad || header[0] != typeClientHello || int(binary.BigEndian.Uint32(header)&(1<<24-1)) != len(message)-handshakeHeader {
		return o, &Error{alertDecodeError, "not a ClientHello"}
	}
	r.next(clientHelloFixed)
	session := r.vector8()
	o.sessionID = session.rest()
	r.vector16() // cipher_suites
	r.vector8()  // legacy_compression_methods
	if !r.bad && r.empty() {
		return o, ErrNotOffered
	}
	o.extensions = r.vector16()
	if r.bad || !r.empty() {
		return o, &Error{alertDecodeError, "ClientHello: wrong length of the extensions"}
	}
	found := false
	for list := o.extensions; !list.empty(); {
		kind := list.uint16()
		body := list.vector16()
		switch {
		case list.bad:
			return o, &Error{alertDecodeError, "ClientHello: extension beyond the end of the extensions"}
		case kind != extEncryptedHello:
		case found:
			return o, illegal("two encrypted_client_hello extensions")
		default:
			found = true
			if err := o.parseExtension(body); err != nil {
				return o, err
			}
		}
	}
	if !found {
		return o, ErrNotOffered
	}
	return o, nil
}

// parseExtension parses the ECHClientHello of a ClientHelloOuter (RFC 9849 section 5).
func (o *outerHello) parseExtension(r reader) error {
	kind := r.uint8()
	switch {
	case r.bad:
		return &Error{alertDecodeError, "encrypted_client_hello: empty"}
	case kind == echTypeInner: // RFC 9849 section 7: a client must not send it to the client-facing server
		return illegal("encrypted_client_hello: type inner in an outer hello")
	case kind != echTypeOuter:
		return illegal("encrypted_client_hello: unknown type")
	}
	o.suite = Suite{KDF: uint16(r.uint16()), AEAD: uint16(r.uint16())}
	o.configID = uint8(r.uint8())
	enc := r.vector16()
	payload := r.vector16()
	if r.bad || !r.empty() || payload.empty() {
		return &Error{alertDecodeError, "encrypted_client_hello: wrong length"}
	}
	o.enc, o.payloadStart, o.payloadEnd = enc.rest(), payload.pos, len(payload.b)
	return nil
}

func (o *outerHello) payload() []byte { return o.message[o.payloadStart:o.payloadEnd] }

// aad returns the ClientHelloOuterAAD (RFC 9849 section 5.2).
func (o *outerHello) aad() []byte {
	aad := bytes.Clone(o.message[handshakeHeader:])
	clear(aad[o.payloadStart-handshakeHeader : o.payloadEnd-handshakeHeader])
	return aad
}

// decode returns the ClientHelloInner of an EncodedClientHelloInner, after the checks of RFC 9849
// sections 5.1 and 7.1. The work grows linearly with the length of the outer hello.
func (o *outerHello) decode(encoded []byte) (inner []byte, hello peek.ClientHello, err error) {
	r := reader{b: encoded}
	fixed := r.next(clientHelloFixed)
	session := r.vector8()
	middle := r.pos
	r.vector16() // cipher_suites
	r.vector8()  // legacy_compression_methods
	middleEnd := r.pos
	extensions := r.vector16()
	switch {
	case r.bad:
		return nil, hello, illegal("inner hello: field beyond its end")
	case !session.empty():
		return nil, hello, illegal("inner hello: legacy_session_id is not empty")
	case len(bytes.TrimLeft(r.rest(), "\x00")) > 0:
		return nil, hello, illegal("inner hello: padding other than zeros")
	}
	// Two bytes of the inner hello never come from the same byte of the outer hello, so inner is
	// never longer than o.message.
	inner = make([]byte, handshakeHeader, len(o.message))
	inner = append(inner, fixed...)
	inner = append(append(inner, byte(len(o.sessionID))), o.sessionID...)
	inner = append(inner, encoded[middle:middleEnd]...)
	start := len(inner)
	inner = append(inner, 0, 0)
	if inner, err = o.appendExtensions(inner, extensions); err != nil {
		return nil, hello, err
	}
	length := len(inner) - start - 2
	if length > 1<<16-1 {
		return nil, hello, illegal("inner hello: too many extensions")
	}
	binary.BigEndian.PutUint16(inner[start:], uint16(length))
	binary.BigEndian.PutUint32(inner, uint32(typeClientHello)<<24|uint32(len(inner)-handshakeHeader))
	if hello, err = peek.ParseClientHelloMessage(inner); err != nil && !errors.Is(err, peek.ErrNoName) {
		return nil, hello, illegal("inner hello: " + err.Error())
	}
	if err := checkVersions(hello); err != nil {
		return nil, hello, err
	}
	return inner, hello, nil
}

// appendExtensions appends the extensions of a ClientHelloInner to b. In the place of
// ech_outer_extensions, it appends the extensions of the outer hello that ech_outer_extensions
// names.
func (o *outerHello) appendExtensions(b []byte, extensions reader) ([]byte, error) {
	outer := o.extensions
	var isInner, compressed bool
	for !extensions.empty() {
		start := extensions.pos
		kind := extensions.uint16()
		body := extensions.vector16()
		switch {
		case extensions.bad:
			return nil, illegal("inner hello: extension beyond the end of the extensions")
		case kind == extEncryptedHello:
			if content := body.rest(); isInner || len(content) != 1 || content[0] != echTypeInner {
				return nil, illegal("inner hello: encrypted_client_hello is not of type inner")
			}
			isInner = true
		case kind == extOuterExtensions && compressed:
			return nil, illegal("inner hello: two ech_outer_extensions extensions")
		case kind == extOuterExtensions:
			compressed = true
			var err error
			if b, err = appendOuterExtensions(b, body, &outer); err != nil {
				return nil, err
			}
			continue
		}
		b = append(b, extensions.b[start:extensions.pos]...)
	}
	if !isInner {
		return nil, illegal("inner hello: no encrypted_client_hello extension")
	}
	return b, nil
}

// appendOuterExtensions appends the extensions of the outer hello that are named in an
// ech_outer_extensions extension. It reads the list "outer" only forward, so the extensions must have
// the order of the outer hello (RFC 9849 section 5.1).
func appendOuterExtensions(b []byte, body reader, outer *reader) ([]byte, error) {
	names := body.vector8()
	if body.bad || !body.empty() || names.empty() || len(names.rest())%2 != 0 {
		return nil, illegal("ech_outer_extensions: wrong length")
	}
	seen := make([]int, 0, 127) // the longest list
	for !names.empty() {
		name := names.uint16()
		switch {
		case name == extEncryptedHello || name == extOuterExtensions:
			return nil, illegal("ech_outer_extensions: names an extension of ECH")
		case slices.Contains(seen, name):
			return nil, illegal("ech_outer_extensions: names an extension twice")
		}
		seen = append(seen, name)
		for {
			if outer.empty() {
				return nil, illegal("ech_outer_extensions: the outer hello has no such extension, or in another order")
			}
			start := outer.pos
			kind := outer.uint16()
			outer.vector16()
			if kind == name {
				b = append(b, outer.b[start:outer.pos]...)
				break
			}
		}
	}
	return b, nil
}

// checkVersions returns an error if a hello offers TLS 1.2 or an older version. It also returns an
// error if the hello offers neither TLS 1.3 nor a newer version.
func checkVersions(hello peek.ClientHello) error {
	if hello.MaxVersion() < versionTLS13 {
		return illegal("inner hello: offers no TLS 1.3")
	}
	for v := range hello.SupportedVersions() {
		if v < versionTLS13 {
			return illegal("inner hello: offers TLS 1.2 or below")
		}
	}
	return nil
}
