package hellotest

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"
	"slices"
)

// extECH is the type of the extension encrypted_client_hello (RFC 9849 section 5).
const extECH = 0xfe0d

// tagLength is the length in bytes that each AEAD of HPKE adds to a text.
const tagLength = 16

// Sealer encrypts the ClientHellos of one connection, as a client of RFC 9849 does. A test may change
// its fields between two hellos.
type Sealer struct {
	ConfigID  uint8
	KDF, AEAD uint16 // the cipher suite that the hellos name
	Enc       []byte // the encapsulated key; in the second hello of a connection, it must be empty

	sender *hpke.Sender
}

// NewSealer returns a Sealer for an ECHConfig with its public key. config is the ECHConfig with its
// version and length. The numbers are those of the algorithms of HPKE.
func NewSealer(config, public []byte, id uint8, kem, kdf, aead uint16) (*Sealer, error) {
	s := &Sealer{ConfigID: id, KDF: kdf, AEAD: aead}
	k, err := hpke.NewKEM(kem)
	if err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	key, err := k.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	f, err := hpke.NewKDF(kdf)
	if err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	a, err := hpke.NewAEAD(aead)
	if err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	if s.Enc, s.sender, err = hpke.NewSender(key, f, a, append([]byte("tls ech\x00"), config...)); err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	return s, nil
}

// Seal encrypts an EncodedClientHelloInner, and returns the message of the outer hello that contains
// it. Seal appends the extension encrypted_client_hello, which must be the last one in the message,
// so outer.Pad must be 0.
func (s *Sealer) Seal(outer Hello, encoded []byte) ([]byte, error) {
	body := binary.BigEndian.AppendUint16([]byte{0}, s.KDF)
	body = append(binary.BigEndian.AppendUint16(body, s.AEAD), s.ConfigID)
	body = append(body, vector(2, s.Enc)...)
	body = append(body, vector(2, make([]byte, len(encoded)+tagLength))...)
	outer.Extensions = append(slices.Clone(outer.Extensions), Extension{extECH, body})
	message := outer.Message()
	sealed, err := s.sender.Seal(message[handshakeHeader:], encoded)
	if err != nil {
		return nil, fmt.Errorf("hellotest: %w", err)
	}
	copy(message[len(message)-len(sealed):], sealed)
	return message, nil
}

// Encoded returns the EncodedClientHelloInner of the hello, without padding.
func (h Hello) Encoded() []byte { return h.Message()[handshakeHeader:] }

// Inner returns the extension encrypted_client_hello of an inner hello.
func Inner() Extension { return Extension{extECH, []byte{1}} }
