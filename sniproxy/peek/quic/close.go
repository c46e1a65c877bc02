package quic

import "encoding/binary"

// CryptoError returns the QUIC error code for a TLS alert (RFC 9001 section 4.8): 112
// (unrecognized_name) → 0x170.
func CryptoError(alert uint8) uint64 { return 0x100 + uint64(alert) }

// maxReason is the greatest length of the reason in a CONNECTION_CLOSE frame, in bytes.
const maxReason = 256

// AppendClose appends a datagram to b that closes the connection of a client. The datagram is an
// Initial packet with a CONNECTION_CLOSE frame. The frame contains code, such as CryptoError(112),
// and the first 256 bytes of reason, a text for the log of the client. Version, DestID and SrcID of
// h must be set.
//
// The datagram has at most 342 bytes, so it is smaller than the client's datagram (RFC 9000 section
// 8.1). It has no effect on a client that has already received an Initial packet of a server.
func (h Hello) AppendClose(b []byte, code uint64, reason string) ([]byte, error) {
	k, err := newKeys(h.Version, h.DestID, server)
	if err != nil {
		return b, err
	}
	reason = reason[:min(len(reason), maxReason)]
	payload := []byte{frameClose}
	payload = appendVarint(payload, code)
	payload = appendVarint(payload, frameCrypto) // the client's hello is the cause
	payload = appendVarint(payload, uint64(len(reason)))
	payload = append(payload, reason...)

	packet, numberAt := appendInitial(nil, h.Version, h.SrcID, h.DestID, nil, 0, payload)
	return append(b, k.seal(packet, numberAt)...), nil
}

// AppendVersionNegotiation appends a Version Negotiation packet to b (RFC 8999 section 6). h is the
// header of a datagram with a version that the server does not speak; send the packet to its
// client. versions contains the versions that the server speaks. If they include h.Version, the
// client ignores the packet.
//
// Answer only datagrams of at least MinDatagram bytes, and no packets of the type
// VersionNegotiation or Short (RFC 9000 section 6.1).
func (h Header) AppendVersionNegotiation(b []byte, versions ...uint32) []byte {
	b = append(b, 0xc0, 0, 0, 0, 0)
	b = append(append(b, byte(len(h.SrcID))), h.SrcID...)
	b = append(append(b, byte(len(h.DestID))), h.DestID...)
	for _, v := range versions {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// appendInitial appends an Initial packet without protection. numberAt is the offset of the packet
// number in the packet.
func appendInitial(b []byte, version uint32, dest, src, token []byte, number uint32, payload []byte) (packet []byte, numberAt int) {
	start := len(b)
	first := byte(0xc0 | maxNumber - 1)
	if version == Version2 {
		first |= 0x10
	}
	b = append(b, first)
	b = binary.BigEndian.AppendUint32(b, version)
	b = append(append(b, byte(len(dest))), dest...)
	b = append(append(b, byte(len(src))), src...)
	b = append(appendVarint(b, uint64(len(token))), token...)
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(maxNumber+len(payload)+tagLen)) // a varint of 2 bytes
	numberAt = len(b) - start
	b = binary.BigEndian.AppendUint32(b, number)
	return append(b, payload...), numberAt
}

// appendVarint appends a variable-length integer (RFC 9000 section 16), which must be less than 2^62.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, 0x4000|uint16(v))
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, 0x80000000|uint32(v))
	}
	return binary.BigEndian.AppendUint64(b, 0xc000000000000000|v)
}
