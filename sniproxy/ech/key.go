package ech

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/sniproxy/peek"
)

// The labels of the blocks of a key file (RFC 9934 section 3).
const (
	privateKeyLabel = "PRIVATE KEY"
	configLabel     = "ECHCONFIG"
)

// ErrKey means that a key file has no usable key.
var ErrKey = errors.New("ech: no usable key")

// Key is a private key, and the ECHConfig of its public key.
type Key struct {
	Config Config

	private *ecdh.PrivateKey
	hpke    hpke.PrivateKey
	suites  []suite // the suites of Config that package hpke supports
	info    []byte  // the HPKE info (RFC 9849 section 6.1)
}

// suite is a Suite with its algorithms.
type suite struct {
	Suite
	kdf  hpke.KDF
	aead hpke.AEAD
}

// Generate makes a new key for X25519 and HKDF-SHA256, with the cipher AES-128-GCM or
// ChaCha20-Poly1305. RFC 9849 section 9 requires that servers support all of them except
// ChaCha20-Poly1305.
//
// publicName is the name in the outer hellos of clients. maxNameLength is the length of the longest
// name of a server. Clients pad shorter names to this length, so that an observer cannot tell the
// names apart. id is the config_id. Each key of a router needs its own config_id.
//
// The error matches ErrKey if publicName is not a host name with a dot.
func Generate(publicName string, id, maxNameLength uint8) (Key, error) {
	name, err := peek.NormalizeServerName(publicName)
	if err != nil {
		return Key{}, fmt.Errorf("%w: public name: %w", ErrKey, err)
	}
	if !strings.Contains(name, ".") { // clients such as crypto/tls ignore a name of one label
		return Key{}, fmt.Errorf("%w: public name %q has only one label", ErrKey, name)
	}
	kem := hpke.DHKEM(ecdh.X25519())
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	kdf := hpke.HKDFSHA256().ID()
	c := Config{
		ID: id, KEM: kem.ID(), PublicKey: private.PublicKey().Bytes(), MaxNameLength: maxNameLength, PublicName: name, Extensions: []byte{},
		Suites: []Suite{{kdf, hpke.AES128GCM().ID()}, {kdf, hpke.ChaCha20Poly1305().ID()}},
	}
	c.raw = c.marshal()
	return newKey(c, private)
}

// newKey returns the Key of an ECHConfig. The error matches ErrKey if the private key does not
// belong to the ECHConfig, or if package hpke supports no suite of the ECHConfig.
func newKey(c Config, private *ecdh.PrivateKey) (Key, error) {
	k := Key{Config: c, private: private, info: append([]byte("tls ech\x00"), c.raw...)}
	var err error
	if k.hpke, err = hpke.NewDHKEMPrivateKey(private); err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if k.hpke.KEM().ID() != c.KEM || !bytes.Equal(c.PublicKey, private.PublicKey().Bytes()) {
		return Key{}, fmt.Errorf("%w: the ECHConfig of %s has another public key", ErrKey, c.PublicName)
	}
	for _, s := range c.Suites {
		kdf, err := hpke.NewKDF(s.KDF)
		if err != nil {
			continue
		}
		if aead, err := hpke.NewAEAD(s.AEAD); err == nil && s.AEAD != hpke.ExportOnly().ID() {
			k.suites = append(k.suites, suite{s, kdf, aead})
		}
	}
	if len(k.suites) == 0 {
		return Key{}, fmt.Errorf("%w: no known cipher suite in the ECHConfig of %s", ErrKey, c.PublicName)
	}
	return k, nil
}

// ParseKey parses a key file (RFC 9934). The file has these two blocks, in any order:
//
//   - PRIVATE KEY: a key of PKCS #8 for X25519, P-256, P-384 or P-521.
//   - ECHCONFIG: an ECHConfigList.
//
// ParseKey returns a Key for each ECHConfig whose public key belongs to the private key, and
// ignores all other ECHConfigs. If it finds no Key, the error matches ErrKey.
func ParseKey(text []byte) ([]Key, error) {
	var private *ecdh.PrivateKey
	var configs []Config
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var err error
		switch {
		case block.Type == privateKeyLabel && private != nil:
			err = errors.New("second " + privateKeyLabel)
		case block.Type == privateKeyLabel:
			private, err = parsePrivate(block.Bytes)
		case block.Type == configLabel && configs != nil:
			err = errors.New("second " + configLabel)
		case block.Type == configLabel:
			configs, err = ParseConfigList(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	switch {
	case private == nil:
		return nil, fmt.Errorf("%w: no block %s", ErrKey, privateKeyLabel)
	case len(configs) == 0:
		return nil, fmt.Errorf("%w: no block %s with an ECHConfig of RFC 9849", ErrKey, configLabel)
	}
	var keys []Key
	var last error
	for _, c := range configs {
		k, err := newKey(c, private)
		if err != nil {
			last = err
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, last
	}
	return keys, nil
}

// parsePrivate parses a private key of PKCS #8.
func parsePrivate(der []byte) (*ecdh.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdh.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key.ECDH()
	}
	return nil, fmt.Errorf("a key of type %T", key)
}

// PEM returns the key file of the key (RFC 9934). The file is secret. The text of its block ECHCONFIG
// without line ends is the value of "ech" in an HTTPS record.
func (k Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("ech: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: privateKeyLabel, Bytes: der})
	list := AppendConfigList(nil, k.Config)
	return append(text, pem.EncodeToMemory(&pem.Block{Type: configLabel, Bytes: list})...), nil
}
