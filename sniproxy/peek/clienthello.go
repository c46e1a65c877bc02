package peek

import "iter"

// ClientHello contains the parts of a ClientHello that a router needs. ServerName is a copy. The
// lists, such as ALPN, may share memory with the parsed bytes, and are valid until these change.
type ClientHello struct {
	// ServerName is the host_name of the server_name extension (RFC 6066 section 3) as the client
	// sent it: upper or lower case, perhaps with a final dot, perhaps invalid. See
	// NormalizeServerName. It is "" if the error is ErrNoName.
	ServerName string

	// LegacyVersion is the version field of the message. Clients of TLS 1.3 send 0x0303 (TLS 1.2)
	// here. For the highest version, see MaxVersion.
	LegacyVersion uint16

	// ECH reports whether the hello has the extension for an encrypted hello (RFC 9849). If the
	// extension contains an encrypted hello, ServerName is the public name of a provider. Without
	// an ECH configuration for the server, a browser sends random bytes ("GREASE") in the
	// extension, and ServerName is the real name. A router cannot distinguish these two cases.
	ECH bool

	// SSLv2 reports whether the hello has the format of SSL 2.0. This format has no field for a
	// host name.
	SSLv2 bool

	// Len is the length of the hello in bytes, including the headers of its records.
	Len int

	alpn, versions, keyShares []byte // the contents of the lists; the parser has checked them
}

// ParseClientHello parses the ClientHello, of at most MaxBytes bytes, at the beginning of b. The
// error is nil, NeedMore, ErrNoName (only the name is missing), or an *Error that wraps ErrNotTLS,
// ErrTooLarge or ErrMalformed.
//
// ParseClientHello accepts every ClientHello that crypto/tls accepts, with three exceptions:
//
//   - a record whose major version is not 3;
//   - a warning alert before or within the hello;
//   - a hello of more than MaxBytes bytes.
//
// Unlike crypto/tls, it accepts a name with a final dot, and a malformed extension that a router
// does not need.
func ParseClientHello(b []byte) (ClientHello, error) {
	var s helloScan
	var h ClientHello
	err := s.parse(&h, b, MaxBytes)
	return h, err
}

// ParseClientHelloMessage parses a ClientHello without TLS records, as in QUIC (see package quic),
// by the rules of ParseClientHello. If b does not begin with a ClientHello, the error wraps
// ErrMalformed.
func ParseClientHelloMessage(b []byte) (ClientHello, error) {
	var header [handshakeHeader]byte
	size, wrong := messageSize(header, copy(header[:], b))
	switch {
	case wrong != "":
		return ClientHello{}, malformed(0, wrong)
	case size > MaxBytes:
		return ClientHello{}, tooLarge(1, "ClientHello")
	case len(b) < size:
		return ClientHello{}, NeedMore(size - len(b))
	}
	h := ClientHello{Len: size}
	if wrong := h.parseMessage(b[:size:size]); wrong.what != "" {
		return ClientHello{}, malformed(wrong.at, wrong.what)
	}
	if h.ServerName == "" {
		return h, ErrNoName
	}
	return h, nil
}

// Message returns the handshake message of the hello with its header of four bytes, and without the
// headers of TLS records. b must be the bytes from which h was parsed by ParseClientHello or a
// Parser. If the hello is in one record, the result shares memory with b. For a hello of SSL 2.0,
// the result is nil.
func (h ClientHello) Message(b []byte) []byte {
	switch {
	case h.SSLv2 || h.Len < recordHeader || h.Len > len(b):
		return nil
	case recordHeader+int(b[3])<<8+int(b[4]) >= h.Len:
		return b[recordHeader:h.Len:h.Len]
	}
	return join(b[:h.Len], h.Len)
}

// ALPN yields the application protocols that the client offers, in the client's order. The slices
// share memory with the hello. They may contain any bytes, because some clients add random
// protocols.
func (h ClientHello) ALPN() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for l := h.alpn; len(l) > 0; l = l[1+l[0]:] {
			if !yield(l[1 : 1+l[0] : 1+l[0]]) {
				return
			}
		}
	}
}

// OffersALPN reports whether the client offers an application protocol, such as "h2", "http/1.1" or
// "acme-tls/1".
func (h ClientHello) OffersALPN(protocol string) bool {
	for p := range h.ALPN() {
		if string(p) == protocol {
			return true
		}
	}
	return false
}

