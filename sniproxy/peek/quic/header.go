package quic

import "encoding/binary"

// These are the versions of QUIC whose Initial packets the package can read.
const (
	Version1 uint32 = 1          // RFC 9000
	Version2 uint32 = 0x6b3343cf // RFC 9369
)

// Type is the type of a packet.
type Type uint8

// The types of packets.
const (
	Short              Type = iota // a packet with a short header, of any version: 1-RTT in versions 1 and 2
	Initial                        // the first packets of both sides
	ZeroRTT                        // early data of a client
	Handshake                      // the rest of the handshake
	Retry                          // a server asks the client to prove its address
	VersionNegotiation             // a server lists its versions
	UnknownVersion                 // a packet with a long header, of a version that the package cannot read
)

// String returns the type as RFC 9000 writes it.
func (t Type) String() string {
	names := [...]string{"1-RTT", "Initial", "0-RTT", "Handshake", "Retry", "Version Negotiation", "unknown version"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

// The lengths of connection IDs in bytes.
const (
	// MaxIDLen is the greatest length of a connection ID in versions 1 and 2, in bytes (RFC 9000
	// section 17.2).
	MaxIDLen = 20
	// MinClientIDLen is the least length, in bytes, of the destination ID that a client chooses for
	// its first packet (RFC 9000 section 7.2).
	MinClientIDLen = 8
)

// MinDatagram is the least size in bytes of a datagram with an Initial packet of a client. Servers
// discard the Initial packets in smaller datagrams (RFC 9000 section 14.1).
const MinDatagram = 1200

// Header is the part of a packet that its sender does not encrypt. Its slices share the memory of
// the datagram.
type Header struct {
	Type Type
	// Version is 0 for Short and for VersionNegotiation.
	Version uint32
	// DestID is the connection ID of the receiver. The receiver has chosen it, except in the first
	// packets of a client, where the client has chosen it. DestID is nil if Type is Short: the ID
	// then begins at the second byte, but only the receiver knows its length.
	DestID []byte
	// SrcID is the connection ID that the sender has chosen for itself. It is nil if Type is Short,
	// because such packets have no SrcID.
	SrcID []byte
	// Token is the token of an Initial packet. It is nil for other types.
	Token []byte
	// Len is the length of the packet in bytes. After a packet of the type Initial, ZeroRTT or
	// Handshake, another packet can follow in the datagram. Packets of the other types extend to
	// the end of the datagram.
	Len int

	numberAt int // the offset of the packet number of Initial, ZeroRTT and Handshake
}

// ParseHeader parses the header of the packet at the beginning of b, which is a datagram or the rest
// of a datagram. The error is nil, or an *Ignored that wraps ErrNotQUIC.
//
// ParseHeader ignores the fixed bit of RFC 9000, because RFC 9287 lets endpoints set it to any value.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) == 0 {
		return h, notQUIC(0, "empty datagram")
	}
	if b[0]&0x80 == 0 {
		h.Len = len(b)
		return h, nil
	}
	c := cursor{b: b, pos: 1}
	version := c.take(4)
	h.DestID = c.take(int(c.byte()))
	h.SrcID = c.take(int(c.byte()))
	if c.short {
		return Header{}, notQUIC(c.pos, "long header: beyond the end of the datagram")
	}
	h.Version = binary.BigEndian.Uint32(version)
	h.Len = len(b)
	switch h.Version {
	case 0:
		h.Type = VersionNegotiation
		return h, nil
	case Version1, Version2:
	default:
		h.Type = UnknownVersion
		return h, nil
	}
	if len(h.DestID) > MaxIDLen || len(h.SrcID) > MaxIDLen {
		return Header{}, notQUIC(5, "connection ID: longer than 20 bytes")
	}
	h.Type = typeOf(b[0], h.Version)
	if h.Type == Retry {
		return h, nil
	}
	if h.Type == Initial {
		h.Token = c.take(c.length())
	}
	n := c.length()
	h.numberAt = c.pos
	c.take(n)
	if c.short {
		return Header{}, notQUIC(c.pos, h.Type.String()+" packet: beyond the end of the datagram")
	}
	h.Len = c.pos
	return h, nil
}

// typeOf returns the type of a packet with a long header: RFC 9000 table 5, and RFC 9369 section 3.2.
func typeOf(first byte, version uint32) Type {
	types := [4]Type{Initial, ZeroRTT, Handshake, Retry}
	if version == Version2 {
		types = [4]Type{Retry, Initial, ZeroRTT, Handshake}
	}
	return types[first>>4&3]
}

// cursor reads the fields of a header or of a frame. If a field extends beyond the end, the cursor
// sets its field "short", and reads all later fields as empty.
type cursor struct {
	b     []byte
	pos   int
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n < 0 || len(c.b)-c.pos < n {
		c.short = true
		return nil
	}
	c.pos += n
	return c.b[c.pos-n : c.pos : c.pos]
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// varint reads a variable-length integer (RFC 9000 section 16).
func (c *cursor) varint() uint64 {
	if c.short || c.pos == len(c.b) {
		c.short = true
		return 0
	}
	n := 1 << (c.b[c.pos] >> 6)
	var v uint64
	for i, b := range c.take(n) {
		if i == 0 {
			b &= 0x3f
		}
		v = v<<8 | uint64(b)
	}
	return v
}

// length reads a variable-length integer that is the length of a field. It returns -1 if no field
// can have this length.
func (c *cursor) length() int {
	v := c.varint()
	if v > uint64(len(c.b)) {
		return -1
	}
	return int(v)
}
