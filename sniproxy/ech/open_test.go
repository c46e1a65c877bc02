package ech_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/ech"
)

// clientHello returns the message of the hello that crypto/tls sends for testName.
func clientHello(t testing.TB, list []byte) []byte {
	t.Helper()
	message := exampleHello(list)
	require.NotEmpty(t, message)
	return message
}

// exampleHello is clientHello for examples. It returns nil after an error.
func exampleHello(list []byte) []byte {
	wire, err := hellotest.Capture(&tls.Config{ServerName: testName, NextProtos: []string{"h2"}, EncryptedClientHelloConfigList: list})
	if err != nil {
		return nil
	}
	message, _, _ := hellotest.Message(wire)
	return message
}

func TestOpenHelloOfCryptoTLS(t *testing.T) {
	key := generate(t, configID)
	message := clientHello(t, configList(key))
	before := bytes.Clone(message)

	opened, err := ech.NewKeys(generate(t, 1), generate(t, configID), key).Open(message)
	require.NoError(t, err)
	require.Equal(t, testName, opened.Hello.ServerName)
	require.True(t, opened.Hello.OffersALPN("h2"))
	require.LessOrEqual(t, len(opened.Message), len(message))
	require.Equal(t, before, message, "Open must not change the message")
	require.NotContains(t, string(message), testName)
}

func TestOpenWithoutKey(t *testing.T) {
	key := generate(t, configID)
	sealed := clientHello(t, configList(key))
	plain := clientHello(t, nil)
	other := generate(t, configID)

	for name, c := range map[string]struct {
		keys    *ech.Keys
		message []byte
		want    error
	}{
		"no extension":         {ech.NewKeys(key), plain, ech.ErrNotOffered},
		"no keys":              {nil, sealed, ech.ErrNoKey},
		"zero keys":            {&ech.Keys{}, sealed, ech.ErrNoKey},
		"another config_id":    {ech.NewKeys(generate(t, configID+1)), sealed, ech.ErrNoKey},
		"another key":          {ech.NewKeys(other), sealed, ech.ErrDecrypt},
		"two other keys":       {ech.NewKeys(other, generate(t, configID)), sealed, ech.ErrDecrypt},
		"payload changed":      {ech.NewKeys(key), changed(sealed, len(sealed)-1), ech.ErrDecrypt},
		"outer random changed": {ech.NewKeys(key), changed(sealed, 10), ech.ErrDecrypt},
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := c.keys.Open(c.message)
			require.Nil(t, opened)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func changed(message []byte, at int) []byte {
	message = bytes.Clone(message)
	message[at] ^= 1
	return message
}

// RFC 9849 section 7.1 lets the server use only suites that the ECHConfig has.
func TestOpenSuiteOutsideConfig(t *testing.T) {
	key := generate(t, configID)
	suite := ech.Suite{KDF: hpke.HKDFSHA512().ID(), AEAD: hpke.AES256GCM().ID()}
	s := newSealer(t, key.Config, suite)
	message := seal(t, s, hellotest.Hello{Name: "public.example"},
		hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner}}.Encoded())
	_, err := ech.NewKeys(key).Open(message)
	require.ErrorIs(t, err, ech.ErrNoKey)
}

