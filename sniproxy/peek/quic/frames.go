package quic

// These are the types of the frames that a client may send in Initial packets (RFC 9000 section
// 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameACK     = 0x02
	frameACKECN  = 0x03
	frameCrypto  = 0x06
	frameClose   = 0x1c
)

// frame is a frame that matters for reading a hello: a CRYPTO frame, or the end of the connection.
type frame struct {
	closed bool   // a CONNECTION_CLOSE frame
	code   uint64 // the error code of a CONNECTION_CLOSE frame
	offset uint64 // the offset of data in the stream of CRYPTO frames
	data   []byte // shares the memory of the payload
}

// nextFrame reads frames until it has read a CRYPTO or CONNECTION_CLOSE frame. ok is false after
// the last frame. If a frame is malformed, or must not be in an Initial packet, the result "what"
// describes this error.
func nextFrame(c *cursor) (f frame, ok bool, what string) {
	for c.pos < len(c.b) {
		// RFC 9000 section 12.4 requires the shortest encoding of a type. All types of frames in
		// Initial packets are below 64, so a type has one byte.
		switch kind := c.byte(); kind {
		case framePadding, framePing:
		case frameACK, frameACKECN:
			if skipACK(c, kind == frameACKECN); c.short {
				return f, false, "ACK frame: beyond the end of the packet"
			}
		case frameCrypto:
			f.offset = c.varint()
			f.data = c.take(c.length())
			if c.short {
				return f, false, "CRYPTO frame: beyond the end of the packet"
			}
			return f, true, ""
		case frameClose:
			f.closed, f.code = true, c.varint()
			c.varint() // the type of the frame that caused the error
			c.take(c.length())
			if c.short {
				return f, false, "CONNECTION_CLOSE frame: beyond the end of the packet"
			}
			return f, true, ""
		default:
			return f, false, "frame: of a type that an Initial packet must not have"
		}
	}
	return f, false, ""
}

// skipACK skips the rest of an ACK frame (RFC 9000 section 19.3). The number of ranges needs no
// check: each range has at least two bytes, so the loop stops at the end of the packet at the
// latest.
func skipACK(c *cursor, ecn bool) {
	c.varint() // largest acknowledged
	c.varint() // delay
	ranges := c.varint()
	c.varint() // first range
	for ; ranges > 0 && !c.short; ranges-- {
		c.varint()
		c.varint()
	}
	if ecn {
		c.varint()
		c.varint()
		c.varint()
	}
}