// SupportedVersions yields the versions in the supported_versions extension, in the client's order.
// Clients of TLS 1.3 send this extension. Some add reserved values (RFC 8701).
func (h ClientHello) SupportedVersions() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for l := h.versions; len(l) >= 2; l = l[2:] {
			if !yield(uint16(l[0])<<8 | uint16(l[1])) {
				return
			}
		}
	}
}

// MaxVersion returns the highest version that the client offers, such as tls.VersionTLS13.
func (h ClientHello) MaxVersion() uint16 {
	if len(h.versions) == 0 {
		return min(h.LegacyVersion, 0x0303) // RFC 8446 section 4.2.1
	}
	var highest uint16
	for v := range h.SupportedVersions() {
		if !isGREASE(v) {
			highest = max(highest, v)
		}
	}
	return highest
}

// KeyShares yields the groups of the client's key shares, in the client's order. Some clients add
// reserved values (RFC 8701).
func (h ClientHello) KeyShares() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for l := h.keyShares; len(l) >= 4; {
			if !yield(uint16(l[0])<<8 | uint16(l[1])) {
				return
			}
			l = l[4+int(l[2])<<8+int(l[3]):]
		}
	}
}

// PostQuantum reports whether the client sends a key share for ML-KEM, alone or in a hybrid group,
// or for the Kyber draft that clients used before ML-KEM.
func (h ClientHello) PostQuantum() bool {
	for group := range h.KeyShares() {
		switch group {
		case 0x0200, 0x0201, 0x0202, // MLKEM512, MLKEM768, MLKEM1024
			0x11eb, 0x11ec, 0x11ed, // SecP256r1MLKEM768, X25519MLKEM768, SecP384r1MLKEM1024
			0x6399, 0x639a: // X25519Kyber768Draft00, SecP256r1Kyber768Draft00
			return true
		}
	}
	return false
}

// isGREASE reports whether RFC 8701 reserves the value. Clients add reserved values to their lists,
// so that servers learn to ignore unknown values.
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// The extensions that the parser reads.
const (
	extServerName        = 0
	extALPN              = 16
	extSupportedVersions = 43
	extKeyShare          = 51
	extECH               = 0xfe0d
)

// cursor reads the fields of a message. If a field is longer than the rest of the message, the
// cursor stores the offset of this field in its own field "bad", and reads all later fields as
// empty.
type cursor struct {
	b   []byte
	pos int
	bad int // the offset of the first field that does not fit; -1 if all fit
}

func (c *cursor) empty() bool { return c.bad >= 0 || c.pos == len(c.b) }

func (c *cursor) skip(n int) {
	if c.bad < 0 && len(c.b)-c.pos < n {
		c.bad = c.pos
	}
	if c.bad < 0 {
		c.pos += n
	}
}

func (c *cursor) uint8() int {
	at := c.pos
	if c.skip(1); c.bad >= 0 {
		return 0
	}
	return int(c.b[at])
}

func (c *cursor) uint16() int {
	at := c.pos
	if c.skip(2); c.bad >= 0 {
		return 0
	}
	return int(c.b[at])<<8 | int(c.b[at+1])
}

// vector8 reads a vector: a length field of one byte, followed by the content.
func (c *cursor) vector8() cursor {
	start := c.pos
	n := c.uint8()
	return c.vector(start, n)
}

// vector16 reads a vector: a length field of two bytes, followed by the content.
func (c *cursor) vector16() cursor {
	start := c.pos
	n := c.uint16()
	return c.vector(start, n)
}

// The method "vector" returns a cursor for the content of a vector, the next n bytes. The argument
// "start" is the offset of the length field of the vector. If bytes are missing, the error states
// this offset.
func (c *cursor) vector(start, n int) cursor {
	if c.bad < 0 && len(c.b)-c.pos < n {
		c.bad = start
	}
	if c.bad >= 0 {
		return cursor{bad: c.bad}
	}
	v := cursor{b: c.b[:c.pos+n], pos: c.pos, bad: -1}
	c.pos += n
	return v
}

func (c *cursor) rest() []byte { return c.b[c.pos:len(c.b):len(c.b)] }

// fault describes an error in a message.
type fault struct {
	what string // the field and its error; "" means that there is no error
	at   int    // the offset in the message
}

