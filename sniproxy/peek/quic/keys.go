package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

const (
	tagLen    = 16 // the length of the authentication tag, in bytes
	sampleLen = 16 // the length of the ciphertext that header protection samples
	maxNumber = 4  // the greatest length of an encoded packet number
)

// These are the salts from which newKeys derives keys: of version 1 (RFC 9001 section 5.2) and of
// version 2 (RFC 9369 section 3.3.1).
var (
	salt1 = []byte("\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a")
	salt2 = []byte("\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9")
)

// The senders whose keys newKeys derives.
const (
	client = "client in"
	server = "server in"
)

// keys protect the Initial packets that one side sends. Everybody who has seen the first packet of
// the client can derive the keys, so they hide nothing. They only prove that the sender of a packet
// has seen the first packet of the client.
type keys struct {
	aead cipher.AEAD
	iv   [12]byte
	hp   cipher.Block
}

// newKeys derives the keys of one side. id is the destination connection ID of the client's first
// Initial packet, or of the first one after a Retry.
func newKeys(version uint32, id []byte, side string) (*keys, error) {
	salt, prefix := salt1, "quic "
	if version == Version2 {
		salt, prefix = salt2, "quicv2 "
	}
	initial, err := hkdf.Extract(sha256.New, id, salt)
	if err != nil {
		return nil, err
	}
	secret, err := expandLabel(initial, side, sha256.Size)
	if err != nil {
		return nil, err
	}
	var parts [3][]byte
	for i, p := range []struct {
		label string
		n     int
	}{{"key", 16}, {"iv", 12}, {"hp", 16}} {
		if parts[i], err = expandLabel(secret, prefix+p.label, p.n); err != nil {
			return nil, err
		}
	}
	block, err := aes.NewCipher(parts[0])
	if err != nil {
		return nil, err
	}
	k := &keys{iv: [12]byte(parts[1])}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.hp, err = aes.NewCipher(parts[2])
	return k, err
}

// expandLabel is HKDF-Expand-Label of RFC 8446 section 7.1, with an empty context.
func expandLabel(secret []byte, label string, n int) ([]byte, error) {
	const prefix = "tls13 "
	info := make([]byte, 0, 32)
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(sha256.New, secret, string(info), n)
}

// nonce returns the nonce of the packet with this number (RFC 9001 section 5.3).
func (k *keys) nonce(number int64) [12]byte {
	nonce := k.iv
	for i := range 8 {
		nonce[11-i] ^= byte(number >> (8 * i))
	}
	return nonce
}

// mask returns the bytes with which header protection changes the first byte and the packet number
// (RFC 9001 section 5.4). packet is a whole packet, and numberAt is the offset of the packet number
// in it.
func (k *keys) mask(packet []byte, numberAt int) [sampleLen]byte {
	var mask [sampleLen]byte
	k.hp.Encrypt(mask[:], packet[numberAt+maxNumber:][:sampleLen])
	return mask
}

// open decrypts a packet, and appends the header and the payload to dst. largest is the largest
// packet number that open has returned for this connection, or -1. ok is false if the packet does
// not authenticate.
func (k *keys) open(dst, packet []byte, numberAt int, largest int64) (header, payload []byte, number int64, ok bool) {
	if len(packet) < numberAt+maxNumber+sampleLen {
		return nil, nil, 0, false
	}
	mask := k.mask(packet, numberAt)
	first := packet[0] ^ mask[0]&0x0f
	numberLen := int(first&3) + 1
	end := numberAt + numberLen
	dst = append(dst, packet[:end]...)
	header = dst[len(dst)-end:]
	header[0] = first
	truncated := int64(0)
	for i := range numberLen {
		header[numberAt+i] ^= mask[1+i]
		truncated = truncated<<8 | int64(header[numberAt+i])
	}
	number = expandNumber(truncated, numberLen, largest)
	nonce := k.nonce(number)
	out, err := k.aead.Open(dst, nonce[:], packet[end:], header)
	if err != nil {
		return nil, nil, 0, false
	}
	return out[len(dst)-end : len(dst)], out[len(dst):], number, true
}

// expandNumber returns the full packet number. A packet contains only the last n bytes of its
// number, in the argument "truncated". Of all numbers that end with these bytes, expandNumber
// chooses the one nearest to largest+1 (RFC 9000 appendix A.3).
func expandNumber(truncated int64, n int, largest int64) int64 {
	expected := largest + 1
	window := int64(1) << (8 * n)
	candidate := expected&^(window-1) | truncated
	switch {
	case candidate <= expected-window/2 && candidate < 1<<62-window:
		return candidate + window
	case candidate > expected+window/2 && candidate >= window:
		return candidate - window
	}
	return candidate
}

// seal protects the packet in b: a header, and then a payload of at least 4 bytes. The last 4 bytes
// of the header, at numberAt, are the packet number. seal encrypts the payload in place, appends
// the tag, and protects the header (RFC 9001 section 5.4).
func (k *keys) seal(b []byte, numberAt int) []byte {
	end := numberAt + maxNumber
	nonce := k.nonce(int64(binary.BigEndian.Uint32(b[numberAt:])))
	b = append(b[:end], k.aead.Seal(nil, nonce[:], b[end:], b[:end])...)
	mask := k.mask(b, numberAt)
	b[0] ^= mask[0] & 0x0f
	for i := range maxNumber {
		b[numberAt+i] ^= mask[1+i]
	}
	return b
}