// Each case is an inner hello that a client can encrypt. The result is the inner hello, or an alert.
// crypto/tls decides in the same way, with these exceptions: it refuses a client that offers only versions
// after TLS 1.3, and accepts some ech_outer_extensions extensions that RFC 9849 section 5.1 forbids.
func TestInnerHello(t *testing.T) {
	key := generate(t, configID)
	ext := func(kind uint16, body string) hellotest.Extension {
		return hellotest.Extension{Type: kind, Body: []byte(body)}
	}
	outer := hellotest.Hello{
		Name: "public.example", Versions: []uint16{0x0304, 0x0303},
		Extensions: []hellotest.Extension{ext(0xa1, "A"), ext(0xd1, "D"), ext(0xb1, "B"), ext(0xc1, "C"), ext(extOuter, "\x02\x00\xa1")},
	}
	good := hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner}}
	with := func(extensions ...hellotest.Extension) []byte {
		h := good
		h.Extensions = append([]hellotest.Extension{inner}, extensions...)
		return h.Encoded()
	}
	versions := func(list ...uint16) []byte {
		h := good
		h.Versions = list
		return h.Encoded()
	}
	session := slices.Insert(good.Encoded(), 35, 9)
	session[34] = 1

	for name, c := range map[string]struct {
		encoded []byte
		want    []byte // the inner hello; nil means an alert
		err     string // a part of the error
		differs bool   // crypto/tls decides otherwise
	}{
		"plain":                     {good.Encoded(), good.Message(), "", false},
		"padding of zeros":          {append(good.Encoded(), make([]byte, 500)...), good.Message(), "", false},
		"padding with another byte": {append(append(good.Encoded(), make([]byte, 500)...), 1), nil, "padding", false},
		"session ID":                {session, nil, "legacy_session_id", false},
		"truncated":                 {good.Encoded()[:40], nil, "beyond its end", false},
		"empty":                     {[]byte{}, nil, "beyond its end", false},
		"GREASE versions":           {versions(0x0a0a, 0x0304), innerMessage(versions(0x0a0a, 0x0304)), "", false},
		"later version":             {versions(0x0305), innerMessage(versions(0x0305)), "", true},
		"TLS 1.2 too":               {versions(0x0304, 0x0303), nil, "TLS 1.2 or below", false},
		"only TLS 1.2":              {versions(0x0303), nil, "no TLS 1.3", false},
		"no supported_versions":     {versions(), nil, "no TLS 1.3", false},
		"no name":                   {hellotest.Hello{Versions: tls13, Extensions: good.Extensions}.Encoded(), hellotest.Hello{Versions: tls13, Extensions: good.Extensions}.Message(), "", false},
		"two names":                 {with(ext(0, "\x00\x04\x00\x00\x01a")), nil, "second one of its type", false},
		"no inner type":             {hellotest.Hello{Name: testName, Versions: tls13}.Encoded(), nil, "no encrypted_client_hello", false},
		"outer type":                {hellotest.Hello{Name: testName, Versions: tls13, ECH: true}.Encoded(), nil, "not of type inner", false},
		"inner type twice":          {with(inner), nil, "not of type inner", false},
		"byte after the inner type": {hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{ext(extECH, "\x01\x00")}}.Encoded(), nil, "not of type inner", false},
		"extension without end":     {withLength(with(ext(0xee, "abc")), 200), nil, "beyond the end", false},
		"outer extensions":          {with(names(0xa1, 0xb1, 0xc1), ext(0xee, "E")), innerMessage(with(ext(0xa1, "A"), ext(0xb1, "B"), ext(0xc1, "C"), ext(0xee, "E"))), "", false},
		"missing outer extension":   {with(names(0xa1, 0xf1)), nil, "no such extension", false},
		"wrong order":               {with(names(0xb1, 0xa1, 0xd1)), nil, "no such extension", false},
		"named twice":               {with(names(0xb1, 0xb1)), nil, "twice", false},
		"names ECH":                 {with(names(0xa1, extECH)), nil, "names an extension of ECH", false},
		"names itself":              {with(names(extOuter)), nil, "names an extension of ECH", true},
		"two lists":                 {with(names(0xa1), names(0xb1)), nil, "two ech_outer_extensions", true},
		"empty list":                {with(names()), nil, "wrong length", true},
		"odd list":                  {with(ext(extOuter, "\x03\x00\xa1\x00")), nil, "wrong length", false},
		"byte after the list":       {with(ext(extOuter, "\x02\x00\xa1\x00")), nil, "wrong length", true},
		"no list":                   {with(ext(extOuter, "")), nil, "wrong length", false},
		"second name from outside":  {with(names(0)), nil, "second one of its type", false},
		"versions from outside":     {hellotest.Hello{Name: testName, Extensions: []hellotest.Extension{inner, names(extSupportedVersion)}}.Encoded(), nil, "TLS 1.2 or below", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealer(t, key.Config, aes)
			message := seal(t, s, outer, c.encoded)
			opened, err := ech.NewKeys(key).Open(message)
			name, accepted := openWithCryptoTLS(t, key, message)
			if c.want != nil {
				require.NoError(t, err)
				require.Equal(t, c.want, opened.Message)
				if !c.differs {
					require.True(t, accepted)
					require.Equal(t, opened.Hello.ServerName, name)
				}
				return
			}
			require.Equal(t, c.differs, accepted)
			require.Nil(t, opened)
			requireAlert(t, err, 47)
			require.ErrorContains(t, err, c.err)
		})
	}
}

