package peek

// The extensions that are looked into.
const (
	extServerName        = 0
	extALPN              = 16
	extSupportedVersions = 43
	extKeyShare          = 51
	extECH               = 0xfe0d
)

// cursor takes fields from a message. After a field that does not fit, bad is where
// it began and all further fields are empty.
type cursor struct {
	b   []byte
	pos int
	bad int // offset of the first field that did not fit, -1 if all did
}

func (c *cursor) empty() bool { return c.bad >= 0 || c.pos == len(c.b) }

func (c *cursor) bytes(n int) []byte {
	if c.bad >= 0 {
		return nil
	}
	if len(c.b)-c.pos < n {
		c.bad = c.pos
		return nil
	}
	c.pos += n
	return c.b[c.pos-n : c.pos]
}

func (c *cursor) number(size int) int {
	n := 0
	for _, x := range c.bytes(size) {
		n = n<<8 | int(x)
	}
	return n
}

// vector takes a vector with a length of so many bytes before it.
func (c *cursor) vector(size int) cursor {
	start := c.pos
	n := c.number(size)
	end := c.pos + n
	if c.bad < 0 && end > len(c.b) {
		c.bad = start
	}
	if c.bad >= 0 {
		return cursor{bad: c.bad}
	}
	v := cursor{b: c.b[:end], pos: c.pos, bad: -1}
	c.pos = end
	return v
}

func (c *cursor) rest() []byte { return c.b[c.pos:len(c.b):len(c.b)] }

// fault is a field of a message and what is wrong with it.
type fault struct {
	what string // "" is none
	at   int
}

// parseBody parses a whole message with its header of four bytes (RFC 8446 sections
// 4 and 4.1.2).
func parseBody(msg []byte) (ClientHello, fault) {
	var h ClientHello
	c := cursor{b: msg, pos: 4, bad: -1}
	h.LegacyVersion = uint16(c.number(2))
	c.bytes(32) // random
	c.vector(1) // legacy_session_id
	if suites := c.vector(2); len(suites.rest())%2 != 0 {
		return h, fault{"cipher_suites: odd length", suites.pos}
	}
	c.vector(1) // legacy_compression_methods
	if c.bad >= 0 {
		return h, fault{"ClientHello: field beyond the end of the message", c.bad}
	}
	if c.empty() {
		return h, fault{} // as clients before extensions were invented
	}
	extensions := c.vector(2)
	if c.bad >= 0 {
		return h, fault{"extensions: beyond the end of the message", c.bad}
	}
	if !c.empty() {
		return h, fault{"extensions: the message goes on behind them", c.pos}
	}
	return h, h.parseExtensions(extensions)
}

func (h *ClientHello) parseExtensions(c cursor) fault {
	var seen uint8
	for !c.empty() {
		start := c.pos
		kind := c.number(2)
		body := c.vector(2)
		if c.bad >= 0 {
			return fault{"extension: beyond the end of the extensions", c.bad}
		}
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
		// RFC 8446 section 4.2 forbids two of a type. Of those above, different
		// implementations would believe different ones.
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

// parseServerName skips names of other types than host_name, as crypto/tls does.
// OpenSSL and BoringSSL refuse them, so nobody reads another name.
func (h *ClientHello) parseServerName(c cursor) string {
	list := c.vector(2)
	if c.bad >= 0 {
		return "server_name: list beyond the end of the extension"
	}
	if !c.empty() {
		return "server_name: extension goes on behind its list"
	}
	if list.empty() {
		return "server_name: empty list"
	}
	var name []byte
	for !list.empty() {
		kind := list.number(1)
		entry := list.vector(2)
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
	list := c.vector(2)
	if c.bad >= 0 || !c.empty() || list.empty() {
		return "application_layer_protocol_negotiation: bad list length"
	}
	h.alpn = list.rest()
	for !list.empty() {
		if name := list.vector(1); name.empty() {
			h.alpn = nil
			return "application_layer_protocol_negotiation: bad name length"
		}
	}
	return ""
}

func (h *ClientHello) parseVersions(c cursor) string {
	list := c.vector(1)
	if c.bad >= 0 || !c.empty() || list.empty() || len(list.rest())%2 != 0 {
		return "supported_versions: bad list length"
	}
	h.versions = list.rest()
	return ""
}

func (h *ClientHello) parseKeyShares(c cursor) string {
	list := c.vector(2) // empty is allowed: the client asks for the group
	if c.bad >= 0 || !c.empty() {
		return "key_share: bad list length"
	}
	h.keyShares = list.rest()
	for !list.empty() {
		list.number(2) // group
		if key := list.vector(2); key.empty() {
			h.keyShares = nil
			return "key_share: bad key length"
		}
	}
	return ""
}

// parseECH looks at the type alone: 0 is the outer hello. What follows it is between
// the client and whoever holds the key.
func (h *ClientHello) parseECH(c cursor) string {
	h.ECH = !c.empty() && c.rest()[0] == 0
	return ""
}
