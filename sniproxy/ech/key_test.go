package ech_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/ech"
)

// firefoxList is the ECHConfigList of Firefox's own test of ECH.
const firefoxList = "AEn+DQBFTQAgACCKB1Y5SfrGIyk27W82xPpzWTDs3q72c04xSurDWlb9CgAEAAEAA2QWZWNoLXB1YmxpYy5leGFtcGxlLmNvbQAA"

func TestParseConfigListOfFirefox(t *testing.T) {
	list, err := base64.StdEncoding.DecodeString(firefoxList)
	require.NoError(t, err)
	configs, err := ech.ParseConfigList(list)
	require.NoError(t, err)
	require.Len(t, configs, 1)
	c := configs[0]
	require.Equal(t, uint8(0x4d), c.ID)
	require.Equal(t, uint16(0x20), c.KEM)
	require.Equal(t, "ech-public.example.com", c.PublicName)
	require.Equal(t, uint8(100), c.MaxNameLength)
	require.Equal(t, []ech.Suite{{KDF: 1, AEAD: 3}}, c.Suites)
	require.Len(t, c.PublicKey, 32)
	require.Equal(t, list, ech.AppendConfigList(nil, configs...))
}

func TestParseConfigList(t *testing.T) {
	good := configList(generate(t, 1), generate(t, 2))
	one := configList(generate(t, 1))
	other := append([]byte{0, 0}, "\xfe\x0a\x00\x03abc"...)
	other = append(other, one[2:]...)
	binary.BigEndian.PutUint16(other, uint16(len(other)-2))
	// contents returns the list of one config with these contents.
	contents := func(s string) []byte {
		b := append([]byte{0, byte(len(s) + 4), 0xfe, 0x0d, 0, byte(len(s))}, s...)
		return b
	}
	for name, c := range map[string]struct {
		list    []byte
		configs int
		err     string
	}{
		"two configs":           {good, 2, ""},
		"another version":       {other, 1, ""},
		"only another version":  {[]byte("\x00\x04\xfe\x0a\x00\x00"), 0, ""},
		"minimal":               {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x01n\x00\x00"), 1, ""},
		"extension":             {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x01n\x00\x05\x12\x34\x00\x01x"), 1, ""},
		"nothing":               {nil, 0, "length of the list"},
		"empty list":            {[]byte{0, 0}, 0, "length of the list"},
		"truncated":             {good[:len(good)-1], 0, "length of the list"},
		"byte after the list":   {append(append([]byte{}, good...), 0), 0, "length of the list"},
		"config beyond the end": {[]byte("\x00\x05\xfe\x0d\x00\x02x"), 0, "beyond the end of the list"},
		"no key":                {contents("\x01\x00\x20\x00\x00\x00\x04\x00\x01\x00\x01\x00\x01n\x00\x00"), 0, "no public key"},
		"no suite":              {contents("\x01\x00\x20\x00\x01k\x00\x00\x00\x01n\x00\x00"), 0, "cipher_suites"},
		"half a suite":          {contents("\x01\x00\x20\x00\x01k\x00\x02\x00\x01\x00\x01n\x00\x00"), 0, "cipher_suites"},
		"no name":               {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x00\x00\x00"), 0, "no public name"},
		"half an extension":     {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x01n\x00\x03\x12\x34\x00"), 0, "extension beyond"},
		"truncated contents":    {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x01n"), 0, "field beyond"},
		"byte after contents":   {contents("\x01\x00\x20\x00\x01k\x00\x04\x00\x01\x00\x01\x00\x01n\x00\x00x"), 0, "bytes after"},
	} {
		t.Run(name, func(t *testing.T) {
			configs, err := ech.ParseConfigList(c.list)
			if c.err != "" {
				require.ErrorIs(t, err, ech.ErrConfig)
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Len(t, configs, c.configs)
		})
	}
}

func TestGenerate(t *testing.T) {
	key, err := ech.Generate("Public.Example.", 5, 64)
	require.NoError(t, err)
	require.Equal(t, "public.example", key.Config.PublicName)
	require.Equal(t, uint8(5), key.Config.ID)
	require.Equal(t, uint8(64), key.Config.MaxNameLength)

	text, err := key.PEM()
	require.NoError(t, err)
	keys, err := ech.ParseKey(text)
	require.NoError(t, err)
	require.Equal(t, []ech.Config{key.Config}, ech.NewKeys(keys...).Configs())
	_, err = ech.NewKeys(keys...).Open(clientHello(t, configList(key)))
	require.NoError(t, err)

	for _, name := range []string{"", "localhost", "127.0.0.1", "a_b c.example", "bücher.example"} {
		_, err := ech.Generate(name, 5, 64)
		require.ErrorIs(t, err, ech.ErrKey, name)
	}
}

// keyFile returns a key file of PKCS #8 with the curve. suites are the cipher suites of its ECHConfig.
func keyFile(t testing.TB, private any, public []byte, kem uint16, suites string) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	contents := binary.BigEndian.AppendUint16([]byte{configID}, kem)
	contents = binary.BigEndian.AppendUint16(contents, uint16(len(public)))
	contents = append(contents, public...)
	contents = append(contents, 0, byte(len(suites)))
	contents = append(contents, suites...)
	contents = append(contents, 32, 14)
	contents = append(contents, "public.example\x00\x00"...)
	config := append([]byte{0xfe, 0x0d, byte(len(contents) >> 8), byte(len(contents))}, contents...)
	list := append([]byte{byte(len(config) >> 8), byte(len(config))}, config...)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "ECHCONFIG", Bytes: list})...)
}

const aesSuite = "\x00\x01\x00\x01"

// A key of every curve that PKCS #8 and HPKE share opens a hello.
func TestParseKeyCurves(t *testing.T) {
	for name, c := range map[string]struct {
		curve   elliptic.Curve
		kem     uint16
		suites  string
		private func() (any, []byte)
	}{
		"P-256": {elliptic.P256(), 0x10, aesSuite, nil},
		"P-384": {elliptic.P384(), 0x11, aesSuite, nil},
		"P-521": {elliptic.P521(), 0x12, "\xff\xff\xff\xff" + aesSuite, nil}, // an unknown suite too
	} {
		t.Run(name, func(t *testing.T) {
			private, err := ecdsa.GenerateKey(c.curve, rand.Reader)
			require.NoError(t, err)
			key, err := private.ECDH()
			require.NoError(t, err)
			keys, err := ech.ParseKey(keyFile(t, private, key.PublicKey().Bytes(), c.kem, c.suites))
			require.NoError(t, err)
			require.Len(t, keys, 1)
			s := newSealer(t, keys[0].Config, aes)
			message := seal(t, s, hellotest.Hello{Name: "public.example"},
				hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner}}.Encoded())
			opened, err := ech.NewKeys(keys...).Open(message)
			require.NoError(t, err)
			require.Equal(t, testName, opened.Hello.ServerName)
		})
	}
}