// openWithCryptoTLS returns the inner name that a server of crypto/tls sees in a hello. accepted is false
// if the server refuses the hello before it has used a name.
func openWithCryptoTLS(t *testing.T, key ech.Key, message []byte) (name string, accepted bool) {
	t.Helper()
	text, err := key.PEM()
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	client, conn := net.Pipe()
	defer client.Close()
	require.NoError(t, client.SetDeadline(time.Now().Add(time.Minute)))
	server := tls.Server(conn, &tls.Config{
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: key.Config.Bytes(), PrivateKey: private.(*ecdh.PrivateKey).Bytes()}},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			name, accepted = info.ServerName, true
			return nil, errors.New("enough")
		},
	})
	done := make(chan error, 1)
	go func() {
		done <- server.Handshake()
		conn.Close()
	}()
	_, err = client.Write(hellotest.Records(message))
	require.NoError(t, err)
	_, err = io.ReadAll(client) // the alert
	require.NoError(t, err)
	require.Error(t, <-done)
	return name, accepted
}

// innerMessage returns the handshake message of an EncodedClientHelloInner without compression.
func innerMessage(encoded []byte) []byte {
	return append([]byte{1, 0, byte(len(encoded) >> 8), byte(len(encoded))}, encoded...)
}

// withLength changes the length field of the last extension, whose body has 3 bytes.
func withLength(encoded []byte, n byte) []byte {
	encoded[len(encoded)-4] = n
	return encoded
}

func requireAlert(t *testing.T, err error, alert uint8) {
	t.Helper()
	var e *ech.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, alert, e.Alert, e.What)
}

// The alerts for wrong outer hellos.
func TestOuterHello(t *testing.T) {
	key := generate(t, configID)
	with := func(body string) []byte {
		return hellotest.Hello{Name: "public.example", Extensions: []hellotest.Extension{{Type: extECH, Body: []byte(body)}}}.Message()
	}
	whole := with("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x01x")
	for name, c := range map[string]struct {
		message []byte
		alert   uint8
	}{
		"inner type":               {with("\x01"), 47},
		"unknown type":             {with("\x02"), 47},
		"empty":                    {with(""), 50},
		"truncated":                {with("\x00\x00\x01\x00\x01\x07\x00"), 50},
		"no payload":               {with("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x00"), 50},
		"payload beyond the end":   {with("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x02x"), 50},
		"byte after the payload":   {with("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x01xy"), 50},
		"two extensions":           {hellotest.Hello{ECH: true, Extensions: []hellotest.Extension{{Type: extECH, Body: []byte("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x01x")}}}.Message(), 50},
		"two good extensions":      {hellotest.Hello{Extensions: []hellotest.Extension{{Type: extECH, Body: []byte("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x01x")}, {Type: extECH, Body: []byte("\x00\x00\x01\x00\x01\x07\x00\x00\x00\x01x")}}}.Message(), 47},
		"no message":               {nil, 50},
		"another message":          {append([]byte{2}, whole[1:]...), 50},
		"byte after the message":   {append(bytes.Clone(whole), 0), 50},
		"truncated message":        {whole[:len(whole)-1], 50},
		"extension beyond the end": {changed(whole, len(whole)-12), 50},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ech.NewKeys(key).Open(c.message)
			requireAlert(t, err, c.alert)
		})
	}
}

