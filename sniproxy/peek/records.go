package peek

const (
	recordHandshake   = 22 // RFC 8446 section 5.1
	recordHeader      = 5
	maxRecord         = 1 << 14
	typeClientHello   = 1
	handshakeHeader   = 4
	clientHelloFields = handshakeHeader + 2 + 32 + 1 + 2 + 1 // with every vector empty
)

// helloScan finds the end of a ClientHello in a stream of records. It remembers the
// records that are complete, so that a stream that comes byte by byte, even in
// records of one byte, costs linear work in all.
type helloScan struct {
	off    int     // where the first record begins that is not complete yet
	got    int     // bytes of the message in the records before it
	header [4]byte // of the message, as far as got reaches
}

// scan fills h, if it is still empty, when the hello is complete.
func (s *helloScan) scan(h *ClientHello, b []byte, limit int) error {
	in := b[:min(len(b), limit)]
	err := s.records(h, in, limit)
	if isNeedMore(err) && len(b) >= limit {
		return tooLarge(limit, "ClientHello")
	}
	return err
}

func (s *helloScan) records(h *ClientHello, b []byte, limit int) error {
	if len(b) == 0 {
		return NeedMore(2)
	}
	if b[0] != recordHandshake {
		return h.parseSSLv2(b, limit)
	}
	if len(b) > 1 && b[1] != 3 {
		return &Error{Err: ErrNotTLS, What: "record version", Offset: 1}
	}
	for {
		msg, err := s.record(b, limit)
		if err != nil {
			return err
		}
		if msg == nil {
			continue
		}
		if wrong := h.parseBody(msg); wrong.what != "" {
			*h = ClientHello{}
			return malformed(wireOffset(b, wrong.at), wrong.what)
		}
		h.Len = s.off + recordHeader + len(msg) - s.got
		if h.ServerName == "" {
			return ErrNoName
		}
		return nil
	}
}

// record looks at the record at s.off. It gives the message if it ends there; nil
// without an error is to go on with the next.
func (s *helloScan) record(b []byte, limit int) ([]byte, error) {
	body := s.off + recordHeader
	if missing := body - len(b); missing > 0 {
		return nil, NeedMore(missing)
	}
	head := b[s.off:body]
	n := int(head[3])<<8 | int(head[4])
	switch {
	case head[0] != recordHandshake || head[1] != 3:
		// RFC 8446 section 5.1: nothing may come between the parts of a message.
		return nil, malformed(s.off, "record: not the rest of the ClientHello")
	case n == 0:
		return nil, malformed(s.off+3, "record: empty")
	case n > maxRecord:
		return nil, malformed(s.off+3, "record: longer than 16384 bytes")
	}
	part := b[body:min(body+n, len(b))]

	header := s.header
	if s.got < handshakeHeader {
		copy(header[s.got:], part)
	}
	have := s.got + len(part)
	if have > 0 && header[0] != typeClientHello {
		return nil, malformed(recordHeader, "handshake message: not a ClientHello")
	}
	size := clientHelloFields // of the message, at the least
	if have >= handshakeHeader {
		size = handshakeHeader + int(header[1])<<16 + int(header[2])<<8 + int(header[3])
		if size < clientHelloFields {
			return nil, malformed(recordHeader, "ClientHello: too short for its fields")
		}
	}

	// Where the message ends, at the least: what does not fit into this record
	// comes with further record headers.
	end := body + size - s.got
	if beyond := end - (body + n); beyond > 0 {
		end += (beyond + maxRecord - 1) / maxRecord * recordHeader
	}
	switch {
	case have >= handshakeHeader && end > limit:
		return nil, tooLarge(recordHeader+1, "ClientHello")
	case have >= size && s.got == 0:
		return b[body:end], nil
	case have >= size:
		return join(b[:end], size), nil
	case len(part) < n:
		return nil, NeedMore(end - len(b))
	}
	s.off, s.got, s.header = body+n, have, header
	return nil, nil
}

// join copies the message out of its records.
func join(b []byte, size int) []byte {
	msg := make([]byte, 0, size)
	for len(b) > recordHeader {
		n := min(recordHeader+int(b[3])<<8+int(b[4]), len(b))
		msg = append(msg, b[recordHeader:n]...)
		b = b[n:]
	}
	return msg
}

// wireOffset turns an offset in the message into one in the records.
func wireOffset(b []byte, at int) int {
	off := 0
	for off+recordHeader <= len(b) {
		n := int(b[off+3])<<8 | int(b[off+4])
		if at < n {
			return off + recordHeader + at
		}
		at -= n
		off += recordHeader + n
	}
	return len(b)
}

// sslv2Fields is how long the fields of fixed size are, with the length before them.
const sslv2Fields = 11

// detectSSLv2 recognises a CLIENT-HELLO in the record of SSL 2.0 with the header of
// two bytes (RFC 6101 appendix E.1), offering SSL 2.0 or anything later: old
// clients and scanners send it. RFC 6176 lets servers take it, most refuse.
func detectSSLv2(b []byte) (bool, error) {
	switch {
	case len(b) > 0 && b[0] < 0x80,
		len(b) > 2 && b[2] != typeClientHello,
		len(b) > 3 && b[3] != 0 && b[3] != 3,
		len(b) > 4 && b[3] == 0 && b[4] != 2:
		return false, nil
	case len(b) < 5:
		return false, NeedMore(5 - len(b))
	}
	return true, nil
}

// parseSSLv2 checks such a hello as far as it goes. It never has a name.
func (h *ClientHello) parseSSLv2(b []byte, limit int) error {
	known, err := detectSSLv2(b)
	if err != nil {
		return err
	}
	if !known {
		return &Error{Err: ErrNotTLS, What: "first bytes", Offset: 0}
	}
	end := 2 + (int(b[0]&0x7f)<<8 | int(b[1]))
	switch {
	case end < sslv2Fields:
		return malformed(0, "SSL 2.0 hello: too short for its fields")
	case end > limit:
		return tooLarge(0, "SSL 2.0 hello")
	case len(b) < end:
		return NeedMore(end - len(b))
	}
	c := cursor{b: b[:end], pos: 3, bad: -1}
	version, suites, session, challenge := c.uint16(), c.uint16(), c.uint16(), c.uint16()
	if suites%3 != 0 || challenge < 16 || challenge > 32 || sslv2Fields+suites+session+challenge != end {
		return malformed(5, "SSL 2.0 hello: lengths that do not add up")
	}
	*h = ClientHello{LegacyVersion: uint16(version), SSLv2: true, Len: end}
	return ErrNoName
}