// parseMessage parses a complete message with its header of four bytes (RFC 8446 sections 4 and
// 4.1.2).
func (h *ClientHello) parseMessage(msg []byte) fault {
	c := cursor{b: msg, pos: 4, bad: -1}
	h.LegacyVersion = uint16(c.uint16())
	c.skip(32)  // random
	c.vector8() // legacy_session_id
	if suites := c.vector16(); len(suites.rest())%2 != 0 {
		return fault{"cipher_suites: odd length", suites.pos}
	}
	c.vector8() // legacy_compression_methods
	if c.bad >= 0 {
		return fault{"ClientHello: field beyond the end of the message", c.bad}
	}
	if c.empty() {
		return fault{} // the hello of a client that knows no extensions ends here
	}
	extensions := c.vector16()
	if c.bad >= 0 {
		return fault{"extensions: beyond the end of the message", c.bad}
	}
	if !c.empty() {
		return fault{"extensions: bytes after them", c.pos}
	}
	return h.parseExtensions(extensions)
}

func (h *ClientHello) parseExtensions(c cursor) fault {
	var seen uint8
	for !c.empty() {
		start := c.pos
		// A parse spends most of its time in this loop. To be fast, the loop does not use the
		// methods of cursor.
		left := c.rest()
		if len(left) < 4 {
			return fault{"extension: beyond the end of the extensions", start}
		}
		kind, n := int(left[0])<<8|int(left[1]), int(left[2])<<8|int(left[3])
		if len(left)-4 < n {
			return fault{"extension: beyond the end of the extensions", start + 2}
		}
		c.pos += 4 + n
		body := cursor{b: c.b[:c.pos], pos: c.pos - n, bad: -1}
		var bit uint8
		var what string
		switch kind {
		case extServerName:
			bit, what = 1, h.parseServerName(body)
		case extALPN:
			bit, what = 2, h.parseALPN(body)
		case extSupportedVersions:
			bit, what = 4, h.parseVersions(body)
		case extKeyShare:
			bit, what = 8, h.parseKeyShares(body)
		case extECH:
			bit, what = 16, h.parseECH(body)
		}
		// RFC 8446 section 4.2 forbids two extensions of one type. Some servers would use the first
		// of the two, and others the second, so refuse the hello.
		if seen&bit != 0 {
			what = "extension: second one of its type"
		}
		if what != "" {
			return fault{what, start}
		}
		seen |= bit
	}
	return fault{}
}

// parseServerName skips names whose type is not host_name, as crypto/tls does. This is safe:
// OpenSSL and BoringSSL refuse a hello with such a name, so no server reads a different host from
// it.
func (h *ClientHello) parseServerName(c cursor) string {
	list := c.vector16()
	if c.bad >= 0 {
		return "server_name: list beyond the end of the extension"
	}
	if !c.empty() {
		return "server_name: bytes after the list"
	}
	if list.empty() {
		return "server_name: empty list"
	}
	var name []byte
	for !list.empty() {
		kind := list.uint8()
		entry := list.vector16()
		switch {
		case list.bad >= 0:
			return "server_name: name beyond the end of the list"
		case entry.empty():
			return "server_name: empty name"
		case kind != 0:
		case name != nil:
			return "server_name: second host_name"
		default:
			name = entry.rest()
		}
	}
	h.ServerName = string(name)
	return ""
}

func (h *ClientHello) parseALPN(c cursor) string {
	list := c.vector16()
	if c.bad >= 0 || !c.empty() || list.empty() {
		return "application_layer_protocol_negotiation: bad list length"
	}
	h.alpn = list.rest()
	for !list.empty() {
		if name := list.vector8(); name.empty() {
			h.alpn = nil
			return "application_layer_protocol_negotiation: bad name length"
		}
	}
	return ""
}

func (h *ClientHello) parseVersions(c cursor) string {
	list := c.vector8()
	if c.bad >= 0 || !c.empty() || list.empty() || len(list.rest())%2 != 0 {
		return "supported_versions: bad list length"
	}
	h.versions = list.rest()
	return ""
}

func (h *ClientHello) parseKeyShares(c cursor) string {
	list := c.vector16() // an empty list is valid: the client lets the server choose a group
	if c.bad >= 0 || !c.empty() {
		return "key_share: bad list length"
	}
	h.keyShares = list.rest()
	for !list.empty() {
		list.uint16() // group
		if key := list.vector16(); key.empty() {
			h.keyShares = nil
			return "key_share: bad key length"
		}
	}
	return ""
}

// parseECH reads only the type of the extension, where 0 means the outer hello. The rest of the
// extension is encrypted.
func (h *ClientHello) parseECH(c cursor) string {
	h.ECH = !c.empty() && c.rest()[0] == 0
	return ""
}