func TestOpenSecond(t *testing.T) {
	key := generate(t, configID)
	outer := hellotest.Hello{Name: "public.example"}
	hello := hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner}}
	second := hello
	second.KeyShares = []uint16{24}
	renamed := second
	renamed.Name = "other.example"

	for name, c := range map[string]struct {
		change  func(s *hellotest.Sealer) // before the second hello
		outer   hellotest.Hello
		encoded []byte
		alert   uint8 // 0 means that the second hello is accepted
	}{
		"good":              {nil, outer, second.Encoded(), 0},
		"another outer":     {nil, hellotest.Hello{}, second.Encoded(), 0},
		"another config_id": {func(s *hellotest.Sealer) { s.ConfigID++ }, outer, second.Encoded(), 47},
		"another suite":     {func(s *hellotest.Sealer) { s.AEAD = hpke.ChaCha20Poly1305().ID() }, outer, second.Encoded(), 47},
		"fresh context":     {func(s *hellotest.Sealer) { *s = *newSealer(t, key.Config, aes); s.Enc = nil }, outer, second.Encoded(), 51},
		"bad padding":       {nil, outer, append(second.Encoded(), 1), 47},
		"another name":      {nil, outer, renamed.Encoded(), 47},
		"encapsulated key":  {func(s *hellotest.Sealer) { s.Enc = newSealer(t, key.Config, aes).Enc }, outer, second.Encoded(), 47},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealer(t, key.Config, aes)
			opened, err := ech.NewKeys(key).Open(seal(t, s, outer, hello.Encoded()))
			require.NoError(t, err)
			s.Enc = nil
			if c.change != nil {
				c.change(s)
			}
			got, err := opened.OpenSecond(seal(t, s, c.outer, c.encoded))
			if c.alert == 0 {
				require.NoError(t, err)
				require.Equal(t, second.Message(), got)
				return
			}
			require.Nil(t, got)
			requireAlert(t, err, c.alert)
		})
	}
	for name, c := range map[string]struct {
		message func([]byte) []byte
		alert   uint8
	}{
		"no extension": {func([]byte) []byte { return outer.Message() }, 109},
		"inner type":   {func([]byte) []byte { return hello.Message() }, 47},
		"no message":   {func([]byte) []byte { return nil }, 50},
		"damaged":      {func(m []byte) []byte { return changed(m, len(m)-1) }, 51},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealer(t, key.Config, aes)
			opened, err := ech.NewKeys(key).Open(seal(t, s, outer, hello.Encoded()))
			require.NoError(t, err)
			s.Enc = nil
			_, err = opened.OpenSecond(c.message(seal(t, s, outer, second.Encoded())))
			requireAlert(t, err, c.alert)
		})
	}
}

// RFC 9849 section 5.1 asks for linear time, and section 10.12.4 for an inner hello that is not
// larger than the outer hello.
func TestNoAmplification(t *testing.T) {
	key := generate(t, configID)
	outer := hellotest.Hello{Name: "public.example"}
	var types []uint16
	for i := range uint16(127) { // the longest list
		types = append(types, 0x1000+i)
		outer.Extensions = append(outer.Extensions, hellotest.Extension{Type: 0x1000 + i, Body: []byte(strings.Repeat("x", 400))})
	}
	s := newSealer(t, key.Config, aes)
	message := seal(t, s, outer,
		hellotest.Hello{Name: testName, Versions: tls13, Extensions: []hellotest.Extension{inner, names(types...)}}.Encoded())
	opened, err := ech.NewKeys(key).Open(message)
	require.NoError(t, err)
	require.Greater(t, len(opened.Message), 127*400)
	require.LessOrEqual(t, len(opened.Message), len(message))
	require.Equal(t, len(message), cap(opened.Message), "one allocation is enough")
}