func TestParseKeyErrors(t *testing.T) {
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	public := x.PublicKey().Bytes()
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	good := string(keyFile(t, x, public, hpke.DHKEM(ecdh.X25519()).ID(), aesSuite))
	private, rest := pem.Decode([]byte(good))
	config, _ := pem.Decode(rest)
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	// The list of another key and this one: OpenSSL writes such a file for a rotation.
	both, err := ech.ParseConfigList(config.Bytes)
	require.NoError(t, err)
	list := ech.AppendConfigList(nil, generate(t, 9).Config, both[0])

	for name, c := range map[string]struct {
		text string
		err  string // "" means that the file has one key
	}{
		"good":               {good, ""},
		"other order":        {block("ECHCONFIG", config.Bytes) + block("PRIVATE KEY", private.Bytes), ""},
		"text around":        {"made by hand\n" + good + "\nend", ""},
		"another block":      {good + block("CERTIFICATE", []byte("x")), ""},
		"second config":      {block("PRIVATE KEY", private.Bytes) + block("ECHCONFIG", list), ""},
		"empty":              {"", "no block PRIVATE KEY"},
		"no private key":     {block("ECHCONFIG", config.Bytes), "no block PRIVATE KEY"},
		"no config":          {block("PRIVATE KEY", private.Bytes), "no block ECHCONFIG"},
		"two private keys":   {block("PRIVATE KEY", private.Bytes) + good, "second PRIVATE KEY"},
		"two lists":          {good + block("ECHCONFIG", config.Bytes), "second ECHCONFIG"},
		"malformed key":      {block("PRIVATE KEY", []byte("x")) + block("ECHCONFIG", config.Bytes), "asn1"},
		"malformed config":   {block("PRIVATE KEY", private.Bytes) + block("ECHCONFIG", []byte("x")), "malformed ECHConfigList"},
		"key for signatures": {string(keyFile(t, signing, public, 0x20, aesSuite)), "ed25519"},
		"another public key": {string(keyFile(t, x, make([]byte, 32), 0x20, aesSuite)), "another public key"},
		"another KEM":        {string(keyFile(t, x, public, 0x10, aesSuite)), "another public key"},
		"unknown suite":      {string(keyFile(t, x, public, 0x20, "\x00\x09\x00\x01\x00\x01\xff\xff")), "no known cipher suite"},
		"other version":      {block("PRIVATE KEY", private.Bytes) + block("ECHCONFIG", []byte("\x00\x04\xfe\x0a\x00\x00")), "no block ECHCONFIG"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ech.ParseKey([]byte(c.text))
			if c.err == "" {
				require.NoError(t, err)
				require.Len(t, keys, 1)
				require.Equal(t, uint8(configID), keys[0].Config.ID)
				return
			}
			require.ErrorIs(t, err, ech.ErrKey)
			require.ErrorContains(t, err, c.err)
		})
	}
}
