package ech

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// version is the version of an ECHConfig, and also the type of the extension encrypted_client_hello
// (RFC 9849 section 4).
const version = 0xfe0d

// ErrConfig means that the bytes are no ECHConfigList of RFC 9849 section 4.
var ErrConfig = errors.New("ech: malformed ECHConfigList")

// Config is an ECHConfig: the public key with which clients encrypt their hellos, and the public
// name. Do not change the slices.
type Config struct {
	ID            uint8  // config_id: a client sends it, so that the server finds the key
	KEM           uint16 // the number of the HPKE KEM, such as 0x0020 for X25519
	PublicKey     []byte
	Suites        []Suite
	MaxNameLength uint8 // the longest server name, from which clients compute their padding; 0 if unknown
	// PublicName is the name in the outer hello. It is the host whose backend serves clients with
	// an ECHConfig that the router no longer knows.
	PublicName string
	Extensions []byte // the list of extensions without its length; empty in configs of Generate

	raw []byte // the ECHConfig as it was parsed or made
}

// Suite is a pair of algorithms of HPKE (RFC 9180 section 7).
type Suite struct{ KDF, AEAD uint16 }

// Bytes returns the ECHConfig with its version and length. Do not change the slice.
func (c Config) Bytes() []byte { return c.raw }

// ParseConfigList parses an ECHConfigList. It leaves out every ECHConfig of another version. An
// error wraps ErrConfig. The configs share no memory with b.
func ParseConfigList(b []byte) ([]Config, error) {
	all := reader{b: slices.Clone(b)}
	list := all.vector16()
	if all.bad || !all.empty() || list.empty() {
		return nil, fmt.Errorf("%w: wrong length of the list", ErrConfig)
	}
	var configs []Config
	for !list.empty() {
		start := list.pos
		kind := list.uint16()
		contents := list.vector16()
		if list.bad {
			return nil, fmt.Errorf("%w: ECHConfig beyond the end of the list", ErrConfig)
		}
		if kind != version {
			continue
		}
		c, err := parseContents(contents)
		if err != nil {
			return nil, err
		}
		c.raw = list.b[start:list.pos:list.pos]
		configs = append(configs, c)
	}
	return configs, nil
}

// parseContents parses an ECHConfigContents.
func parseContents(r reader) (Config, error) {
	c := Config{ID: uint8(r.uint8()), KEM: uint16(r.uint16())}
	key := r.vector16()
	suites := r.vector16()
	c.MaxNameLength = uint8(r.uint8())
	name := r.vector8()
	extensions := r.vector16()
	c.PublicKey, c.PublicName, c.Extensions = key.rest(), string(name.rest()), extensions.rest()
	switch {
	case r.bad:
		return c, fmt.Errorf("%w: field beyond the end of the ECHConfig", ErrConfig)
	case !r.empty():
		return c, fmt.Errorf("%w: bytes after the ECHConfig", ErrConfig)
	case len(c.PublicKey) == 0:
		return c, fmt.Errorf("%w: no public key", ErrConfig)
	case suites.empty() || len(suites.rest())%4 != 0:
		return c, fmt.Errorf("%w: wrong length of cipher_suites", ErrConfig)
	case c.PublicName == "":
		return c, fmt.Errorf("%w: no public name", ErrConfig)
	}
	for !suites.empty() {
		c.Suites = append(c.Suites, Suite{KDF: uint16(suites.uint16()), AEAD: uint16(suites.uint16())})
	}
	for !extensions.empty() {
		extensions.uint16()
		if extensions.vector16(); extensions.bad {
			return c, fmt.Errorf("%w: extension beyond the end of the ECHConfig", ErrConfig)
		}
	}
	return c, nil
}

// marshal returns the ECHConfig of the fields of c.
func (c Config) marshal() []byte {
	var suites []byte
	for _, s := range c.Suites {
		suites = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(suites, s.KDF), s.AEAD)
	}
	contents := binary.BigEndian.AppendUint16([]byte{c.ID}, c.KEM)
	contents = appendVector16(contents, c.PublicKey)
	contents = appendVector16(contents, suites)
	contents = append(contents, c.MaxNameLength, byte(len(c.PublicName)))
	contents = append(contents, c.PublicName...)
	contents = appendVector16(contents, c.Extensions)
	return appendVector16(binary.BigEndian.AppendUint16(nil, version), contents)
}

// AppendConfigList appends the ECHConfigList of the configs, in the given order, to b. A client uses
// the first config that it supports. Do not publish a list without configs, which is malformed.
func AppendConfigList(b []byte, configs ...Config) []byte {
	var list []byte
	for _, c := range configs {
		list = append(list, c.raw...)
	}
	return appendVector16(b, list)
}

// appendVector16 appends a length field of two bytes, and the content.
func appendVector16(b, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(content))), content...)
}
