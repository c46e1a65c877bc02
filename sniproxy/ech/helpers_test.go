package ech_test

import (
	"crypto/hpke"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/ech"
)

const (
	extECH              = 0xfe0d
	extOuter            = 0xfd00
	extSupportedVersion = 43
	configID            = 7
	tagLength           = 16 // of every AEAD of HPKE
)

var (
	aes      = ech.Suite{KDF: hpke.HKDFSHA256().ID(), AEAD: hpke.AES128GCM().ID()}
	inner    = hellotest.Extension{Type: extECH, Body: []byte{1}}
	tls13    = []uint16{0x0304}
	testName = "secret.example"
)

func generate(t testing.TB, id uint8) ech.Key {
	t.Helper()
	key, err := ech.Generate("public.example", id, 32)
	require.NoError(t, err)
	return key
}

func configList(keys ...ech.Key) []byte {
	return ech.AppendConfigList(nil, ech.NewKeys(keys...).Configs()...)
}

// sealer encrypts hellos as a client does, but lets a test choose each field.
type sealer struct {
	enc    []byte
	sender *hpke.Sender
}

func newSealer(t testing.TB, c ech.Config, s ech.Suite) sealer {
	t.Helper()
	kem, err := hpke.NewKEM(c.KEM)
	require.NoError(t, err)
	public, err := kem.NewPublicKey(c.PublicKey)
	require.NoError(t, err)
	kdf, err := hpke.NewKDF(s.KDF)
	require.NoError(t, err)
	aead, err := hpke.NewAEAD(s.AEAD)
	require.NoError(t, err)
	enc, sender, err := hpke.NewSender(public, kdf, aead, append([]byte("tls ech\x00"), c.Bytes()...))
	require.NoError(t, err)
	return sealer{enc, sender}
}

// seal returns the message of an outer hello with this EncodedClientHelloInner.
func (s sealer) seal(t testing.TB, outer hellotest.Hello, id uint8, suite ech.Suite, enc, encoded []byte) []byte {
	t.Helper()
	body := binary.BigEndian.AppendUint16([]byte{0}, suite.KDF)
	body = append(binary.BigEndian.AppendUint16(body, suite.AEAD), id)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(enc))), enc...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(encoded)+tagLength))
	body = append(body, make([]byte, len(encoded)+tagLength)...)
	outer.Extensions = append(slices.Clone(outer.Extensions), hellotest.Extension{Type: extECH, Body: body})
	message := outer.Message()
	sealed, err := s.sender.Seal(message[4:], encoded)
	require.NoError(t, err)
	copy(message[len(message)-len(sealed):], sealed)
	return message
}

// encoded returns the EncodedClientHelloInner of a hello, without padding.
func encoded(h hellotest.Hello) []byte { return h.Message()[4:] }

// names returns an ech_outer_extensions extension.
func names(types ...uint16) hellotest.Extension {
	body := []byte{byte(2 * len(types))}
	for _, n := range types {
		body = binary.BigEndian.AppendUint16(body, n)
	}
	return hellotest.Extension{Type: extOuter, Body: body}
}
