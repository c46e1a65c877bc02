package quic

// MaxPieces is the greatest number of pieces out of order.
const MaxPieces = maxPieces

// The senders of Initial packets.
const (
	Client = client
	Server = server
)

// Packet describes an Initial packet.
type Packet struct {
	Version          uint32
	Dest, Src, Token []byte
	Number           uint32
	KeyID            []byte // the keys derive from this ID; nil means Dest
	Side             string // "" means Client
	First            byte   // bits of the first byte that are inverted
}

// Seal returns the protected packet with this payload. The payload has at least 4 bytes.
func (p Packet) Seal(payload []byte) []byte {
	id, side := p.KeyID, p.Side
	if id == nil {
		id = p.Dest
	}
	if side == "" {
		side = Client
	}
	k, err := newKeys(p.Version, id, side)
	if err != nil {
		panic(err)
	}
	b, numberAt := appendInitial(nil, p.Version, p.Dest, p.Src, p.Token, p.Number, payload)
	b[0] ^= p.First
	return k.seal(b, numberAt)
}

// IV returns the IV of the keys of a side.
func IV(version uint32, id []byte, side string) []byte {
	k, err := newKeys(version, id, side)
	if err != nil {
		panic(err)
	}
	return k.iv[:]
}

// Open removes the protection of a packet.
func Open(packet, keyID []byte, side string) (payload []byte, number int64, ok bool) {
	h, err := ParseHeader(packet)
	if err != nil {
		return nil, 0, false
	}
	k, err := newKeys(h.Version, keyID, side)
	if err != nil {
		return nil, 0, false
	}
	_, payload, number, ok = k.open(nil, packet, h.numberAt, -1)
	return payload, number, ok
}

// ExpandNumber returns the full packet number, of which the argument "truncated" contains the last
// n bytes.
func ExpandNumber(truncated int64, n int, largest int64) int64 {
	return expandNumber(truncated, n, largest)
}

// AppendVarint appends a variable-length integer.
func AppendVarint(b []byte, v uint64) []byte { return appendVarint(b, v) }
