package ech_test

import (
	"crypto/hpke"
	"encoding/binary"
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
)

var (
	aes      = ech.Suite{KDF: hpke.HKDFSHA256().ID(), AEAD: hpke.AES128GCM().ID()}
	inner    = hellotest.Inner()
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

func newSealer(t testing.TB, c ech.Config, s ech.Suite) *hellotest.Sealer {
	t.Helper()
	sealer, err := hellotest.NewSealer(c.Bytes(), c.PublicKey, c.ID, c.KEM, s.KDF, s.AEAD)
	require.NoError(t, err)
	return sealer
}

// seal returns the message of an outer hello with this EncodedClientHelloInner.
func seal(t testing.TB, s *hellotest.Sealer, outer hellotest.Hello, encoded []byte) []byte {
	t.Helper()
	message, err := s.Seal(outer, encoded)
	require.NoError(t, err)
	return message
}

// names returns an ech_outer_extensions extension.
func names(types ...uint16) hellotest.Extension {
	body := []byte{byte(2 * len(types))}
	for _, n := range types {
		body = binary.BigEndian.AppendUint16(body, n)
	}
	return hellotest.Extension{Type: extOuter, Body: body}
}
