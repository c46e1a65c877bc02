package ech_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/peek"
)

// A list that parses is the same after AppendConfigList, without the configs of other versions.
func FuzzConfigList(f *testing.F) {
	list, err := base64.StdEncoding.DecodeString(firefoxList)
	require.NoError(f, err)
	f.Add(list)
	f.Fuzz(func(t *testing.T, b []byte) {
		configs, err := ech.ParseConfigList(b)
		if err != nil {
			require.ErrorIs(t, err, ech.ErrConfig)
			return
		}
		if len(configs) == 0 {
			return
		}
		again, err := ech.ParseConfigList(ech.AppendConfigList(nil, configs...))
		require.NoError(t, err)
		require.Equal(t, configs, again)
	})
}

// Each key of a file that parses has a file of its own, which contains the same ECHConfig.
func FuzzKey(f *testing.F) {
	text, err := generate(f, configID).PEM()
	require.NoError(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ech.ParseKey(text)
		if err != nil {
			require.ErrorIs(t, err, ech.ErrKey)
			return
		}
		require.NotEmpty(t, keys)
		for _, key := range keys {
			text, err := key.PEM()
			require.NoError(t, err)
			again, err := ech.ParseKey(text)
			require.NoError(t, err)
			require.Equal(t, key.Config, again[0].Config)
		}
	})
}

// FuzzOpen opens any message. Then it encrypts any bytes in a hello with many extensions, and opens
// this hello.
func FuzzOpen(f *testing.F) {
	key := generate(f, configID)
	keys := ech.NewKeys(key)
	outer := hellotest.Hello{Name: "public.example", ALPN: []string{"h2"}, Versions: tls13, KeyShares: []uint16{29}}
	good := hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner, names(16, 51)}}
	f.Add(clientHello(f, configList(key)), good.Encoded())
	f.Fuzz(func(t *testing.T, message, plain []byte) {
		if _, err := keys.Open(message); err != nil {
			var e *ech.Error
			require.True(t, errors.Is(err, ech.ErrNotOffered) || errors.Is(err, ech.ErrNoKey) || errors.Is(err, ech.ErrDecrypt) || errors.As(err, &e), err)
		}
		if len(plain) > 1<<15 {
			return // does not fit into an extension together with the others
		}
		s := newSealer(t, key.Config, aes)
		sealed := seal(t, s, outer, plain)
		opened, err := keys.Open(sealed)
		if err != nil {
			requireAlert(t, err, 47)
			return
		}
		require.LessOrEqual(t, len(opened.Message), len(sealed))
		hello, err := peek.ParseClientHelloMessage(opened.Message)
		if !errors.Is(err, peek.ErrNoName) {
			require.NoError(t, err)
		}
		require.Equal(t, opened.Hello, hello)
		require.GreaterOrEqual(t, hello.MaxVersion(), uint16(0x0304))
		kinds := extensionTypes(t, opened.Message)
		require.Equal(t, 1, kinds[extECH])
		require.Zero(t, kinds[extOuter])
	})
}

// extensionTypes counts the extensions of a ClientHello message by type.
func extensionTypes(t *testing.T, message []byte) map[int]int {
	t.Helper()
	b := message[4+2+32:]
	b = b[1+int(b[0]):]              // legacy_session_id
	b = b[2+int(b[0])<<8+int(b[1]):] // cipher_suites
	b = b[1+int(b[0]):]              // legacy_compression_methods
	require.Len(t, b[2:], int(b[0])<<8+int(b[1]))
	kinds := map[int]int{}
	for b = b[2:]; len(b) > 0; b = b[4+int(b[2])<<8+int(b[3]):] {
		kinds[int(b[0])<<8|int(b[1])]++
	}
	return kinds
}
